"""Previews of what the canvas shows, on a click or live; the newest wins.

They go ahead of a prediction that runs, and wait for every other job.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import PredictConfig
from napari_unet.errors import UNetError
from napari_unet.events import Cancelled, Event, Finished, Progress, Started, Warned
from napari_unet.execution.protocol import Failed, is_last
from napari_unet.gui import buttons
from napari_unet.gui.session import closing_words
from napari_unet.gui.state import Activity
from napari_unet.gui.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_unet.gui.layers import Layers
    from napari_unet.gui.looks import Looks
    from napari_unet.gui.results import Results
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Pixels, Staging
    from napari_unet.gui.state import Model


@dataclass(eq=False)
class _Preview:
    """One preview that was asked for."""

    image: str
    wish: tuple[Any, ...]
    model: Model
    config: PredictConfig
    output: Path
    keep: Path | None
    quiet: bool
    region: dict[str, slice] = field(default_factory=dict)
    warning: str = ""
    began: float = field(default_factory=time.monotonic)
    task: Task | None = None

    @property
    def is_prepared(self) -> bool:
        """Whether the pixels are in their file, and the region is settled."""
        return bool(self.region)

    def remove_files(self) -> None:
        """Remove what was written for it, finished or not."""
        shutil.rmtree(self.output.parent, ignore_errors=True)
        if self.keep is not None:
            self.keep.unlink(missing_ok=True)


class Previews:
    """Predicts the part of the chosen image that the canvas shows.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the image is.
    results : Results
        Shows what comes out.
    looks : Looks
        Shows it in other ways.
    staging : Staging
        Takes the pixels there and back.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        results: Results,
        looks: Looks,
        staging: Staging,
    ) -> None:
        self._session = session
        self._layers = layers
        self._results = results
        self._looks = looks
        self._staging = staging
        self._newest: _Preview | None = None
        self._seen: object = None
        self._config: PredictConfig | None = None

    def ask(self, settings: Mapping[str, Any]) -> None:
        """Predict the view because a person asked for it."""
        state = self._session.state
        waits = state.activity is not None and state.activity.kind != "predict"
        if waits and self._session.is_busy():
            return
        self._session.attempt(lambda: self._ask(settings, quiet=False))

    def set_live(self, live: bool) -> None:
        """Choose whether the view is predicted again whenever it changes."""
        self._seen = None
        self._session.update(live=live)
        if live:
            self.catch_up()
        elif self._newest is not None and self._newest.quiet:
            self._cancel(self._newest)

    def close(self) -> None:
        """Forget what was asked for; nothing more comes of it."""
        self._newest, self._seen = None, None

    def catch_up(self) -> None:
        """Predict the view if it is live and is not the one predicted last."""
        state = self._session.state
        if not state.live or state.settings is None:
            return
        if not buttons.preview(state).enabled:
            return
        try:
            self._ask(state.settings, quiet=True)
        except UNetError as error:
            self._session.say(str(error), "bad")

    def _ask(self, settings: Mapping[str, Any], *, quiet: bool) -> None:
        """Ask for the view, unless that is being prepared or, if quiet, known."""
        state, newest = self._session.state, self._newest
        if state.image is None or state.model is None:
            return
        image = state.image.name
        config = PredictConfig.build(**settings, channels=state.channels)
        pixels = self._layers.pixels(image)
        wish = (image, state.model, _run_of(config), id(pixels.data))
        if quiet:
            seen = (wish, self._layers.visible_region(image))
            if seen == self._seen and self._shows(config):
                return
            self._seen, self._config = seen, config
        if not quiet:
            self._session.update(aside=Activity("preview", "Predicting the view"))
        is_same = newest is not None and (newest.wish, newest.config) == (wish, config)
        if newest is not None and is_same and not newest.is_prepared:
            newest.quiet = newest.quiet and quiet
        else:
            if newest is not None and newest.wish[-1] != id(pixels.data):
                self._cancel(newest)
            output = self._staging.new_place()
            keep = self._staging.new_file()
            preview = _Preview(image, wish, state.model, config, output, keep, quiet)
            self._newest = preview
            self._start(preview, pixels)

    def _cancel(self, preview: _Preview) -> None:
        """Give up a preview, and the copying of its pixels."""
        if preview.task is not None:
            self._session.tasks.cancel(preview.task)

    def _shows(self, config: PredictConfig) -> bool:
        """Whether the last preview shows this kind and threshold or can."""
        return config == self._config or self._looks.has("preview", config)

    def _start(self, preview: _Preview, pixels: Pixels) -> None:
        """Prepare the pixels and then send what the canvas shows by then."""

        def prepare(token: Any, progress: Any) -> dict[str, Any]:
            return {
                "image": self._staging.source(pixels, token, progress),
                "model": preview.model.path,
                "output": str(preview.output),
                "config": preview.config,
                "keep": str(preview.keep),
            }

        def late() -> dict[str, Any]:
            preview.region = self._layers.visible_region(preview.image)
            if preview.quiet:
                self._seen = (preview.wish, preview.region)
                self._config = preview.config
            return {"region": preview.region}

        preview.task = Task(
            "napari_unet.api:iter_shown",
            prepare,
            lambda event: self._take(preview, event),
            turn="first",
            late=late,
        )
        self._session.tasks.start(preview.task)

    def _take(self, preview: _Preview, event: Event) -> None:
        """Bring an event of a preview to where it is shown."""
        if preview is not self._newest:
            if is_last(event):
                self._tidy(preview)
            return
        if is_last(event):
            self._newest = None
            self._session.update(aside=None)
            self._end(preview, event)
            self._tidy(preview)
        elif isinstance(event, Warned):
            preview.warning = event.message
        elif isinstance(event, Started):
            self._note("")
        elif isinstance(event, Progress):
            self._note(f"{event.note} {event.done / event.total:.0%}".strip())

    def _tidy(self, preview: _Preview) -> None:
        """Remove the files of a preview, which the viewer need not wait for."""
        self._session.tasks.aside(preview.remove_files, lambda _: None)

    def _note(self, note: str) -> None:
        """Say how far a preview is, if a person waits for it."""
        if (aside := self._session.state.aside) is not None:
            self._session.update(aside=replace(aside, note=note))

    def _end(self, preview: _Preview, event: Event) -> None:
        """Show the result, or say why there is none; live ones only say errors."""
        if isinstance(event, Finished):
            self._show(preview)
        elif isinstance(event, Cancelled) and not preview.quiet:
            self._session.say("Stopped.")
        elif isinstance(event, Cancelled) and not _is_given_up(preview):
            self._seen = None  # another request went ahead of it in its place
            self.catch_up()
        elif isinstance(event, Failed) and preview.quiet:
            self._session.say(str(event.error), "bad")
        elif isinstance(event, Failed):
            self._session.fail(event.error)

    def _show(self, preview: _Preview) -> None:
        """Show a result from memory."""
        result = np.load(preview.output)
        start = {axis: part.start for axis, part in preview.region.items()}
        try:
            self._results.add(
                preview.image, "preview", result, preview.config.kind, start
            )
        except UNetError as error:
            self._session.say(f"{error.what}; the result was dropped.")
            return
        if preview.keep is not None and self._looks.keep(
            *(preview.image, "preview", preview.keep, preview.model, preview.config),
            start,
        ):
            preview.keep = None
        if not preview.quiet:
            text = closing_words("Previewed the view", preview.began, preview.warning)
            self._session.say(text, "good")


def _run_of(config: PredictConfig) -> PredictConfig:
    """Take out what kept probabilities can show without another run."""
    return config.model_copy(update={"kind": "labels", "threshold": 0.5})


def _is_given_up(preview: _Preview) -> bool:
    """Whether it was cancelled from here."""
    return preview.task is None or preview.task.token.is_set()
