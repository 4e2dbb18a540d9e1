"""Lazy views: part of an image, or its axes under other names."""

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
    """A lazy array with some of its axes reversed.

    Parameters
    ----------
    array : LazyArray
        Any.
    axes : collection of int
        Which axes are reversed.
    """

    def __init__(self, array: LazyArray, axes: Collection[int]) -> None:
        self._array = array
        self._axes = tuple(axes)
        self.shape = tuple(array.shape)
        self.dtype = array.dtype

    def __getitem__(self, index: Any) -> Any:
        """Read a region given by integers and slices with step 1."""
        region, dropped = resolve(index, self.shape)
        asked = list(region)
        for axis in self._axes:
            size, part = self.shape[axis], region[axis]
            asked[axis] = slice(size - part.stop, size - part.start)
        block = np.flip(np.asarray(self._array[tuple(asked)]), self._axes)
        return block.squeeze(tuple(dropped))


class Held:
    """A lazy array of which one block is read once and kept in memory.

    Parameters
    ----------
    array : LazyArray
        Any.
    block : tuple of slice
        What is kept, without steps; read when something of it is asked for.
    """

    def __init__(self, array: LazyArray, block: tuple[slice, ...]) -> None:
        self._array = array
        self._block = block
        self._pixels: np.ndarray | None = None
        self.shape = tuple(array.shape)
        self.dtype = array.dtype

    def __getitem__(self, index: Any) -> Any:
        """Read a region given by integers and slices with step 1."""
        region, dropped = resolve(index, self.shape)
        pairs = list(zip(region, self._block, strict=True))
        if not all(b.start <= r.start and r.stop <= b.stop for r, b in pairs):
            return np.asarray(self._array[region]).squeeze(tuple(dropped))
        if self._pixels is None:
            self._pixels = np.asarray(self._array[self._block])
        within = [slice(r.start - b.start, r.stop - b.start) for r, b in pairs]
        return self._pixels[tuple(within)].squeeze(tuple(dropped))


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
