"""What ``project.json`` holds: plain frozen values, checked when they are read.

A project may come by mail, so nothing in it is trusted: sizes, names and numbers have
limits, and the names of its files follow from ids that are checked.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from napari_unet.config import Config
from napari_unet.errors import ProjectError
from napari_unet.images.palette import colour

FORMAT, VERSION = "unet-napari project", 1
MOST_BYTES = 16 << 20
"""Size above which a ``project.json`` is not read."""
_MOST_PIXELS = 1 << 46

Dtype = Literal["uint8", "uint16", "uint32"]
Kind = Literal["auto", "classes", "instances"]
Name = Annotated[str, Field(max_length=200)]
Axes = Annotated[str, Field(pattern=r"^[A-Z]{2,8}$")]
Size = Annotated[int, Field(ge=1, le=1 << 40)]
Mark = Annotated[str, Field(pattern=r"^[a-z0-9]+:[0-9a-f]{64}$")]


class _Entry(Config):
    """Base: numbers are numbers, no text or float is taken for one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class StrokeClass(_Entry):
    """A class that can be painted.

    Attributes
    ----------
    number : int
        Its id in the strokes, from 1, which is background.
    name, colour : str
        As shown; an empty name is the model's own, the colour is ``#rrggbb``.
    hidden : bool
        Whether its strokes are not shown.
    """

    number: int = Field(ge=1, le=65535)
    name: Name
    colour: str = Field(pattern=r"^#[0-9a-f]{6}$")
    hidden: bool = False


class Region(_Entry):
    """A complete box: pixels by axis, first and the one past the last.

    Attributes
    ----------
    bounds : dict
        An axis not named is whole.
    unpainted : int
        Class of what is not painted in it.
    """

    bounds: dict[str, tuple[int, int]] = Field(default_factory=dict)
    unpainted: int = Field(1, ge=1, le=65535)

    @field_validator("bounds", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return {a: tuple(b) for a, b in value.items()} if _is_bounds(value) else value


class Picture(_Entry):
    """An image of a project and its strokes.

    Attributes
    ----------
    id : str
        Names its strokes, ``strokes/<id>.npy``.
    name : str
        As shown.
    path : str or None
        File or folder, see `napari_unet.projects.places`; None for an image that was
        never in a file.
    series : str or None
        Of a file that holds several.
    axes, shape
        Of the image, with its channels.
    pixels, file : str
        What is in it, see `napari_unet.projects.marks`; `file` None without a path.
    scale, units : dict
        Physical size of a pixel by axis.
    rgb : bool
        Whether the channels are colours.
    dtype : str
        Type of the stroke ids.
    boxes : tuple of Region
        Complete boxes.
    """

    id: str = Field(pattern=r"^[0-9a-z]{1,32}$")
    name: Name
    path: str | None = Field(None, max_length=4096, pattern=r"^[^\x00]+$")
    series: Name | None = None
    axes: Axes
    shape: tuple[Size, ...]
    pixels: Mark
    file: Mark | None = None
    scale: dict[str, float] = Field(default_factory=dict)
    units: dict[str, Name] = Field(default_factory=dict)
    rgb: bool = False
    dtype: Dtype = "uint8"
    boxes: tuple[Region, ...] = Field((), max_length=10_000)

    @field_validator("shape", "boxes", mode="before")
    @classmethod
    def _tuples(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @property
    def sizes(self) -> dict[str, int]:
        """Size of the strokes by axis: that of the image without its channels."""
        pairs = zip(self.axes, self.shape, strict=True)
        return {axis: size for axis, size in pairs if axis != "C"}

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Shape of the strokes."""
        return tuple(self.sizes.values())

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.axes) != len(self.shape) or len(set(self.axes)) != len(self.axes):
            raise ValueError("axes and shape differ")
        if not {"Y", "X"} <= set(self.axes):
            raise ValueError("the axes need Y and X")
        if math.prod(self.shape) > _MOST_PIXELS:
            raise ValueError("the image is larger than any image")
        if not all(0 < n < math.inf for n in self.scale.values()):
            raise ValueError("a pixel has a size above 0")
        if not all(_lies_in(box, self.sizes) for box in self.boxes):
            raise ValueError("a complete box lies outside the image")
        return self


class RoundEntry(_Entry):
    """A training round: its checkpoint by reference, and what it brought.

    Attributes
    ----------
    path : str
        The checkpoint, written as the path of a picture.
    digest : str
        SHA-256 of the checkpoint.
    before, after : float or None
        Scores on the held-out strokes.
    kept : bool
        Whether it is the one in use.
    """

    path: str = Field(max_length=4096, pattern=r"^[^\x00]+$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    before: float | None = None
    after: float | None = None
    kept: bool = True


class Contents(_Entry):
    """All of ``project.json``."""

    format: Literal["unet-napari project"] = "unet-napari project"
    version: Literal[1] = 1
    name: Name
    kind: Kind = "auto"
    classes: tuple[StrokeClass, ...] = Field((), max_length=1000)
    pictures: tuple[Picture, ...] = Field((), max_length=100_000)
    rounds: tuple[RoundEntry, ...] = Field((), max_length=10_000)
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("classes", "pictures", "rounds", mode="before")
    @classmethod
    def _tuples(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _are_told_apart(self) -> Self:
        ids = [picture.id for picture in self.pictures]
        if len(set(ids)) != len(ids):
            raise ValueError("two images have one id")
        numbers = [known.number for known in self.classes]
        if len(set(numbers)) != len(numbers):
            raise ValueError("two classes have one number")
        return self


def new_class(number: int) -> StrokeClass:
    """Make a class without a name, in its usual colour."""
    return StrokeClass(number=number, name="", colour=colour(number))


def first_classes() -> tuple[StrokeClass, ...]:
    """Offer the two classes that every project begins with."""
    return new_class(1), new_class(2)


def read(text: bytes, name: str) -> Contents:
    """Read and check a ``project.json``.

    Raises
    ------
    ProjectError
        If it is none, is damaged, or was written by a later version.
    """
    value = _json(text, name)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ProjectError(
            f"{name} is no annotation project", expected=f'"format": "{FORMAT}"'
        )
    if value.get("version") != VERSION:
        raise ProjectError(
            f"{name} has a version that is not known",
            found=_short(value.get("version")),
            expected=str(VERSION),
            hint="Open it with a newer napari-unet.",
        )
    try:
        return Contents(**value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ProjectError(
            f"{name} is damaged",
            found=f"{where}: {_short(first.get('input'))}",
            expected=_lower(first["msg"]),
        ) from None
    except (TypeError, RecursionError):
        raise ProjectError(f"{name} is damaged") from None


def write(contents: Contents) -> bytes:
    """Write what `read` reads, pure ASCII."""
    value = contents.model_dump(mode="json")
    return json.dumps(value, indent=1).encode() + b"\n"


def _json(text: bytes, name: str) -> Any:
    """Parse JSON; numbers that are none are refused."""
    if len(text) > MOST_BYTES:
        raise ProjectError(f"{name} is too large", found=f"{len(text)} bytes")
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"{name} is damaged", found=_short(str(error))) from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _is_bounds(value: Any) -> bool:
    """Whether JSON may be bounds: a list for each axis."""
    return isinstance(value, dict) and all(isinstance(b, list) for b in value.values())


def _lies_in(box: Region, sizes: dict[str, int]) -> bool:
    """Whether a box is a part of the image."""
    return all(
        0 <= first < stop <= sizes.get(axis, 0)
        for axis, (first, stop) in box.bounds.items()
    )


def _short(value: Any) -> str:
    """Write a found value so that it cannot flood a message."""
    text = re.sub(r"[^\x20-\x7e]", "?", repr(value)[:200])
    return text if len(text) < 60 else f"{text[:60]}…"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
