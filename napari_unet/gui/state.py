"""What the dock knows, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.projects.schema import Kind, StrokeClass, first_classes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from napari_unet.gui.learning import Begun, Outlook, Round, Suspect

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
        "inspect", "preview", "predict", "train", "batch", "export", "measure",
        "doubt", "audit", "patches",
    ]  # fmt: skip
    title: str
    fraction: float | None = None
    note: str = ""
    stopping: bool = False
    paused: bool = False

    @property
    def learns(self) -> bool:
        """Whether it is a training that takes steps."""
        return self.kind == "train" and self.note.startswith("step")


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
    probabilities: str = ""


@dataclass(frozen=True)
class State:
    """Everything the dock knows."""

    model: Model | None = None
    base: Model | None = None
    """The model that was opened, which rounds start from."""
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
    learning: Mapping[str, Any] | None = None
    """Settings of the Train page; None while a text there is no number."""
    outlook: Outlook | None = None
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
    rounds: tuple[Round, ...] = ()
    """Those of the base, or of new networks, on the image."""
    past: tuple[Model | None, ...] = ()
    """Models used before this one, the last one last."""
    future: tuple[Model | None, ...] = ()
    """Models that were undone, the next one first."""
    suspects: tuple[Suspect, ...] = ()
    doubt: bool = False
    """Whether the map of doubt is shown."""
    patches: tuple[Any, Any] | None = field(default=None, compare=False)
    """Augmented patches and their targets."""
    patches_made: int = 0
    """How often patches were made; arrays cannot be compared."""
    cut_short: Begun | None = None
    """The last round on the image that can go on."""
    declined: Round | None = None
    """The last round, where it scored lower and is not used."""
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    files: tuple[BatchFile, ...] = ()
    listing: bool = False
    """Whether files are being looked for."""
    output: str = ""
    paused: bool = False
    """Whether a batch was stopped to go on later."""
    estimate: str = ""
    """What a batch would take."""

    @property
    def start(self) -> Model | None:
        """What the next round starts from, None for a new network."""
        return None if self.from_scratch else self.base

    @property
    def round(self) -> Round | None:
        """The round that is used, None for a model that was opened."""
        path = self.model.path if self.model else ""
        return next((made for made in self.rounds if made.path == path), None)

    @property
    def before(self) -> Model | None:
        """The model before the one in use, to compare with; None without one."""
        return self.past[-1] if self.past else None
