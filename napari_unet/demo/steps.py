"""The steps of the demo, one after the other, on the sample data."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet import api
from napari_unet.config import BatchConfig, FinetuneConfig, PredictConfig
from napari_unet.demo import pictures
from napari_unet.errors import UsageError
from napari_unet.events import Cancelled, Event, Finished, Stopped
from napari_unet.files import commit, write_json
from napari_unet.images.stack import ImageStack
from napari_unet.inference.seams import seam
from napari_unet.samples import sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.events import CancelToken

_TILE = 192  # small, so that a frame of the sample stack has four tiles


@dataclass(frozen=True, slots=True)
class Said(Event):
    """A line for the person who watches."""

    text: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo found.

    Attributes
    ----------
    folder : str
        Where everything lies.
    before, after : dict
        Scores on the frames without strokes: ``dice`` of the nuclei's pixels, ``f1`` of
        the nuclei at an IoU of 0.5, ``mean_ap`` over IoU 0.50 to 0.95.
    seam : float
        Largest difference of a probability between tiles and one large window.
    batch : dict
        Numbers of images done and failed.
    seconds : float
        How long it took.
    """

    folder: str
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    seam: float = 0.0
    batch: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def run(
    output: str | Path | None = None,
    seconds: float = 45.0,
    *,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Do the main job on the sample data and write everything to a folder.

    Parameters
    ----------
    output : path-like, optional
        A new folder; ``demo_output``, numbered if there is one, when not given.
    seconds : float
        Time for fine-tuning.
    cancel : CancelToken, optional
        Checked between pieces of work.

    Yields
    ------
    Event
        `Said` for each step and the events of the steps; last `Finished` with a
        `DemoResult`.

    Raises
    ------
    UsageError
        If `output` holds something.
    Stopped
        If it was cancelled.
    """
    config = FinetuneConfig.build(max_seconds=seconds)
    demo = _Demo(_new_folder(output), config, cancel)
    begin = time.monotonic()
    yield from demo.look()
    yield from demo.predict("before", demo.base)
    yield from demo.seam()
    yield from demo.finetune()
    yield from demo.predict("after", demo.tuned)
    yield from demo.score()
    yield from demo.batch()
    yield from demo.draw()
    demo.facts["seconds"] = round(time.monotonic() - begin, 1)
    result = DemoResult(str(demo.folder), **demo.facts)
    yield Said(f"Done in {result.seconds:.0f} s. Everything is in {demo.folder}.")
    yield Finished(result)


class _Demo:
    """The demo under way."""

    def __init__(
        self, folder: Path, config: FinetuneConfig, cancel: CancelToken | None
    ) -> None:
        self.folder = folder
        self.base = sample("nuclei.safetensors")
        self.tuned = folder / "tuned.safetensors"
        self.facts: dict[str, Any] = {}
        self._config = config
        self._cancel = cancel
        self._result: Any = None
        self._image = self._copy("timelapse.ome.tif", "image.ome.tif")
        self._strokes = self._copy("timelapse_strokes.ome.tif", "strokes.ome.tif")

    def look(self) -> Iterator[Event]:
        """Open the stack and the checkpoint, and say what they are."""
        with api.open_image(self._image) as stack:
            sizes = ", ".join(f"{axis} {size}" for axis, size in stack.sizes.items())
            yield Said(f"1. The image: {sizes}, {stack.dtype}.")
        spec = api.load_model(self.base).spec
        yield Said(f"2. The checkpoint: {spec.name}, {spec.ndim}D, {spec.task}.")

    def predict(self, name: str, model: Path) -> Iterator[Event]:
        """Run a model over the stack in tiles."""
        number = {"before": 3, "after": 6}[name]
        yield Said(f"{number}. Nuclei in tiles of {_TILE} pixels, {name} fine-tuning.")
        path, config = self.folder / f"{name}.ome.tif", _in_tiles()
        yield from self._follow(
            api.iter_predict(self._image, model, path, config, cancel=self._cancel)
        )

    def seam(self) -> Iterator[Event]:
        """Measure how much the tiles change the result where they meet."""
        with api.open_image(self._image) as stack:
            found = seam(stack, api.load_model(self.base), _in_tiles())
        self.facts["seam"] = found.maximum
        yield Said(
            "4. The seam: where tiles meet, probabilities differ from one large window "
            f"by {found.maximum:.1e} at most (compared at {_count(found.places)})."
        )

    def finetune(self) -> Iterator[Event]:
        """Learn from the strokes."""
        seconds = self._config.max_seconds
        yield Said(f"5. Fine-tuning from brush strokes, {seconds:.0f} s at most.")
        yield from self._follow(
            api.iter_finetune(
                [self._image], [self._strokes], self.base, self.tuned, self._config,
                cancel=self._cancel,
            )
        )  # fmt: skip

    def score(self) -> Iterator[Event]:
        """Score both results on the frames that carry no strokes."""
        truth = _frames(sample("timelapse_truth.ome.tif"))
        unseen = ~_frames(self._strokes).any(axis=(1, 2))
        for name in ("before", "after"):
            labels = _frames(self.folder / f"{name}.ome.tif")
            self.facts[name] = _scores(labels[unseen], truth[unseen])
        write_json(self.folder / "scores.json", self.facts)
        yield Said(f"7. Scores on the {unseen.sum()} frames without strokes:")
        for measure, meaning in _MEASURES.items():
            old, new = (self.facts[name][measure] for name in ("before", "after"))
            yield Said(f"   {meaning}: {old:.3f} before, {new:.3f} after")

    def batch(self) -> Iterator[Event]:
        """Do a folder of images with the new model."""
        yield Said("8. A folder of images with the fine-tuned model.")
        config = BatchConfig.build(kind="instances", pattern="*.tif")
        inputs, output = [sample("batch")], self.folder / "batch"
        yield from self._follow(
            api.iter_batch(inputs, self.tuned, output, config, cancel=self._cancel)
        )
        counts = {name: self._result.count(name) for name in ("done", "failed")}
        self.facts["batch"] = counts
        yield Said(f"   {self._result}")

    def draw(self) -> Iterator[Event]:
        """Write PNG pictures of a stroked frame and of one without strokes."""
        folder = self.folder / "pictures"
        image, strokes = _frames(self._image), _frames(self._strokes)
        results = [_frames(self.folder / f"{n}.ome.tif") for n in ("before", "after")]
        stroked = strokes.any(axis=(1, 2))
        for name, frame in (
            ("stroked", stroked.argmax()),
            ("unseen", stroked.argmin()),
        ):
            plane = image[frame]
            row = {
                "image": pictures.grey(plane),
                "strokes": pictures.painted(plane, strokes[frame]),
                "before": pictures.outlined(plane, results[0][frame]),
                "after": pictures.outlined(plane, results[1][frame]),
            }
            for part, picture in row.items():
                pictures.save(folder / f"{name}_{part}.png", picture)
            whole = pictures.side_by_side(list(row.values()))
            pictures.save(folder / f"{name}_all.png", whole)
        yield Said(f"9. Pictures in {folder}: image, strokes, before, after.")

    def _follow(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass on the events of a step and keep its result."""
        for event in events:
            if isinstance(event, Cancelled):
                raise Stopped(event.note)
            if isinstance(event, Finished):
                self._result = event.result
            else:
                yield event

    def _copy(self, source: str, name: str) -> Path:
        """Put a sample file among the results."""
        target = self.folder / name
        with commit(target) as part:
            shutil.copyfile(sample(source), part)
        return target


_MEASURES = {
    "dice": "Dice of the pixels",
    "f1": "F1 of the nuclei at IoU 0.5",
    "mean_ap": "mean AP over IoU 0.5 to 0.95",
}


def _count(places: int) -> str:
    """Say how many places."""
    return "1 place" if places == 1 else f"{places} places"


def _in_tiles() -> PredictConfig:
    """Make the settings of both predictions."""
    return PredictConfig.build(kind="instances", tile=(_TILE,))


def _scores(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Score pixels and objects of frames (T, Y, X)."""
    pixels = api.evaluate((labels > 0).astype(np.uint8), (truth > 0).astype(np.uint8))
    found, wanted = (ImageStack(frames, "TYX") for frames in (labels, truth))
    objects = api.evaluate(found, wanted, "instances")
    both = {"dice": pixels["dice"], "f1": objects["f1"], "mean_ap": objects["mean_ap"]}
    return {name: round(value, 4) for name, value in both.items()}


def _frames(path: Path) -> np.ndarray:
    """Read a stack as frames (T, Y, X)."""
    with api.open_image(path) as stack:
        return stack.read({}, "TYX")


def _new_folder(output: str | Path | None) -> Path:
    """Make the output folder."""
    if output is not None:
        folder = Path(output)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"{folder} is there already", hint="Name a new or an empty folder."
            )
        return folder
    folder, number = Path("demo_output"), 1
    while folder.exists():
        number += 1
        folder = Path(f"demo_output_{number}")
    return folder
