"""Painted pixels by class, kept up to date without looking through everything."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.projects import stroke_files

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK = 1 << 16
_MOST_AT_ONCE = 96
_SMALL = 4 << 20


class Tally:
    """Counts painted pixels by id, in blocks of some rows.

    Parameters
    ----------
    strokes : numpy.ndarray
        C-contiguous, at least one axis. Mapped files are counted without their holes.
    """

    def __init__(self, strokes: np.ndarray) -> None:
        self._shape = strokes.shape
        self._width = max(1, strokes.shape[-1])
        self._rows = strokes.reshape(-1, self._width)
        self._step = max(1, _BLOCK // self._width)
        self._blocks: dict[int, Counter[int]] = {}
        self._total: Counter[int] = Counter()
        self._touched: dict[int, None] = {}
        self._waiting: dict[int, None] = {}
        self.count_all()

    @property
    def counts(self) -> dict[int, int]:
        """Pixels by id, of the ids that are painted."""
        return {i: n for i, n in sorted(self._total.items()) if n}

    def count_all(self) -> None:
        """Count everything that may be painted."""
        self._blocks.clear()
        self._total.clear()
        size = self._step * self._width
        found: dict[int, None] = {}
        for start, stop in stroke_files.slabs(self._rows):
            if self._rows.reshape(-1)[start:stop].any():
                found.update(dict.fromkeys(range(start // size, -(-stop // size))))
        for block in found:
            self._count(block)

    def touch(self, region: Sequence[slice]) -> None:
        """Note that something was painted in a region, given by bounded slices.

        The last axis is taken as whole.
        """
        parts = [
            range(*s.indices(n)) for s, n in zip(region, self._shape, strict=True)
        ][:-1]
        if not all(len(part) for part in parts):
            return
        grid = np.ix_(*parts) if parts else ()
        rows = np.ravel_multi_index(grid, self._shape[:-1]) if parts else np.zeros(1)
        fresh = dict.fromkeys(map(int, np.unique(np.asarray(rows) // self._step)))
        for block in fresh:  # the last touched last
            self._touched.pop(block, None)
        self._touched |= fresh
        self._waiting |= fresh

    def look_back(self) -> None:
        """Look again wherever something was painted: it may have been undone.

        Small arrays are looked at all over, so that what programs write is seen too.
        """
        self._waiting |= dict.fromkeys(reversed(self._touched))
        if self._rows.size <= _SMALL:
            self._waiting |= dict.fromkeys(range(-(-len(self._rows) // self._step)))

    def catch_up(self, most: int = _MOST_AT_ONCE) -> bool:
        """Count what was touched, at most so many blocks; whether that is all."""
        for block in list(self._waiting)[:most]:
            del self._waiting[block]
            self._count(block)
        return not self._waiting

    def _count(self, block: int) -> None:
        """Count one block again."""
        rows = self._rows[block * self._step : (block + 1) * self._step]
        painted = rows[rows > 0]
        ids, numbers = np.unique(painted, return_counts=True)
        new = Counter(dict(zip(ids.tolist(), numbers.tolist(), strict=True)))
        self._total.subtract(self._blocks.pop(block, Counter()))
        self._total.update(new)
        if new:
            self._blocks[block] = new
