"""Sum overlapping patches while finished rows leave: nothing holds a whole frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.inference.tiling import Range


class RollingSum:
    """A sum over patches that arrive in order along the first spatial axis.

    Parameters
    ----------
    channels : int
        Channels of the patches.
    rows : int
        Longest patch along the first spatial axis.
    target : sequence of tuple of int
        Start and stop of the summed part of the frame, per spatial axis.
    """

    def __init__(self, channels: int, rows: int, target: Sequence[Range]) -> None:
        self._target = tuple(target)
        (self._start, stop), *rest = self._target
        rows = min(rows, stop - self._start)
        widths = [b - a for a, b in rest]
        self._sum = np.zeros((channels, rows, *widths), np.float32)

    def add(self, block: np.ndarray, write: Sequence[Range]) -> None:
        """Add a weighted patch.

        Parameters
        ----------
        block : numpy.ndarray
            (C, *spatial) float32, already multiplied by its windows.
        write : sequence of tuple of int
            Where it lies in the frame, start and stop per spatial axis.
        """
        starts = (self._start, *(a for a, _ in self._target[1:]))
        place = [slice(a - o, b - o) for (a, b), o in zip(write, starts, strict=True)]
        self._sum[(slice(None), *place)] += block

    def pop(self, stop: int) -> tuple[tuple[Range, ...], np.ndarray]:
        """Take out all rows before `stop`, which no later patch may touch.

        Returns
        -------
        write : tuple of tuple of int
            Where the rows lie in the frame.
        block : numpy.ndarray
            (C, *spatial) float32, own memory.
        """
        count = stop - self._start
        block = self._sum[:, :count].copy()
        kept = self._sum.shape[1] - count
        self._sum[:, :kept] = self._sum[:, count:].copy()
        self._sum[:, kept:] = 0
        write = ((self._start, stop), *self._target[1:])
        self._start = stop
        return write, block


def weigh(block: np.ndarray, windows: Sequence[np.ndarray]) -> np.ndarray:
    """Multiply a patch (C, *spatial) by the product of its per-axis windows."""
    for axis, window in enumerate(windows):
        shape = [1] * block.ndim
        shape[axis + 1] = -1
        block = block * window.reshape(shape)
    return block
