"""Ways to cut a frame: pure integers, by the memory that a piece may take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.inference import tiling
from napari_unet.inference.overlapping import patch_spans

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from napari_unet.config import Window
    from napari_unet.inference.plan import Memory, RowCost
    from napari_unet.inference.tiling import Grid, Range, Span


@dataclass(frozen=True)
class Cut:
    """A frame and the part of it that is wanted.

    Attributes
    ----------
    grids : tuple of Grid
        What the network asks of tiles, per spatial axis.
    size : tuple of int
        Size of the frame.
    target : tuple of tuple of int
        Start and stop of the wanted part.
    """

    grids: tuple[Grid, ...]
    size: tuple[int, ...]
    target: tuple[Range, ...]

    @property
    def partial(self) -> bool:
        """Whether only a part is wanted."""
        return self.target != tuple((0, n) for n in self.size)

    def inputs(self, tile: Sequence[int] | None = None) -> list[int]:
        """Input lengths for a tile, or for the whole frame."""
        lengths = zip(self.grids, tile or self.size, strict=True)
        return [g.fit(n) + 2 * g.margin for g, n in lengths]

    def extents(self) -> list[int]:
        """Input lengths for one tile over all that is wanted."""
        reads = [tiling.extent_span(*axis).read for axis in self._targets()]
        return [stop - start for start, stop in reads]

    def stream(
        self, memory: Memory, can_cut: bool
    ) -> tuple[tuple[tuple[Span, ...], ...], int, int] | None:
        """Return strips with their memory and rows at a time, None where it is short.

        Parameters
        ----------
        memory : Memory
            What may be taken.
        can_cut : bool
            Whether strips narrower than the frame are right, as for networks with
            exact tiles.
        """
        cost = memory.rows()
        found = None if cost is None else self._fitting(cost, memory, can_cut)
        if found is None:
            return None
        peak, chunk, tile = found
        if not can_cut:
            return self.whole(), peak, chunk
        rows = tiling.extent_span(*next(self._targets()))
        others = list(self._axes(tile))[1:]
        return ((rows,), *(tiling.exact_spans(*axis) for axis in others)), peak, chunk

    def _fitting(
        self, cost: RowCost, memory: Memory, can_cut: bool
    ) -> tuple[int, int, tuple[int, ...]] | None:
        """Return the memory, rows at a time and strip that fit into the budget.

        Fewer rows at a time cost little; narrower strips compute their halos.
        """
        rows, counts = self.grids[0], [1] * len(self.size)
        chunk, tile = rows.up(cost.chunk), self._tiles(counts)
        while True:
            width = math.prod(self.inputs(tile)[1:])
            peak = int(width * (cost.held + cost.moving * chunk))
            if peak <= memory.budget:
                return peak, chunk, tile
            axis = self._longest(tile, first=1) if can_cut else None
            if chunk > rows.stride:
                chunk = rows.up(chunk // 2)
            elif axis is None:
                return None
            else:
                counts[axis] += 1
                tile = self._tiles(counts)

    def whole(self) -> tuple[tuple[Span, ...], ...]:
        """Return one tile over everything."""
        return tuple((tiling.whole_span(*axis),) for axis in self._targets())

    def raised(self, tile: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
        """Raise a tile that is all halo until it keeps half of itself; say so."""
        fair = []
        for grid, size, length, target in self._axes(tile):
            start, stop = grid.extent(size, target)
            short = grid.fit(length) < min(grid.smallest, stop - start)
            fair.append(min(2 * grid.overlap, stop - start) if short else length)
        if tuple(fair) == tile:
            return tile, ""
        asked, used = (" x ".join(map(str, t)) for t in (tile, fair))
        why = "less than this network's receptive field allows"
        return tuple(fair), f"; a tile of {asked} is {why}, {used} is used"

    def exact(self, tile: Sequence[int]) -> tuple[tuple[Span, ...], ...]:
        """Return exact tiles of at most this size."""
        return tuple(tiling.exact_spans(*axis) for axis in self._axes(tile))

    def blend(
        self, tile: Sequence[int], overlap: float, window: Window
    ) -> tuple[tuple[tuple[Span, ...], ...], tuple[tuple[np.ndarray, ...], ...]]:
        """Return overlapping patches and their windows."""
        axes = zip(self.grids, self.size, tile, self.target, strict=True)
        parts = [patch_spans(g, n, t, overlap, part, window) for g, n, t, part in axes]
        return tuple(p[0] for p in parts), tuple(p[1] for p in parts)

    def largest(self, memory: Memory) -> tuple[int, ...]:
        """Largest exact tile in the budget.

        The least is computed twice when all axes keep equally much per halo, so the
        axis with the longest kept part in units of its halo is cut next.
        """
        counts = [1] * len(self.size)
        tile = self._tiles(counts)
        while memory.cost(self.inputs(tile)) > memory.budget:
            axis = self._longest(tile)
            if axis is None:
                break
            counts[axis] += 1
            tile = self._tiles(counts)
        return tile

    def _longest(self, tile: Sequence[int], first: int = 0) -> int | None:
        """Return the axis to cut next, None where all tiles are as short as can be."""
        kept = [
            (t - g.overlap) / max(g.overlap, 0.5) if t > g.smallest else 0.0
            for g, t in zip(self.grids, tile, strict=True)
        ]
        kept[:first] = [0.0] * first
        return kept.index(max(kept)) if any(kept) else None

    def _targets(self) -> Iterator[tuple[Grid, int, Range]]:
        return zip(self.grids, self.size, self.target, strict=True)

    def _axes(self, tile: Sequence[int]) -> Iterator[tuple[Grid, int, int, Range]]:
        return zip(self.grids, self.size, tile, self.target, strict=True)

    def _tiles(self, counts: Sequence[int]) -> tuple[int, ...]:
        axes = zip(self.grids, self.size, self.target, counts, strict=True)
        return tuple(tiling.exact_tile(*axis) for axis in axes)
