"""Pyramids: a result at half its size again and again, for viewers of large planes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.files import reserve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from napari_unet.images.sinks import OutputSpec

LARGEST = 1024
"""Pixels along Y and X up to which a plane needs no smaller level."""


def level_shapes(shape: Sequence[int], largest: int = LARGEST) -> list[tuple[int, ...]]:
    """Shapes of the levels, from full size down to a plane of `largest` pixels.

    Parameters
    ----------
    shape : sequence of int
        Shape of the result, ending in Y, X.
    largest : int
        Y and X are halved until neither is larger.
    """
    shapes = [tuple(shape)]
    while max(shapes[-1][-2:]) > largest:
        *leading, height, width = shapes[-1]
        shapes.append((*leading, -(-height // 2), -(-width // 2)))
    return shapes


def halved(block: np.ndarray, labels: bool) -> np.ndarray:
    """Halve Y and X of a block: means for images, every second pixel for labels.

    Parameters
    ----------
    block : numpy.ndarray, shape (Y, X)
        Its first pixel is at even coordinates.
    labels : bool
        Whether the numbers are ids, of which there is no mean.

    Returns
    -------
    numpy.ndarray, shape (ceil(Y / 2), ceil(X / 2))
        Of the same type; at an odd edge the mean is that of fewer pixels.
    """
    if labels:
        return block[::2, ::2]
    odd = [(0, n % 2) for n in block.shape]
    even = np.pad(block, odd, mode="edge").astype(np.float64)
    height, width = even.shape
    mean = even.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    if block.dtype.kind in "iu":
        mean = np.rint(mean)
    small: np.ndarray = mean.astype(block.dtype)
    return small


class Levels:
    """Smaller levels of planes, in a scratch file until all planes are written.

    A TIFF file holds a level after all planes of the level above it, and planes come
    once. The file takes a third of the uncompressed result; in memory is one block.

    Parameters
    ----------
    spec : OutputSpec
        Axes must end in Y, X.
    scratch : pathlib.Path
        Name of the scratch file, made when needed.

    Attributes
    ----------
    shapes : list of tuple of int
        Shapes of the levels below the full one; empty where planes are small.
    """

    def __init__(self, spec: OutputSpec, scratch: Path) -> None:
        self.shapes = level_shapes(spec.shape)[1:]
        self._dtype, self._labels = spec.dtype, spec.kind == "labels"
        self._planes = [(shape[-2], shape[-1]) for shape in self.shapes]
        sizes = [h * w * spec.dtype.itemsize for h, w in self._planes]
        *self._offsets, self._bytes = itertools.accumulate(sizes, initial=0)
        self._scratch = scratch
        self._count = 0

    def passing(self, planes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the planes of the full level and keep what the others need of them."""
        for plane in planes:
            if self.shapes:
                self._add(plane)
            yield plane

    def planes(self, level: int) -> Iterator[np.ndarray]:
        """Yield the planes of one of `shapes`."""
        return (self._plane(number, level) for number in range(self._count))

    def discard(self) -> None:
        """Remove the scratch file."""
        self._scratch.unlink(missing_ok=True)

    def _add(self, plane: np.ndarray) -> None:
        """Shrink a plane again and again."""
        number, self._count = self._count, self._count + 1
        reserve(self._scratch, self._count * self._bytes)
        above = plane
        for level in range(len(self.shapes)):
            below = self._plane(number, level)
            _shrink(above, below, self._labels)
            above = below

    def _plane(self, number: int, level: int) -> np.ndarray:
        """Map one plane of one level."""
        offset = number * self._bytes + self._offsets[level]
        return np.memmap(self._scratch, self._dtype, "r+", offset, self._planes[level])


def _shrink(above: np.ndarray, below: np.ndarray, labels: bool) -> None:
    """Fill a plane from the one above it, block by block."""
    corners = itertools.product(*(range(0, n, LARGEST) for n in below.shape))
    for y, x in corners:
        part = slice(2 * y, 2 * (y + LARGEST)), slice(2 * x, 2 * (x + LARGEST))
        block = halved(above[part], labels)
        below[y : y + LARGEST, x : x + LARGEST] = block
