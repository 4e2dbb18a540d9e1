"""Steps: the parts of a network, each with the rows of one frame it has computed."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_unet.errors import UsageError
from napari_unet.inference.streaming.aligned import along
from napari_unet.networks.windows import Align

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_unet.inference.streaming.parts import Part
    from napari_unet.inference.streaming.rows import Queue, Rows


@dataclass
class Step:
    """A part at work on one frame.

    Attributes
    ----------
    part : Part
        What it does.
    sources : sequence of Rows
        Its inputs.
    output : Queue
        Where its rows go.
    most : int
        Rows it computes at a time.
    shifts : tuple of int
        Row of each input that meets row 0 of the output.
    done : int
        Rows computed so far.
    """

    part: Part
    sources: Sequence[Rows]
    output: Queue
    most: int
    shifts: tuple[int, ...] = field(init=False)
    done: int = 0

    def __post_init__(self) -> None:
        self.shifts = (0,) * len(self.sources)
        if self.part.crop is not None:
            source, like = (rows.length for rows in self.sources)
            if not self.part.crop.moves(source, like):
                raise UsageError(
                    "A frame of this length cannot be streamed",
                    found=f"{source} rows that are to be fitted to {like}",
                )
            self.shifts = (self.part.crop.offset(source, like), 0)

    def advance(self) -> bool:
        """Compute the next rows, and tell whether there were any."""
        start, stop = self.done, min(self._ready(), self.done + self.most)
        if stop == start:
            return False
        sound = self._sound(start, stop)
        if sound == stop:
            self.output.skip(stop - start)
        else:
            self.output.append(self._compute(start, stop))
            self.output.sound = sound if sound > start else self.output.sound
        self.done = stop
        return True

    def needed(self, n: int) -> int:
        """Return the first row of input `n` that is still wanted."""
        length = self.sources[n].length
        if self.done == self.output.length:
            return length
        return self.lowest(n, self.done) // self._pitch * self._pitch

    def lowest(self, n: int, row: int) -> int:
        """Return the first row of input `n` that rows from `row` on depend on.

        At least one before the first that need not be there yet, also for rows of a
        bias alone.
        """
        low, high = self._within(n, row)
        low = min(low, high - 1)
        if self.part.fill == "reflect":
            low = min(low, self._within(n, self.output.length - 1)[0])
        return low

    def _sound(self, start: int, stop: int) -> int:
        """Return the first of some rows that does not depend on rows left out."""
        if not any(source.sound for source in self.sources):
            return start
        return bisect_right(range(stop), False, lo=start, key=self._is_sound)

    def _is_sound(self, row: int) -> bool:
        """Whether no row from `row` on depends on rows that were left out."""
        return all(
            source.sound <= self.lowest(n, row) for n, source in enumerate(self.sources)
        )

    @property
    def _pitch(self) -> int:
        """Rows of the input that lie between outputs of the same phase."""
        return self.part.window.pitch.numerator if self.part.pads else 1

    def _ready(self) -> int:
        """Return the number of rows that can be computed from what is there."""
        rows = range(self.output.length)
        return bisect_right(rows, False, lo=self.done, key=self._is_late)

    def _is_late(self, row: int) -> bool:
        """Whether a row depends on some that are not there yet."""
        return any(
            source.stop < self._within(n, row)[1]
            for n, source in enumerate(self.sources)
        )

    def _within(self, n: int, row: int) -> tuple[int, int]:
        """Return the rows of input `n`, in the frame, that a row depends on.

        At least one, of which rows outside are made.
        """
        length = self.sources[n].length
        first, stop = self._reads(n, row, row + 1)
        low, high = min(max(first, 0), length - 1), max(min(stop, length), 1)
        if self.part.fill == "reflect":
            low = min(low, max(2 * length - 1 - stop, 0))
            high = max(high, min(1 - first, length))
        return low, high

    def _reads(self, n: int, start: int, stop: int) -> tuple[int, int]:
        """Return the rows of input `n` that rows `start` to `stop` depend on.

        They may lie outside the frame.
        """
        first, last = self.part.window.reads(start, stop - 1)
        return first + self.shifts[n], last + self.shifts[n] + 1

    def _compute(self, start: int, stop: int) -> Tensor:
        if isinstance(self.part.window, Align):
            return self._aligned(start, stop)
        if self.part.pads:
            return self._cut(start, stop)
        return self.part.call(
            *(
                source.take(*self._reads(n, start, stop), self.part.fill)
                for n, source in enumerate(self.sources)
            )
        )

    def _cut(self, start: int, stop: int) -> Tensor:
        """Run a layer that pads by itself, and keep the rows that are right."""
        source, window = self.sources[0], self.part.window
        first, last = self._reads(0, start, stop)
        origin = min(max(first, 0), source.length - 1) // self._pitch * self._pitch
        end = max(min(last, source.length), origin + 1)
        rows = self.part.call(source.take(origin, end))
        begin = start - origin * window.pitch.denominator // window.pitch.numerator
        if begin == 0 and rows.shape[self.output.dim] == stop - start:
            return rows
        return rows.narrow(self.output.dim, begin, stop - start)

    def _aligned(self, start: int, stop: int) -> Tensor:
        """Enlarge rows whose place depends on the length of the frame."""
        source = self.sources[0]
        low, high = self._reads(0, start, stop)
        low, high = max(low, 0), min(high, source.length)
        rows = self.part.call(source.take(low, high))
        lengths = source.length, self.output.length
        return along(rows, source.dim, low, range(start, stop), lengths)
