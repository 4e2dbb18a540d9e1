"""Stream frames through a network, in strips where a frame is too wide."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from napari_unet.errors import DeviceError, ModelError
from napari_unet.events import Stopped
from napari_unet.inference import tiling
from napari_unet.inference.backoff import SHORT_BEFORE
from napari_unet.inference.pipeline import Piece, read, read_ahead
from napari_unet.inference.streaming.stream import Stream, Streamed
from napari_unet.inference.tiling import Span
from napari_unet.networks import device as devices
from napari_unet.networks.graph import UnknownLayerError, read_graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_unet.events import CancelToken
    from napari_unet.images.intensity import Scaling
    from napari_unet.inference.job import Job
    from napari_unet.inference.tiling import Range

    Box = tuple[Range, ...]
    Part = tuple[Box, torch.Tensor]


class Strips:
    """Gives the logits of frames, rows after rows.

    When the memory is short, fewer rows go through at a time, then strips become
    narrower, and at last the network moves to the CPU. Work goes on behind the last
    finished row; the result stays the same.

    Parameters
    ----------
    job : Job
        With a plan to stream.
    scaling : Scaling
        Intensity scaling.
    cancel : CancelToken
        Checked between pieces.
    reduced : int, optional
        Rows at a time that an earlier run with this plan came to.

    Attributes
    ----------
    reduced : int or None
        Rows at a time that the device has room for, None where those of the plan fit.
    """

    def __init__(
        self,
        job: Job,
        scaling: Scaling,
        cancel: CancelToken,
        reduced: int | None = None,
    ) -> None:
        self._job = job
        self._scaling = scaling
        self._cancel = cancel
        self._network = job.placed
        self._on_cpu = job.placed.device.type == "cpu"
        self._chunk = reduced or job.plan.chunk
        self.reduced = reduced
        self._notes = [] if reduced is None else [SHORT_BEFORE]
        self._finite = True

    def frame(
        self,
        position: Mapping[str, int],
        strip: int = 0,
        row: int | None = None,
        *,
        until: int | None = None,
    ) -> Iterator[list[Part]]:
        """Compute one frame.

        Parameters
        ----------
        position : mapping of str to int
            The frame's position along the looped axes.
        strip, row : int
            Where to begin, with the very values of a run from the first row on.
        until : int, optional
            Row at which a strip may end. Parts then have the rows of those of a run
            from the first row on; the rows before `row` in them are of no use.

        Yields
        ------
        list
            After each piece of rows: where finished logits lie in the frame, and the
            logits (C, *spatial).

        Raises
        ------
        ModelError
            If the network fails, or its output has another shape than it should.
        DeviceError
            If the memory is too small for the narrowest strip.
        Stopped
            If the work is cancelled.
        """
        waiting = self._job.plan.boxes()[strip:][::-1]
        while waiting:
            box = waiting.pop()
            begin, row = box[0][0] if row is None else row, None
            rest = ((begin, box[0][1]), *box[1:])
            try:
                for parts in self._strip(position, box, begin, until):
                    yield parts
                    for write, _ in parts:
                        rest = ((write[0][1], box[0][1]), *box[1:])
            except _ShortError:
                waiting += self._smaller(rest)[::-1]

    def take_notes(self) -> list[str]:
        """Return what the user should be told since the last call."""
        notes, self._notes = self._notes, []
        return notes

    @cached_property
    def _streamed(self) -> Streamed:
        return Streamed(read_graph(self._network.module, self._network.spec.ndim))

    def _strip(
        self, position: Mapping[str, int], box: Box, begin: int, until: int | None
    ) -> Iterator[list[Part]]:
        """Compute the rows of a strip from `begin` on, to `until` at least."""
        end = box[0][1] if until is None else min(until, box[0][1])
        plan = self._job.plan
        around = tiling.extent_span if plan.exact else tiling.whole_span
        rows = box[0] if plan.begin is None else plan.spans[0][0].write
        axes = zip(plan.grids, plan.size, (rows, *box[1:]), strict=True)
        spans = tuple(around(*axis) for axis in axes)
        stream, ranges = self._begin(spans[0], begin)
        wanted = (begin if until is None else box[0][0], box[0][1])
        kept = (replace(spans[0], write=wanted), *spans[1:])
        with closing(read_ahead(self._pieces(position, spans, ranges))) as ahead:
            for piece in ahead:
                if self._cancel.is_set():
                    raise Stopped("stopped before the end of a frame")
                parts: list[Part] = []
                found = self._push(stream, piece)
                row = spans[0].read[0] + spans[0].margin + stream.stop
                row -= sum(logits.shape[1] for logits in found)
                for logits in found:
                    parts += self._cropped(logits, row, kept)
                    row += logits.shape[1]
                yield parts
                if row >= end:
                    return

    def _begin(self, span: Span, row: int) -> tuple[Stream, list[Range]]:
        """Return a stream that goes on at a row, and the pieces of rows it wants.

        Where others came before, only what the row depends on is computed again.
        """
        start, stop = span.read
        stream, ranges = (
            self._stream(stop - start),
            tiling.pieces(*span.read, self._chunk),
        )
        if row == span.write[0]:
            return stream, ranges
        first = start + stream.needed(row - start - span.margin)
        while ranges[0][1] <= first:
            begin, end = ranges.pop(0)
            stream.skip(end - begin)
        return stream, ranges

    def _stream(self, length: int) -> Stream:
        try:
            return Stream(self._streamed, length, self._chunk)
        except UnknownLayerError as error:
            raise ModelError(
                "The network cannot be streamed over this frame",
                found=str(error),
                hint="Use --tiling exact.",
            ) from error

    def _pieces(
        self,
        position: Mapping[str, int],
        spans: tuple[Span, ...],
        ranges: Sequence[Range],
    ) -> Iterator[Piece]:
        """Read rows of a strip, some at a time."""
        for start, stop in ranges:
            part = (Span((start, stop), spans[0].write), *spans[1:])
            pixels = read(
                *(self._job.stack, self._job.layout, position, part, self._scaling)
            )
            yield Piece(position, (), part, pixels)

    @torch.inference_mode()
    def _push(self, stream: Stream, piece: Piece) -> list[torch.Tensor]:
        """Send rows through the network and return finished logits (C, *spatial)."""
        try:
            pixels = self._network.to_input(piece.pixels[None])
            found = [logits[0].float() for logits in stream.push(pixels)]
        except (RuntimeError, ValueError, MemoryError) as error:
            if devices.is_out_of_memory(error):
                raise _ShortError from error
            raise ModelError(
                "The network cannot be streamed over this frame",
                found=str(error).partition("\n")[0],
                hint="Use --tiling exact.",
            ) from error
        for logits in found:
            self._check(logits, piece.spans)
        return found

    def _check(self, logits: torch.Tensor, spans: tuple[Span, ...]) -> None:
        """Refuse an output of an unforeseen shape, tell of an unusable one."""
        expected = [self._network.spec.out_channels, *(s.length for s in spans[1:])]
        found = [logits.shape[0], *logits.shape[2:]]
        if found != expected:
            raise ModelError(
                "The network's output has another shape than its description says",
                found=" x ".join(map(str, found)),
                expected=" x ".join(map(str, expected)),
            )
        if self._finite and not bool(torch.isfinite(logits).all()):
            self._finite = False
            self._notes.append("The network gives NaN or infinite values.")

    @staticmethod
    def _cropped(logits: torch.Tensor, row: int, spans: tuple[Span, ...]) -> list[Part]:
        """Keep what is wanted of rows from `row` on."""
        first, last = spans[0].write
        start, stop = max(row, first), min(row + logits.shape[1], last)
        if start >= stop:
            return []
        kept = logits[(slice(None), slice(start - row, stop - row))]
        kept = kept[(slice(None), slice(None), *(s.crop for s in spans[1:]))]
        return [(((start, stop), *(s.write for s in spans[1:])), kept)]

    def _smaller(self, box: Box) -> list[Box]:
        """Step back, and return the strips in which the rest of `box` is computed."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        grids = self._job.plan.grids
        if self._chunk > grids[0].stride:
            self._chunk = self.reduced = grids[0].up(self._chunk // 2)
            self._notes.append(
                f"The device is short of memory: {self._chunk} rows at a time."
            )
            return [box]
        gains = [
            (b - a) / g.smallest for g, (a, b) in zip(grids[1:], box[1:], strict=True)
        ]
        axis = 1 + gains.index(max(gains))
        if self._job.plan.exact and max(gains) > 1:
            self._notes.append("The device is short of memory: narrower strips.")
            start, stop = box[axis]
            middle = grids[axis].up((start + stop) // 2)
            halves = (start, middle), (middle, stop)
            return [(*box[:axis], half, *box[axis + 1 :]) for half in halves]
        return [self._to_cpu(box)]

    def _to_cpu(self, box: Box) -> Box:
        if self._on_cpu:
            raise DeviceError(
                "The memory is too small for the narrowest strip of this network",
                found=" x ".join(str(b - a) for a, b in box),
                hint="Close other programs, or use --tiling blend with a small --tile.",
            )
        self._network = self._job.network.place("cpu", "float32")
        self._on_cpu = True
        self.__dict__.pop("_streamed", None)
        self._chunk = self._job.plan.chunk
        self._notes.append("The device is out of memory: going on with the CPU.")
        return box


class _ShortError(Exception):
    """The device's memory is too small."""
