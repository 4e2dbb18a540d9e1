"""Strokes and their images: what was painted, and only the parts that were painted.

Strokes are looked through plane by plane, so a lazy stack of any length costs the
memory of one plane. The pixels of the image are read later, and only around strokes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

from napari_unet.errors import StrokesError
from napari_unet.training.boxes import Box, Filled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_unet.events import CancelToken
    from napari_unet.images.stack import ImageStack, LazyArray

Kind = Literal["classes", "instances"]

MOST_CLASSES = 64
_COMPACT = 4.0  # area over that of the largest disc inside; a brush line has 6 and more


@dataclass(frozen=True)
class Example:
    """An image and the strokes painted on it.

    Attributes
    ----------
    stack : ImageStack
        The image.
    strokes : ImageStack
        Integer ids on the same axes without C; 0 is not painted.
    boxes : tuple of Box
        Parts in which what is not painted is known.
    """

    stack: ImageStack
    strokes: ImageStack
    boxes: tuple[Box, ...] = ()


class _Raised:
    """A lazy label image with 1 added to every label."""

    def __init__(self, array: LazyArray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read a region given by integers and slices with step 1."""
        raised: np.ndarray = np.asarray(self._array[index]).astype(np.int64) + 1
        return raised


def complete(example: Example) -> Example:
    """Read a complete label image as strokes: 0 is painted too, as background.

    Ids are then one more than the labels: 1 is background, 2 the first class or object.
    """
    raised = dataclasses.replace(
        example.strokes, array=_Raised(example.strokes.array), _close=None
    )
    return Example(example.stack, raised, (Box(),))


def filled(example: Example, kind: Kind) -> Example:
    """Fill complete boxes with the ids that they make known, see `Filled`.

    Ids of objects are raised by one, with boxes and without.

    Raises
    ------
    StrokesError
        If a box does not lie in its image.
    """
    for box in example.boxes:
        box.check(example.strokes, kind == "instances")
    array = Filled(example.strokes, example.boxes, kind == "instances")
    strokes = dataclasses.replace(example.strokes, array=array, _close=None)
    return dataclasses.replace(example, strokes=strokes)


@dataclass(frozen=True)
class Plane:
    """One painted plane: its example, where it lies, and its stroke ids."""

    example: int
    index: Mapping[str, int]
    counts: Mapping[int, int]
    """Painted pixels by id."""
    parts: int
    """Connected strokes on the plane."""
    spread: tuple[float, ...]
    """Of each stroke, its area over that of the largest disc inside it."""


@dataclass(frozen=True)
class AnnotationSet:
    """All examples, looked through once.

    Attributes
    ----------
    examples : tuple of Example
        What was given.
    planes : tuple of Plane
        The painted planes in order.
    digest : str
        SHA-256 of all strokes and their places.
    """

    examples: tuple[Example, ...]
    planes: tuple[Plane, ...]
    digest: str = field(default="")

    @classmethod
    def gather(
        cls, examples: Sequence[Example], cancel: CancelToken | None = None
    ) -> AnnotationSet:
        """Check examples and find what is painted.

        A set `cancel` token ends the search early; the caller looks at it next.

        Raises
        ------
        StrokesError
            If there are no examples, the strokes do not lie on their image, are no
            non-negative integers, or nothing is painted.
        """
        if not examples:
            raise StrokesError("There is no image to learn from")
        total = hashlib.sha256()
        planes = []
        for number, example in enumerate(examples):
            _check(example)
            for index, ids in painted_planes(example.strokes, cancel):
                planes.append(_plane(number, index, ids))
                total.update(repr((number, sorted(index.items()), ids.shape)).encode())
                total.update(ids.tobytes())
        return cls(tuple(examples), tuple(planes), total.hexdigest())

    @property
    def ids(self) -> tuple[int, ...]:
        """All stroke ids, sorted."""
        return tuple(sorted({i for plane in self.planes for i in plane.counts}))

    @property
    def has_boxes(self) -> bool:
        """Whether some image has a complete box."""
        return any(example.boxes for example in self.examples)

    @property
    def strokes(self) -> int:
        """Number of connected strokes, those of each plane counted."""
        return sum(plane.parts for plane in self.planes)

    def require_paint(self) -> None:
        """Refuse a set with nothing painted."""
        if not self.planes:
            raise StrokesError(
                "Nothing is painted",
                found="strokes that are all 0",
                hint="Paint some background with 1 and some objects with 2.",
            )

    def guess_kind(self) -> tuple[Kind, str]:
        """Whether ids are classes or objects, and the reason in one sentence.

        Ids are objects where there are three or more, each painted in one piece, and
        the pieces are compact; brush lines through a class are long and thin.
        """
        ids = len(self.ids)
        if ids > MOST_CLASSES:
            return "instances", f"there are {ids} ids, too many for classes"
        pieces = sum(plane.parts for plane in self.planes)
        named = sum(len(plane.counts) for plane in self.planes)
        spread = float(np.median([s for plane in self.planes for s in plane.spread]))
        if ids >= 3 and pieces <= 1.25 * named and spread < _COMPACT:
            return "instances", f"each of the {ids} ids is one compact patch of paint"
        return "classes", f"the {ids} ids are painted as {pieces} strokes"

    def looks_solid(self) -> bool:
        """Whether some plane and the next along Z are both painted."""
        places = {
            (p.example, tuple(sorted(p.index.items())))
            for p in self.planes
            if "Z" in p.index
        }
        return any(
            (n, tuple(sorted({**dict(at), "Z": dict(at)["Z"] + 1}.items()))) in places
            for n, at in places
        )


def _check(example: Example) -> None:
    """Refuse strokes that do not lie on their image or are no ids."""
    stack, strokes = example.stack, example.strokes
    sizes = {a: n for a, n in stack.sizes.items() if a != "C"}
    found = {a: n for a, n in strokes.sizes.items() if (a, n) != ("C", 1)}
    if found != sizes:
        raise StrokesError(
            f"The strokes {strokes.name} do not lie on the image {stack.name}",
            found=f"strokes of {_size(found)}",
            expected=f"{_size(sizes)}, the image without channels",
            hint="Paint on a layer made for this image.",
        )
    for axis, size in strokes.scale.items():
        wanted = stack.scale.get(axis, size)
        same_unit = strokes.units.get(axis) == stack.units.get(axis)
        if axis in sizes and same_unit and abs(size - wanted) > 0.01 * abs(wanted):
            raise StrokesError(
                f"The strokes {strokes.name} have another scale than {stack.name}",
                found=f"{size:g} a pixel along {axis}",
                expected=f"{wanted:g}",
                hint="Paint on a layer made for this image.",
            )
    if strokes.dtype.kind not in "iu":
        raise StrokesError(
            f"The strokes {strokes.name} cannot be read as ids",
            found=str(strokes.dtype),
            expected="whole numbers",
            hint="Save them as a label image.",
        )


def _size(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{a} {n}" for a, n in sizes.items()) or "no axes"


def painted_planes(
    strokes: ImageStack, cancel: CancelToken | None
) -> Iterator[tuple[dict[str, int], np.ndarray]]:
    """Every painted plane with its index, ids as int64 (Y, X)."""
    loop = [a for a in strokes.axes if a not in "YX"]
    for at in itertools.product(*(range(strokes.sizes[a]) for a in loop)):
        if cancel is not None and cancel.is_set():
            return
        index = dict(zip(loop, at, strict=True))
        ids = strokes.read(index, "YX")
        if ids.size and ids.any():
            if ids.min() < 0 or ids.max() > np.iinfo(np.int64).max // 2:
                raise StrokesError(
                    f"The strokes {strokes.name} hold ids that cannot be used",
                    found=f"{ids.min()} to {ids.max()}",
                    expected="0 for not painted and ids from 1",
                )
            yield {a: n for a, n in index.items() if a != "C"}, ids.astype(np.int64)


def _plane(example: int, index: dict[str, int], ids: np.ndarray) -> Plane:
    """Describe one painted plane."""
    values, compact, counts = np.unique(ids, return_inverse=True, return_counts=True)
    compact = compact.reshape(ids.shape) + int(values[0] != 0)
    named = {int(v): int(n) for v, n in zip(values, counts, strict=True) if v != 0}
    spread: list[float] = []
    for number, box in enumerate(ndimage.find_objects(compact), start=1):
        spread += _spread(compact[box] == number)
    return Plane(example, index, named, len(spread), tuple(spread))


def _spread(mask: np.ndarray) -> list[float]:
    """For each piece, its area over that of the largest disc inside it."""
    mask = np.pad(mask, 1)
    pieces, number = ndimage.label(mask, np.ones((3, 3)))
    index = range(1, number + 1)
    radius = ndimage.maximum(ndimage.distance_transform_edt(mask), pieces, index)
    area = ndimage.sum_labels(mask, pieces, index)
    return [float(a / (np.pi * r**2)) for a, r in zip(area, radius, strict=True)]
