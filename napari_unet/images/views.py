"""Lazy views: part of an image, its mirror image, or its axes under other names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.images.regions import resolve

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari_unet.images.stack import LazyArray


class Leading:
    """The first `count` places along one axis of a lazy array.

    Parameters
    ----------
    array : LazyArray
        Any.
    axis : int
        Which axis is shortened.
    count : int
        Its new size.
    """

    def __init__(self, array: LazyArray, axis: int, count: int) -> None:
        self._array = array
        sizes = list(array.shape)
        sizes[axis] = count
        self.shape = tuple(sizes)
        self.dtype = array.dtype
        if hasattr(array, "chunks"):
            self.chunks = array.chunks

    def __getitem__(self, index: Any) -> Any:
        """Read a region given by integers and slices with step 1."""
        region, dropped = resolve(index, self.shape)
        return self._array[region].squeeze(tuple(dropped))


class Flipped:
    """A lazy array seen in a mirror.

    Parameters
    ----------
    array : LazyArray
        Any.
    axes : collection of int
        Which axes run backwards.
    """

    def __init__(self, array: LazyArray, axes: Collection[int]) -> None:
        self._array, self._axes = array, frozenset(axes)
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = array.dtype

    def __getitem__(self, index: Any) -> Any:
        """Read a region given by integers and slices with step 1."""
        region, dropped = resolve(index, self.shape)
        there = tuple(
            slice(n - part.stop, n - part.start) if axis in self._axes else part
            for axis, (part, n) in enumerate(zip(region, self.shape, strict=True))
        )
        block = np.flip(np.asarray(self._array[there]), tuple(self._axes))
        return block.squeeze(tuple(dropped))


def samples_to_channels(axes: str, name: str) -> str:
    """Axes with the samples of a colour pixel (S) read as channels (C).

    Raises
    ------
    ImageError
        If the image has both channels and samples.
    """
    if "S" not in axes:
        return axes
    if "C" in axes:
        raise ImageError(
            f"{name} has colour pixels in several channels",
            found=f"axes {axes}",
            expected="channels (C) or colour samples (S)",
            hint="Split the colours into channels first, such as with Fiji.",
        )
    return axes.replace("S", "C")
