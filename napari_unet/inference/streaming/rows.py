"""Rows of a layer's output that later layers still need.

A row is everything at one position along the streamed axis: a line of a plane, a plane
of a volume.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from napari_unet.inference.tiling import mirror

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Fill = float | str
"""What lies outside the frame: a number, or ``"reflect"`` or ``"replicate"``."""


class Rows(ABC):
    """Rows along one axis, of which the first are forgotten again.

    Parameters
    ----------
    dim : int
        Dimension of the tensors that the rows are stacked along.
    length : int
        Rows there will be in all.

    Attributes
    ----------
    sound : int
        First row that may be read. Rows before it were not computed, because an
        earlier run has finished what depends on them.
    """

    sound = 0

    def __init__(self, dim: int, length: int) -> None:
        self.dim = dim
        self.length = length

    @property
    @abstractmethod
    def stop(self) -> int:
        """Row after the last that is there."""

    @abstractmethod
    def drop(self, start: int) -> None:
        """Forget all rows before `start`."""

    @abstractmethod
    def _view(self, start: int, stop: int) -> Tensor | None:
        """Rows that lie together in memory, None where they do not."""

    @abstractmethod
    def _empty(self, count: int) -> Tensor:
        """Room for `count` rows."""

    @abstractmethod
    def _copy(self, start: int, stop: int, out: Tensor) -> None:
        """Copy rows to `out`."""

    def take(self, start: int, stop: int, fill: Fill = 0.0) -> Tensor:
        """Return rows `start` to `stop`, which may reach outside the frame.

        They may share memory with the rows kept here. Rows that were not computed are
        0, and so is what a layer makes of them of no use.
        """
        if isinstance(fill, str) and not 0 <= start <= stop <= self.length:
            return self._continued(start, stop, fill)
        count = stop - start
        before = min(max(-start, 0), count)
        after = min(max(stop - self.length, 0), count)
        view = None if before or after else self._view(start, stop)
        if view is not None:
            return view
        out = self._empty(count)
        if start < self.sound:
            out.zero_()
        if not isinstance(fill, str):
            out.narrow(self.dim, 0, before).fill_(fill)
            out.narrow(self.dim, count - after, after).fill_(fill)
        inside = out.narrow(self.dim, before, count - before - after)
        self._copy(start + before, stop - after, inside)
        return out

    def _continued(self, start: int, stop: int, fill: str) -> Tensor:
        """Rows with those outside made of rows inside, as torch's padding does."""
        if fill == "reflect":
            wanted = torch.from_numpy(mirror(start, stop, self.length))
        else:
            wanted = torch.arange(start, stop).clamp(0, self.length - 1)
        low = int(wanted.min())
        rows = self.take(low, int(wanted.max()) + 1)
        return rows.index_select(self.dim, (wanted - low).to(rows.device))


class Queue(Rows):
    """Rows that a layer has computed."""

    def __init__(self, dim: int, length: int) -> None:
        super().__init__(dim, length)
        self._parts: list[tuple[int, Tensor]] = []
        self._stop = 0

    @property
    def stop(self) -> int:
        """Row after the last that is there."""
        return self._stop

    def skip(self, count: int) -> None:
        """Count the next rows without computing them."""
        self._stop += count
        self.sound = self._stop

    def append(self, rows: Tensor) -> None:
        """Add the next rows."""
        self._parts.append((self._stop, rows))
        self._stop += rows.shape[self.dim]

    def drop(self, start: int) -> None:
        """Forget all rows before `start`.

        What is left of a part is copied where it is the smaller half, because a view
        would keep all of the part in memory.
        """
        kept = []
        for first, part in self._parts:
            count = part.shape[self.dim]
            left = first + count - max(first, start)
            if left <= 0:
                continue
            if left < count:
                part = part.narrow(self.dim, count - left, left)
                part = part.clone() if 2 * left < count else part
            kept.append((first + count - left, part))
        self._parts = kept

    def pop(self) -> Tensor | None:
        """Take all rows out."""
        if not self._parts:
            return None
        rows = self.take(self._parts[0][0], self._stop)
        self._parts = []
        return rows

    def _view(self, start: int, stop: int) -> Tensor | None:
        for first, part in self._parts:
            if first <= start and stop <= first + part.shape[self.dim]:
                return part.narrow(self.dim, start - first, stop - start)
        return None

    def _empty(self, count: int) -> Tensor:
        return empty_like(self._parts[0][1], self.dim, count)

    def _copy(self, start: int, stop: int, out: Tensor) -> None:
        for first, part in self._parts:
            low, high = max(start, first), min(stop, first + part.shape[self.dim])
            if low < high:
                target = out.narrow(self.dim, low - start, high - low)
                target.copy_(part.narrow(self.dim, low - first, high - low))


class Joined(Rows):
    """Channels of several layers side by side, put together when they are read."""

    def __init__(self, dim: int, length: int, sources: Sequence[Rows]) -> None:
        super().__init__(dim, length)
        self._sources = sources
        self.start = 0

    @property
    def stop(self) -> int:
        """Row after the last that all sources have."""
        return min(source.stop for source in self._sources)

    @property
    def sound(self) -> int:  # type: ignore[override]
        """First row that may be read of all sources."""
        return max(source.sound for source in self._sources)

    def drop(self, start: int) -> None:
        """Remember what is not needed any more."""
        self.start = start

    def _view(self, start: int, stop: int) -> Tensor | None:
        return None

    def _empty(self, count: int) -> Tensor:
        rooms = [source._empty(0) for source in self._sources]
        width = sum(room.shape[1] for room in rooms)
        return empty_like(rooms[0], self.dim, count, width)

    def _copy(self, start: int, stop: int, out: Tensor) -> None:
        first = 0
        for source in self._sources:
            width = source._empty(0).shape[1]
            source._copy(start, stop, out.narrow(1, first, width))
            first += width


def empty_like(part: Tensor, dim: int, count: int, width: int | None = None) -> Tensor:
    """Return room for `count` rows beside those of `part`, laid out alike."""
    shape = list(part.shape)
    shape[dim] = count
    shape[1] = shape[1] if width is None else width
    last = torch.channels_last if part.ndim == 4 else torch.channels_last_3d
    is_last = part.stride(1) == 1 and part.shape[1] > 1
    layout = last if is_last else torch.contiguous_format
    return torch.empty(
        shape, dtype=part.dtype, device=part.device, memory_format=layout
    )
