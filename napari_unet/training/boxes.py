"""Complete boxes: parts of an image where what is not painted is known too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import StrokesError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.images.stack import ImageStack, LazyArray


@dataclass(frozen=True)
class Box:
    """A part of an image in which nothing was left out.

    Attributes
    ----------
    bounds : mapping of str to (int, int)
        First pixel, and the one past the last, by axis. An axis not named is whole, so
        ``Box()`` is the whole image.
    unpainted : int
        Class of all pixels that are not painted, from 1, which is background. An image
        of nothing but class 3 has ``Box(unpainted=3)`` and needs no stroke. Where
        objects have numbers it is 1.
    """

    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unpainted: int = 1

    def check(self, strokes: ImageStack, numbered: bool) -> None:
        """Refuse a box that does not lie in its image.

        Raises
        ------
        StrokesError
            If an axis is unknown, the bounds are empty or outside, or the class is
            none; `numbered` tells that ids are objects.
        """
        for axis, (first, stop) in self.bounds.items():
            size = strokes.sizes.get(axis)
            if size is None or not 0 <= first < stop <= size:
                known = ", ".join(f"{a} 0 to {n}" for a, n in strokes.sizes.items())
                raise StrokesError(
                    f"A complete box does not lie in the image of {strokes.name}",
                    found=f"{axis} {first} to {stop}",
                    expected=f"a part of {known}",
                )
        if self.unpainted < 1 or (numbered and self.unpainted != 1):
            raise StrokesError(
                "A complete box has an unknown class for what is not painted",
                found=str(self.unpainted),
                expected="1, background" if numbered else "a class, from 1",
            )

    def within(self, region: Mapping[str, tuple[int, int]]) -> tuple[slice, ...] | None:
        """Its part of a region given by first and stop, None where they are apart."""
        parts = []
        for axis, (start, end) in region.items():
            first, stop = self.bounds.get(axis, (start, end))
            parts.append(slice(max(first, start) - start, min(stop, end) - start))
        return tuple(parts) if all(p.start < p.stop for p in parts) else None


class Filled:
    """Lazy strokes in which complete boxes are filled.

    Parameters
    ----------
    strokes : ImageStack
        Stroke ids; 0 is not painted.
    boxes : sequence of Box
        Where 0 is known.
    numbered : bool
        Whether ids are objects. They are then raised by one: 1 is background, 2 the
        first object.
    """

    def __init__(
        self, strokes: ImageStack, boxes: Sequence[Box], numbered: bool
    ) -> None:
        self._array: LazyArray = strokes.array
        self._axes, self._boxes, self._step = strokes.axes, boxes, int(numbered)
        self.shape, self.dtype = strokes.shape, np.dtype(np.int64)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read a region given by one slice an axis, with start and stop."""
        ids: np.ndarray = np.asarray(self._array[index]).astype(np.int64)
        ids[ids > 0] += self._step
        region = {a: (s.start, s.stop) for a, s in zip(self._axes, index, strict=True)}
        for box in self._boxes:
            if (part := box.within(region)) is not None:
                known = ids[part]
                known[known == 0] = box.unpainted
        return ids


def is_filled(
    ids: np.ndarray, boxes: Sequence[Box], region: Mapping[str, tuple[int, int]]
) -> np.ndarray:
    """Pixels of filled strokes that have the class of an unpainted pixel in a box.

    Parameters
    ----------
    ids : numpy.ndarray
        From `Filled`, with the axes of `region` that have a length.
    boxes : sequence of Box
        As for `Filled`.
    region : mapping of str to (int, int)
        First and stop of `ids` by axis; an axis of length one may be left out of it.
    """
    filled = np.zeros(ids.shape, bool)
    shape = [stop - first for first, stop in region.values()]
    view, mine = filled.reshape(shape), ids.reshape(shape)
    for box in boxes:
        if (part := box.within(region)) is not None:
            view[part] |= mine[part] == box.unpainted
    return filled
