"""What the dock knows, as frozen values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.projects.schema import Kind, StrokeClass, first_classes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

Tone = Literal["plain", "good", "bad"]


@dataclass(frozen=True)
class Model:
    """A checkpoint and its `facts`, as `napari_unet.api.iter_inspect` tells them."""

    path: str
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """File name."""
        return Path(self.path).name


@dataclass(frozen=True)
class Image:
    """The chosen image layer; `shape` has the colours of an RGB image last."""

    name: str
    shape: tuple[int, ...]
    axes: str | None
    flat: bool = True
    """Whether the viewer shows planes, not volumes."""

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis name; empty while the axes are unknown."""
        return dict(zip(self.axes or "", self.shape, strict=False))

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Shape without the channel axis, which strokes have."""
        pairs = zip(self.axes or "", self.shape, strict=False)
        return tuple(size for axis, size in pairs if axis != "C")


@dataclass(frozen=True)
class Strokes:
    """The chosen stroke layer and the number of painted pixels by id."""

    name: str
    fits: bool
    counts: Mapping[int, int] = field(default_factory=dict)
    counted: bool = True
    """Whether all that was touched is counted."""
    dtype: str = "uint8"


@dataclass(frozen=True)
class PictureRow:
    """An image of the project; `trouble` says if it is missing or has changed."""

    id: str
    name: str
    boxes: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class ProjectFacts:
    """The project that strokes go to; `unsaved` if nobody made it."""

    name: str
    folder: str
    unsaved: bool
    pictures: tuple[PictureRow, ...] = ()


@dataclass(frozen=True)
class Offer:
    """Strokes of an earlier session on an image: their pixels, and when (seconds)."""

    folder: str
    image: str
    painted: int
    saved: float


@dataclass(frozen=True)
class Activity:
    """What runs now; `fraction` is None while unknown."""

    kind: Literal[
        "inspect", "preview", "predict", "train", "batch", "export", "measure"
    ]
    title: str
    fraction: float | None = None
    note: str = ""
    stopping: bool = False


@dataclass(frozen=True)
class Round:
    """A training round: its checkpoint, what was used before, and both scores."""

    path: str
    parent: Model | None
    before: float | None
    after: float | None
    previous: Round | None = None
    note: str = ""
    worse: tuple[str, ...] = ()
    """What speaks against it, see `napari_unet.training.guard`."""

    @property
    def name(self) -> str:
        """What it is called, such as ``"Round 2"``."""
        number = re.search(r"-round-(\d+)$", Path(self.path).stem)
        return f"Round {number[1]}" if number else "The round"

    @property
    def is_worse(self) -> bool:
        """Whether it scores lower than before, or on what judged earlier rounds."""
        if self.worse:
            return True
        known = self.before is not None and self.after is not None
        return known and self.after < self.before  # type: ignore[operator]


@dataclass(frozen=True)
class Card:
    """A plan in a line, or why there is none, and all of it by name.

    `seconds` and `output_bytes` are what it takes, 0 while unknown.
    """

    summary: str
    lines: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    output_bytes: int = 0


@dataclass(frozen=True)
class Look:
    """How results are shown: a kind of `PredictConfig` or ``"doubt"``."""

    kind: str = "labels"
    threshold: float = 0.5
    split: bool = False
    """Whether touching objects are parted, for instances."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The measured objects of a result.

    Attributes
    ----------
    image, layer : str
        Names of the image and of the layer that was measured.
    path : pathlib.Path
        The table as CSV.
    names : tuple of str
        Its columns.
    columns : tuple of numpy.ndarray
        Numbers, or text such as units.
    """

    image: str
    layer: str
    path: Path
    names: tuple[str, ...]
    columns: tuple[np.ndarray, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def column(self, name: str) -> np.ndarray:
        """Values of a column."""
        return self.columns[self.names.index(name)]


@dataclass(frozen=True)
class BatchFile:
    """One row of the batch table."""

    path: str
    status: str = "waiting"
    note: str = ""
    output: str = ""


@dataclass(frozen=True)
class State:
    """Everything the dock knows."""

    model: Model | None = None
    images: tuple[str, ...] = ()
    image: Image | None = None
    channels: tuple[int, ...] | None = None
    stroke_layers: tuple[str, ...] = ()
    strokes: Strokes | None = None
    classes: tuple[StrokeClass, ...] = field(default_factory=first_classes)
    painting: int = 1
    kind: Kind = "auto"
    """Whether stroke ids are classes or objects."""
    guess: tuple[Kind, str] = ("classes", "")
    """What they look like, and why."""
    project: ProjectFacts | None = None
    offer: Offer | None = None
    results: bool = False
    """Whether a prediction of the image is shown."""
    points: bool = False
    """Whether there is a points layer."""
    from_scratch: bool = False
    settings: Mapping[str, Any] | None = None
    """Of the Predict page; None while a text there is no number."""
    plan: Card | None = None
    look: Look = field(default_factory=Look)
    measured: Measured | None = None
    tally: str = ""
    """Objects and foreground of the newest result."""
    live: bool = False
    """Whether the view is predicted again whenever it changes."""
    activity: Activity | None = None
    aside: Activity | None = None
    """A preview that a person waits for."""
    message: str = ""
    tone: Tone = "plain"
    round: Round | None = None
    declined: Round | None = None
    """The last round, where it scored lower and is not used."""
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    files: tuple[BatchFile, ...] = ()
    listing: bool = False
    """Whether files are being looked for."""
    output: str = ""
