"""From logits of tiles to finished blocks of a frame, for each kind of result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from napari_unet.errors import UsageError
from napari_unet.images.sinks import label_dtype
from napari_unet.inference.blending import RollingSum, weigh
from napari_unet.inference.objects import RowQueue, Slabs
from napari_unet.networks.device import free_memory
from napari_unet.tasks.task import probabilities, task_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from napari_unet.config import PredictConfig
    from napari_unet.inference.pipeline import Piece
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.tiling import Range
    from napari_unet.networks.spec import ModelSpec

    Part = tuple[tuple[Range, ...], torch.Tensor]
    Block = tuple[tuple[Range, ...], np.ndarray]

_WATERSHED_BYTES = 48
"""Working memory of the object search per pixel: label images, float64 copy, queue."""


def assemble(
    plan: Plan, piece: Piece, logits: torch.Tensor, blend: Blend
) -> list[Part]:
    """Return the parts of a frame whose logits are final now that `piece` is done."""
    if plan.way != "blend":
        return [(tuple(span.write for span in piece.spans), logits)]
    return blend.add(piece, logits)


class Blend:
    """Weighted sum of the logits of overlapping patches, frame after frame.

    Logits and not probabilities are averaged, so labels, probabilities and logits of
    one run agree with each other.
    """

    def __init__(self, plan: Plan, channels: int) -> None:
        self._plan = plan
        self._channels = channels
        self._target = tuple((s[0].write[0], s[-1].write[1]) for s in plan.spans)
        self._sum: RollingSum | None = None

    def add(self, piece: Piece, logits: torch.Tensor) -> list[Part]:
        """Add a patch and give the rows that are finished.

        A frame may begin at a later row of patches; rows of the frame that earlier
        patches touch are then wrong.
        """
        if self._sum is None:
            self._sum = self._new(piece.index[0])
        windows = [w[i] for w, i in zip(self._plan.windows, piece.index, strict=True)]
        block = weigh(logits.cpu().numpy(), windows)
        self._sum.add(block, [span.write for span in piece.spans])
        if any(
            i + 1 < len(spans)
            for i, spans in zip(piece.index[1:], self._plan.spans[1:], strict=True)
        ):
            return []
        return self._finished(self._sum, piece.index[0] + 1)

    def _finished(self, total: RollingSum, row: int) -> list[Part]:
        """Rows that patches from number `row` on do not touch, if there are any."""
        spans = self._plan.spans[0]
        if row < len(spans):
            write, block = total.pop(spans[row].write[0])
        else:
            write, block = total.pop(self._target[0][1])
            self._sum = None
        return [(write, torch.from_numpy(block))] if block.size else []

    def _new(self, row: int) -> RollingSum:
        """Begin a sum at a row of patches."""
        rows = self._plan.spans[0][row].write[0], self._target[0][1]
        target = rows, *self._target[1:]
        return RollingSum(self._channels, self._plan.tile[0], target)


class Reduced(NamedTuple):
    """What is kept of the logits of a part until the result is complete.

    Attributes
    ----------
    own : numpy.ndarray
        What the finisher needs of them.
    beside : numpy.ndarray or None
        Probabilities (C, *spatial) float32, where they are written too.
    """

    own: np.ndarray
    beside: np.ndarray | None = None


class Finisher(Protocol):
    """Makes the blocks of one kind of result.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the result.
    channels : int or None
        Size of its C axis, None where it has none.
    notes : list of str
        What the user should be told.
    """

    dtype: np.dtype[Any]
    channels: int | None
    notes: list[str]

    def reduce(self, logits: torch.Tensor) -> np.ndarray:
        """Return what is needed of the logits (C, *spatial) of a part.

        It is as small as can be, and does not depend on other parts.
        """
        ...

    def add(self, write: tuple[Range, ...], reduced: np.ndarray) -> Iterator[Block]:
        """Finish a part of the current frame."""
        ...

    def end_frame(self) -> Iterator[Block]:
        """Finish what needs the whole frame."""
        ...


class Pointwise:
    """Labels, probabilities or logits: each block is finished at once."""

    def __init__(self, spec: ModelSpec, config: PredictConfig) -> None:
        self.notes: list[str] = []
        self._task = task_of(spec)
        self._activation = spec.activation
        self._kind = config.kind
        self._threshold = config.threshold
        is_labels = config.kind == "labels"
        self.channels = None if is_labels else spec.out_channels
        self.dtype: np.dtype[Any] = (
            label_dtype(self._task.classes()) if is_labels else np.dtype(np.float32)
        )

    def reduce(self, logits: torch.Tensor) -> np.ndarray:
        """Return the values of the result."""
        values: np.ndarray = self._values(logits).cpu().numpy()
        return values.astype(self.dtype, copy=False)

    def add(self, write: tuple[Range, ...], reduced: np.ndarray) -> Iterator[Block]:
        """Nothing is left to do."""
        yield write, reduced

    def end_frame(self) -> Iterator[Block]:
        """Nothing is left to do."""
        yield from ()

    def _values(self, logits: torch.Tensor) -> torch.Tensor:
        if self._kind == "labels":
            return self._task.labels(logits, self._threshold)
        if self._kind == "probabilities":
            return probabilities(logits, self._activation)
        return logits


class Objects:
    """Instances, found while the rows of a frame come.

    Numbers go on from frame to frame, so none occurs twice.

    Raises
    ------
    UsageError
        If the rows of a frame are too large for the memory.
    """

    channels: int | None = None

    def __init__(
        self, spec: ModelSpec, config: PredictConfig, target: Sequence[Range]
    ) -> None:
        self.dtype: np.dtype[Any] = np.dtype(np.uint32)
        self.notes: list[str] = []
        self._task = task_of(spec)
        self._threshold = config.threshold
        self._target = tuple(target)
        self._shape = tuple(stop - start for start, stop in target)
        self._begin(0)

    def reduce(self, logits: torch.Tensor) -> np.ndarray:
        """Return what the object search needs of a part of the frame."""
        return self._task.evidence(logits, self._threshold).cpu().numpy()

    def add(self, write: tuple[Range, ...], reduced: np.ndarray) -> Iterator[Block]:
        """Take a part of the frame, and give the rows whose objects are known."""
        rows = self._rows.add(_within(write, self._target), reduced)
        if rows is None:
            return
        first = self._target[0][0]
        for start, numbers in self._slabs.add(rows):
            span = (first + start, first + start + len(numbers))
            yield (span, *self._target[1:]), numbers

    def end_frame(self) -> Iterator[Block]:
        """Begin the next frame; all rows of this one have left."""
        if self._slabs.was_cut and not self.notes:
            self.notes.append(
                "Some objects hang together over more rows than fit into memory; "
                "branches of one object that meet only later have different numbers."
            )
        self._begin(self._slabs.count)
        yield from ()

    def _begin(self, count: int) -> None:
        self._rows = RowQueue(self._shape)
        self._slabs = Slabs(self._task, self._threshold, self._shape[0], count)


class FrameObjects:
    """Instances that need the whole frame: its evidence is gathered first.

    Numbers go on from frame to frame, so none occurs twice.

    Raises
    ------
    UsageError
        If a frame is too large for the memory.
    """

    channels: int | None = None

    def __init__(
        self, spec: ModelSpec, config: PredictConfig, target: Sequence[Range]
    ) -> None:
        self.dtype: np.dtype[Any] = np.dtype(np.uint32)
        self.notes: list[str] = []
        self._task = task_of(spec)
        self._threshold = config.threshold
        self._target = tuple(target)
        self._shape = tuple(stop - start for start, stop in target)
        self._evidence: np.ndarray | None = None
        self._count = 0
        self._check_memory()

    def reduce(self, logits: torch.Tensor) -> np.ndarray:
        """Return what the object search needs of a part of the frame."""
        return self._task.evidence(logits, self._threshold).cpu().numpy()

    def add(self, write: tuple[Range, ...], reduced: np.ndarray) -> Iterator[Block]:
        """Keep a part of the frame."""
        if self._evidence is None:
            self._evidence = np.empty((len(reduced), *self._shape), reduced.dtype)
        self._evidence[(slice(None), *_within(write, self._target))] = reduced
        yield from ()

    def end_frame(self) -> Iterator[Block]:
        """Part the frame into objects."""
        if self._evidence is None:
            return
        objects = self._task.separate(self._evidence, self._threshold)
        self._evidence = None
        numbers = objects.astype(self.dtype)
        numbers[numbers > 0] += self._count
        self._count += int(objects.max())
        yield self._target, numbers

    def _check_memory(self) -> None:
        """Refuse a frame that would not fit."""
        pixel = self._task.evidence_bytes() + _WATERSHED_BYTES
        needed, free = math.prod(self._shape) * pixel, free_memory(torch.device("cpu"))
        if needed > free:
            raise UsageError(
                "Objects are found in a whole frame at once, and this one is too large",
                found=f"{free / 1e9:.1f} GB of free memory",
                expected=f"{needed / 1e9:.1f} GB",
                hint="Ask for --kind labels or probabilities, or use a machine with "
                "more memory.",
            )


def _within(write: Sequence[Range], target: Sequence[Range]) -> tuple[slice, ...]:
    """Where a part of the frame lies in what is wanted of it."""
    return tuple(
        slice(a - start, b - start)
        for (a, b), (start, _) in zip(write, target, strict=True)
    )


def finisher(
    spec: ModelSpec, config: PredictConfig, target: Sequence[Range]
) -> Finisher:
    """Choose the finisher of a kind of result.

    Raises
    ------
    UsageError
        If the network cannot give this kind, or a frame is too large for it.
    """
    task = task_of(spec)
    task.check(config.kind)
    if config.kind == "instances":
        kind = Objects if task.falls_apart else FrameObjects
        return kind(spec, config, target)
    return Pointwise(spec, config)
