"""Objects of a frame, found while its rows come: nothing holds the whole frame.

Parts of the foreground that do not touch are told apart independently of each other, so
a part is done as soon as no later row can belong to it. Numbers are those of the whole
frame's objects but for their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.measure import label

from napari_unet.errors import UsageError
from napari_unet.networks.device import free_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.tasks.task import Separator

SLAB = 8 << 20
"""Pixels that are looked at together."""
LIMIT = 8
"""Slabs that are held at most for a part that does not end."""


class Slabs:
    """Parts the rows of one frame into objects.

    Where a part of the foreground is longer than `LIMIT` slabs, such as a net of
    vessels through a whole volume, its objects are found in a window and go on under
    their numbers in the next one. An object is never cut, but branches that meet only
    later keep their own numbers.

    Parameters
    ----------
    task : Separator
        Tells foreground and objects.
    threshold : float
        Probability from which a pixel is foreground.
    length : int
        Rows of the frame.
    count : int
        Largest number given so far.

    Attributes
    ----------
    count : int
        Largest number given so far.
    was_cut : bool
        Whether a part was longer than could be held.
    """

    def __init__(
        self, task: Separator, threshold: float, length: int, count: int
    ) -> None:
        self.count = count
        self.was_cut = False
        self._task = task
        self._threshold = threshold
        self._length = length
        self._start = 0
        self._evidence: list[np.ndarray] = []
        self._known: np.ndarray | None = None
        self._edge: tuple[int, np.ndarray] | None = None
        self._new = 0

    def add(self, evidence: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Take the next rows.

        Parameters
        ----------
        evidence : numpy.ndarray
            (K, rows, *others), as the task gives it.

        Yields
        ------
        start : int
            First of the rows that are finished.
        numbers : numpy.ndarray
            (rows, *others) uint32, 0 where there is no object.
        """
        self._evidence.append(evidence)
        self._new += evidence[0].size
        is_last = self._start + sum(e.shape[1] for e in self._evidence) == self._length
        if is_last or self._new >= SLAB:
            self._new = 0
            yield from self._work(is_last)

    def _work(self, is_last: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Find the objects of all parts that have ended; let go of the rows before."""
        evidence = np.concatenate(self._evidence, axis=1)
        numbers = self._numbers(evidence[0].shape)
        foreground = self._task.foreground(evidence, self._threshold)
        free = foreground & (numbers == 0)
        waiting = np.zeros_like(free) if is_last else _reaching_the_end(free)
        self._separate(evidence, free & ~waiting, numbers)
        rows = _rows_with(waiting)
        stop = int(rows[0]) if rows.size else numbers.shape[0]
        if stop == 0 and numbers.size >= LIMIT * SLAB:
            stop = self._cut(evidence, waiting, numbers)
        if stop:
            yield self._start, numbers[:stop]
        self._keep(evidence, numbers, stop)

    def _numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the numbers known so far, 0 elsewhere."""
        numbers = np.zeros(shape, np.uint32)
        if self._known is not None:
            numbers[: len(self._known)] = self._known
        return numbers

    def _separate(
        self, evidence: np.ndarray, where: np.ndarray, numbers: np.ndarray
    ) -> None:
        """Give numbers, in place, to the objects of a part of the foreground."""
        if not where.any():
            return
        part = np.where(where, evidence, evidence.dtype.type(0))
        objects = self._task.separate(part, self._threshold).astype(np.uint32)
        names = np.arange(int(objects.max()) + 1, dtype=np.uint32)
        names[1:] += np.uint32(self.count)
        self._go_on(objects, names)
        self.count += len(names) - 1
        numbers[where] = names[objects[where]]

    def _go_on(self, objects: np.ndarray, names: np.ndarray) -> None:
        """Give objects that begin at a cut the numbers they had before it."""
        if self._edge is None or self._edge[0] < self._start:
            return
        row, before = self._edge
        first = objects[row - self._start]
        touching = (first > 0) & (before > 0)
        names[first[touching]] = before[touching]

    def _cut(self, evidence: np.ndarray, where: np.ndarray, numbers: np.ndarray) -> int:
        """Find the objects of a part that does not end; return the row of the cut.

        What crosses the cut keeps its numbers in the rows behind it, the rest is found
        anew with the rows that follow.
        """
        self.was_cut = True
        stop = len(numbers) // 2
        self._separate(evidence, where, numbers)
        crossing = np.intersect1d(numbers[stop - 1], numbers[stop])
        behind = numbers[stop:]
        anew = where[stop:] & ~np.isin(behind, crossing[crossing > 0])
        behind[anew] = 0
        self._edge = self._start + numbers.shape[0], numbers[-1].copy()
        return stop

    def _keep(self, evidence: np.ndarray, numbers: np.ndarray, stop: int) -> None:
        """Hold what lies behind the finished rows."""
        self._evidence = [evidence[:, stop:].copy()]
        self._known = numbers[stop:].copy()
        self._start += stop


def _reaching_the_end(foreground: np.ndarray) -> np.ndarray:
    """Return the parts of the foreground that touch the last row."""
    parts = label(foreground)
    wanted = np.zeros(int(parts.max()) + 1, bool)
    wanted[parts[-1]] = True
    wanted[0] = False
    found: np.ndarray = wanted[parts]
    return found


def _rows_with(where: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows in which something is set."""
    found: np.ndarray = np.flatnonzero(where.reshape(len(where), -1).any(axis=1))
    return found


class RowQueue:
    """Puts blocks of a frame together to whole rows in order.

    Parameters
    ----------
    shape : tuple of int
        Size of the frame.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._next = 0
        self._rows: np.ndarray | None = None
        width = int(np.prod(shape[1:], dtype=np.int64))
        self._left = np.full(shape[0], width, np.int64)

    def add(self, place: tuple[slice, ...], block: np.ndarray) -> np.ndarray | None:
        """Take a block, and return the rows that are complete now.

        Parameters
        ----------
        place : tuple of slice
            Where it lies in the frame.
        block : numpy.ndarray
            (K, *spatial).

        Returns
        -------
        numpy.ndarray or None
            (K, rows, *others), the next ones.

        Raises
        ------
        UsageError
            If the memory is too small for the rows that are not complete.
        """
        rows = place[0]
        self._left[rows] -= block[0, 0].size
        if (
            self._rows is None
            and rows.start == self._next
            and not self._left[rows].any()
        ):
            self._next = rows.stop
            return block
        held = self._room(block, rows.stop)
        own = slice(rows.start - self._next, rows.stop - self._next)
        held[(slice(None), own, *place[1:])] = block
        unfinished = np.flatnonzero(self._left[self._next :])
        count = int(unfinished[0]) if unfinished.size else held.shape[1]
        if count == 0:
            return None
        self._next += count
        self._rows = held[:, count:].copy() if count < held.shape[1] else None
        return held[:, :count]

    def _room(self, block: np.ndarray, stop: int) -> np.ndarray:
        """Return the rows up to `stop` that are not complete yet."""
        count, held = stop - self._next, self._rows
        if held is not None and held.shape[1] >= count:
            return held
        shape = (len(block), count, *self._shape[1:])
        needed = int(np.prod(shape, dtype=np.int64)) * block.itemsize
        _check_memory(needed)
        self._rows = np.empty(shape, block.dtype)
        if held is not None:
            self._rows[:, : held.shape[1]] = held
        return self._rows


def _check_memory(needed: int) -> None:
    """Refuse what would fill the main memory."""
    free = free_memory(torch.device("cpu"))
    if needed > free:
        raise UsageError(
            "Objects are found in whole rows, and those of this frame are too large",
            found=f"{free / 1e9:.1f} GB of free memory",
            expected=f"{needed / 1e9:.1f} GB",
            hint="Ask for --kind labels or probabilities, or use a machine with more "
            "memory.",
        )
