"""What a user can do in the dock, without Qt: every button is one method here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.errors import UsageError
from napari_unet.gui.batching import Batching
from napari_unet.gui.curves import Curves
from napari_unet.gui.rounds import round_from, round_path
from napari_unet.gui.session import Session
from napari_unet.gui.staging import Staging
from napari_unet.gui.state import Model
from napari_unet.gui.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.events import CancelToken
    from napari_unet.execution.protocol import Runner
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.session import Notify
    from napari_unet.gui.staging import Pixels

_API = "napari_unet.api"


class Controller:
    """The dock's actions.

    Parameters
    ----------
    layers : Layers
        The viewer's layers.
    runner : Runner
        Where jobs compute.
    folder : pathlib.Path
        Private folder for pixels on their way; removed by `close`.
    rounds : pathlib.Path
        Where new checkpoints are kept.
    post : callable
        Calls a function on the main thread, soon.
    background : callable
        Calls a function on another thread.
    notify : callable
        Shows a message outside the dock: (``"error"`` or ``"info"``, text).
    """

    def __init__(
        self,
        layers: Layers,
        runner: Runner,
        folder: Path,
        rounds: Path,
        *,
        post: Callable[[Callable[[], None]], None],
        background: Callable[[Callable[[], None]], None],
        notify: Notify,
    ) -> None:
        self.session = Session(Tasks(runner, post, background), notify)
        self.batch = Batching(self.session)
        self._layers = layers
        self._folder = folder
        self._rounds = rounds
        self._staging = Staging(folder)
        layers.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Look at the viewer's layers again."""
        state = self.session.state
        images, strokes = self._layers.images(), self._layers.stroke_layers()
        image = state.image.name if state.image else ""
        if image not in images:
            image = self._layers.active_image() or (images[0] if images else "")
        self.session.update(
            images=images,
            image=self._layers.image(image) if image else None,
            stroke_layers=strokes,
        )
        chosen = state.strokes.name if state.strokes else ""
        if chosen not in strokes:
            own = [name for name in strokes if name.startswith(f"{image} · ")]
            chosen = own[0] if own else (strokes[0] if strokes else "")
        self._look_at_strokes(chosen)

    def choose_image(self, name: str) -> None:
        """Work on another image; its own strokes are chosen with it."""
        state = self.session.state
        if state.image is not None and state.image.name == name:
            return
        self.session.update(image=self._layers.image(name), strokes=None)
        self.session.update(channels=None)
        self.refresh()

    def set_axes(self, axes: str) -> None:
        """Take the axes of the image from the user."""
        image = self.session.state.image
        if image is None:
            return
        if self.session.attempt(lambda: self._layers.set_axes(image.name, axes)):
            self.session.say("")
            self.refresh()

    def set_channels(self, channels: tuple[int, ...] | None) -> None:
        """Choose the channels that feed the network."""
        self.session.update(channels=channels)

    def open_model(self, path: str) -> None:
        """Look at a checkpoint and use it."""
        if self._is_busy():
            return

        def opened() -> str:
            self.session.update(round=None, curves={})
            return f"Opened {Path(path).name}"

        self._inspect(path, opened)

    def forget_model(self) -> None:
        """Work without a model."""
        self.session.update(model=None, round=None, message="")

    def preview(self, settings: Mapping[str, Any]) -> None:
        """Predict what the canvas shows."""
        self.session.attempt(lambda: self._predict(settings, "preview"))

    def predict(self, settings: Mapping[str, Any]) -> None:
        """Predict the whole image."""
        self.session.attempt(lambda: self._predict(settings, "prediction"))

    def new_strokes(self) -> None:
        """Add a stroke layer to the image, or go on with the one it has."""
        image = self.session.state.image
        if image is None or image.axes is None:
            return
        name = f"{image.name} · strokes"
        if name in self._layers.stroke_layers():
            self._layers.paint(name, self.session.state.painting)
        else:
            name = self._layers.new_strokes(image.name)
        self.choose_strokes(name)
        self.session.say(
            "Paint some background, then click object and paint some of those."
        )

    def choose_strokes(self, name: str) -> None:
        """Learn from another stroke layer."""
        self._look_at_strokes(name)

    def paint(self, number: int) -> None:
        """Paint a class."""
        strokes = self.session.state.strokes
        if strokes is not None:
            self._layers.paint(strokes.name, number)
        self.session.update(painting=number)

    def add_class(self) -> None:
        """Offer one more class."""
        number = self.session.state.classes + 1
        self.session.update(classes=number)
        self.paint(number)

    def recount(self) -> None:
        """Count the strokes of the plane in view again."""
        strokes = self.session.state.strokes
        if strokes is not None:
            self._look_at_strokes(strokes.name, everywhere=False)

    def set_from_scratch(self, scratch: bool) -> None:
        """Choose whether training makes a new network."""
        self.session.update(from_scratch=scratch)

    def train(self, settings: Mapping[str, Any]) -> None:
        """Learn from the strokes as they are now."""
        self.session.attempt(lambda: self._train(settings))

    def undo_round(self) -> None:
        """Go back to the model before the last round; its file stays."""
        last = self.session.state.round
        if last is None or self._is_busy():
            return
        self.session.update(model=last.parent, round=last.previous, curves={})
        name = last.parent.name if last.parent else "no model"
        self.session.say(
            f"Back to {name}. The round is kept as {Path(last.path).name}."
        )

    def run_batch(self, settings: Mapping[str, Any]) -> None:
        """Do the chosen files."""
        self.session.attempt(lambda: self.batch.run(settings))

    def stop(self) -> None:
        """Stop what runs."""
        self.session.stop()

    def close(self) -> None:
        """Stop what runs, end the computing process and remove private files."""
        self.session.tasks.close()
        self.session.update(activity=None)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._staging = Staging(self._folder)

    def _is_busy(self) -> bool:
        """Say so if a task runs."""
        if self.session.tasks.busy:
            self.session.attempt(_refuse_second)
        return self.session.tasks.busy

    def _inspect(self, path: str, then: Callable[[], str]) -> None:
        """Read the facts of a checkpoint and use it."""

        def finish(facts: dict[str, Any]) -> str:
            self.session.update(model=Model(path, facts))
            return then()

        self.session.begin(
            "inspect",
            f"Opening {Path(path).name}",
            f"{_API}:iter_inspect",
            lambda _token, _progress: {"model": path},
            finish,
        )

    def _look_at_strokes(self, name: str, everywhere: bool = True) -> None:
        """Count the strokes of a layer."""
        image = self.session.state.image
        if not name or image is None:
            self.session.update(strokes=None)
            return
        self._layers.dress(name)
        facts = self._layers.strokes(name, image.name, everywhere=everywhere)
        self.session.update(strokes=facts)

    def _predict(self, settings: Mapping[str, Any], suffix: str) -> None:
        """Start a prediction of the view or of everything."""
        state = self.session.state
        if self._is_busy() or state.image is None or state.model is None:
            return
        image, model = state.image.name, state.model.path
        config = PredictConfig.build(**settings, channels=state.channels)
        pixels = self._layers.pixels(image)
        preview = suffix == "preview"
        region = self._layers.visible_region(image) if preview else None
        output = self._new_file()

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                "image": self._source(pixels, token, progress),
                "model": model,
                "output": str(output),
                "config": config,
                "region": region,
            }

        def finish(_: Any) -> str:
            start = {axis: part.start for axis, part in (region or {}).items()}
            result = np.load(output, mmap_mode=None if preview else "r")
            self._layers.add_result(image, suffix, result, config.kind, start)
            if not preview:
                self._layers.remove_result(image, "preview")
            return "Previewed the view" if preview else f"Predicted {image}"

        title = "Predicting the view" if preview else f"Predicting {image}"
        kind = "preview" if preview else "predict"
        self.session.begin(kind, title, f"{_API}:iter_predict", prepare, finish)

    def _train(self, settings: Mapping[str, Any]) -> None:
        """Start a training round on a copy of the strokes."""
        state = self.session.state
        if self._is_busy() or state.image is None or state.strokes is None:
            return
        config = FinetuneConfig.build(**settings, channels=state.channels)
        parent = state.model
        base = None if state.from_scratch else parent
        pixels = self._layers.pixels(state.image.name)
        strokes = self._layers.stroke_pixels(state.strokes.name, state.image.name)
        output = round_path(self._rounds, base.path if base else "", state.image.name)

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                "images": [self._source(pixels, token, progress)],
                "strokes": [self._source(strokes, token, progress)],
                "model": base.path if base else None,
                "output": str(output),
                "config": config,
            }

        def finish(result: dict[str, Any]) -> str:
            new = round_from(result, parent, state.round)
            self.session.update(round=new, from_scratch=False)
            self._inspect(new.path, lambda: "")
            ended = "Stopped early and kept" if result["stopped"] else "Trained"
            return f"{ended} {Path(new.path).name}; predict again to see it"

        curves = Curves(self.session)
        title = "Training a new U-Net" if base is None else "Fine-tuning"
        self.session.begin(
            "train", title, f"{_API}:iter_finetune", prepare, finish, curves
        )

    def _new_file(self) -> Path:
        """Name a private file, making the folder again after it was removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._staging.new_file()

    def _source(
        self, pixels: Pixels, token: CancelToken, progress: Callable[[float], None]
    ) -> Any:
        """Put pixels into a file and say what they mean."""
        from napari_unet.images.readers import ImageSource

        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._staging.path_of(pixels.data, token, progress)
        return ImageSource(
            str(path),
            axes=pixels.axes,
            scale=pixels.scale,
            units=pixels.units,
            name=pixels.name,
        )


def _refuse_second() -> None:
    """Refuse a second job."""
    raise UsageError("Another job runs", hint="Wait for it, or press Stop.")
