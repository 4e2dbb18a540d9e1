"""Tiles of a frame along each axis: pure integers.

Coordinates count image pixels along one axis. A tile may reach outside the image: the
frame continues there as its own mirror image, so that its padded size suits the
network. Everything is per axis; the tiles of a frame are the product over its axes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.networks.receptive_field import Geometry

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis.

    Attributes
    ----------
    read : tuple of int
        Start and stop of the network's input; may reach outside the image.
    write : tuple of int
        Start and stop of what the tile contributes to the result.
    margin : int
        Pixels the network's output is shorter on each side.
    """

    read: Range
    write: Range
    margin: int = 0

    @property
    def crop(self) -> slice:
        """Where `write` lies in the network's output."""
        origin = self.read[0] + self.margin
        return slice(self.write[0] - origin, self.write[1] - origin)

    @property
    def length(self) -> int:
        """Length of the network's output."""
        return self.read[1] - self.read[0] - 2 * self.margin


@dataclass(frozen=True, slots=True)
class Grid:
    """What a network asks of tiles along one axis.

    Attributes
    ----------
    stride : int
        Tile origins are multiples of it, else poolings fall on other pixels.
    before, after : int
        Halo: how far an output between multiples of `stride` reaches back and ahead.
    margin : int
        Pixels lost on each side by valid convolutions; 0 for same padding.
    remainder : int
        Allowed output lengths are `remainder` modulo `stride`.
    """

    stride: int = 1
    before: int = 0
    after: int = 0
    margin: int = 0
    remainder: int = 0

    def down(self, position: int) -> int:
        """Last multiple of the stride not above `position`."""
        return position // self.stride * self.stride

    def up(self, position: int) -> int:
        """First multiple of the stride not below `position`."""
        return -self.down(-position)

    def fit(self, length: int) -> int:
        """Smallest allowed output length not below `length`."""
        return length + (self.remainder - length) % self.stride

    def origin(self, begin: int) -> int:
        """Where a tile starts that is right from `begin` on."""
        return max(0, self.down(begin) - self.up(max(0, self.before - self.margin)))

    def reach(self, end: int) -> int:
        """Up to where a tile is right that ends inside the image at `end`."""
        return self.down(end - max(0, self.after - self.margin))

    @property
    def overlap(self) -> int:
        """Output pixels two neighbouring exact tiles share."""
        before = self.up(max(0, self.before - self.margin))
        return before + self.remainder - self.reach(self.remainder)

    @property
    def smallest(self) -> int:
        """Shortest exact tile that contributes anything inside an image."""
        return self.overlap + self.stride

    def extent(self, size: int, target: Range) -> Range:
        """Return the outputs to compute so that `target` is as in the whole frame."""
        start = self.origin(target[0])
        ahead = self.up(target[1]) + max(0, self.after - self.margin)
        return start, start + self.fit(min(self.fit(size), ahead) - start)

    def span(self, origin: int, length: int, write: Range) -> Span:
        """Tile whose output starts at `origin`."""
        read = (origin - self.margin, origin + length + self.margin)
        return Span(read, write, self.margin)


def grids(geometry: Geometry) -> tuple[Grid, ...]:
    """One `Grid` per spatial axis of a network's geometry."""
    return tuple(
        Grid(stride, *halo, margin, remainder)
        for stride, halo, margin, remainder in zip(
            geometry.stride,
            geometry.halo,
            geometry.margin,
            geometry.remainder,
            strict=True,
        )
    )


def mirror(start: int, stop: int, size: int) -> np.ndarray:
    """Image positions that stand for `start` ... `stop` - 1, mirrored at both ends.

    The border pixel is not repeated (the 2015 paper's mirroring, "reflect" in numpy);
    an image of one pixel repeats it.
    """
    if size == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (size - 1)
    folded = np.arange(start, stop, dtype=np.intp) % period
    return np.minimum(folded, period - folded)


def whole_span(grid: Grid, size: int, target: Range) -> Span:
    """One tile over the whole axis of `size` pixels, of which `target` is kept."""
    return grid.span(0, grid.fit(size), target)


def extent_span(grid: Grid, size: int, target: Range) -> Span:
    """One tile that gives `target` as it is in the whole axis of `size` pixels."""
    start, stop = grid.extent(size, target)
    return grid.span(start, stop - start, target)


def exact_tile(grid: Grid, size: int, target: Range, count: int) -> int:
    """Shortest tile with which `count` exact tiles cover `target`."""
    start, stop = grid.extent(size, target)
    share = math.ceil((stop - start - grid.overlap) / count)
    tile = grid.fit(max(grid.smallest, share + grid.overlap))
    return min(tile, stop - start)


def exact_spans(
    grid: Grid, size: int, tile: int, target: Range | None = None
) -> tuple[Span, ...]:
    """Tiles whose kept centres equal the output of the whole axis.

    Origins lie on the stride's grid and what is kept is at least the receptive field
    away from a tile's ends, unless that end is the end of the (padded) image, where
    the network's own padding acts as it does in the whole.

    Parameters
    ----------
    grid : Grid
        The network along this axis.
    size : int
        Pixels of the image along this axis.
    tile : int
        Output length of a tile, rounded up to an allowed one.
    target : tuple of int, optional
        Part of the axis to cover; all of it when not given.

    Returns
    -------
    tuple of Span
        All of one length; what they write covers `target` once, in order.

    Raises
    ------
    ValueError
        If `tile` is shorter than ``grid.smallest`` and does not cover all at once.
    """
    begin, stop = target or (0, size)
    first, last = grid.extent(size, (begin, stop))
    tile = min(grid.fit(tile), last - first)
    if tile < min(grid.smallest, last - first):
        raise ValueError(f"tile of {tile}, the network needs {grid.smallest}")
    padded = grid.fit(size)
    spans = []
    while begin < stop:
        origin = min(grid.origin(begin), last - tile)
        end = origin + tile
        reach = min(stop, end if end == padded else grid.reach(end))
        spans.append(grid.span(origin, tile, (begin, reach)))
        begin = reach
    return tuple(spans)


def pieces(start: int, stop: int, length: int) -> list[Range]:
    """Cut a range at all multiples of `length`."""
    cuts = [start, *range((start // length + 1) * length, stop, length), stop]
    return list(itertools.pairwise(cuts))


def forwarded(axes: Sequence[Sequence[Span]]) -> int:
    """Input pixels that all tiles of a frame send through the network."""
    return math.prod(sum(s.read[1] - s.read[0] for s in spans) for spans in axes)
