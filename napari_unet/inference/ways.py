"""The ways to compute the frames of a job: streamed or in tiles, turned or as they are.

Each begins at a place that an earlier run has reached.
"""

from __future__ import annotations

import itertools
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_unet.events import Stopped
from napari_unet.inference import shared
from napari_unet.inference.augmented import augmented
from napari_unet.inference.backoff import Runner
from napari_unet.inference.finish import Blend, assemble
from napari_unet.inference.job import Advance
from napari_unet.inference.pipeline import batches, pieces, read_ahead
from napari_unet.inference.resuming.reached import Reached
from napari_unet.inference.spread import spread
from napari_unet.inference.strips import Strips

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from napari_unet.events import CancelToken
    from napari_unet.images.intensity import Scaling
    from napari_unet.inference.job import Job
    from napari_unet.inference.pipeline import Piece
    from napari_unet.inference.plan import Plan
    from napari_unet.networks.network import Network


def start(job: Job) -> Reached:
    """Return the place before the first part of a job."""
    if job.config.tta == "none":
        return Reached.none(job.plan, job.layout)
    return Reached([job.layout.target], job.layout.frames)


def computed(
    job: Job,
    scaling: Scaling,
    reached: Reached,
    cancel: CancelToken,
    until: int | None = None,
) -> Generator[Advance]:
    """Work through frames as the settings say.

    Parameters
    ----------
    job : Job
        The prediction.
    scaling : Scaling
        Intensity scaling.
    reached : Reached
        Where to begin; stays there.
    cancel : CancelToken
        Checked between pieces.
    until : int, optional
        Row behind which nothing of a frame is wanted. Parts are then those of a run
        from the first row on; the rows before `reached` in them are of no use.

    Raises
    ------
    UNetError
        If reading or computing fails.
    Stopped
        If it is cancelled.
    """
    if job.config.tta == "none":
        return _plain(job, scaling, reached, cancel, until)

    def way(part: Job) -> Generator[Advance]:
        return _plain(part, scaling, Reached.none(part.plan, part.layout), cancel)

    return augmented(job, reached, way)


def _plain(
    job: Job,
    scaling: Scaling,
    reached: Reached,
    cancel: CancelToken,
    until: int | None = None,
) -> Generator[Advance]:
    """Work through frames as they are."""
    if job.plan.way == "stream":
        return _streamed(job, scaling, reached, cancel, until)
    return _tiled(job, scaling, reached, cancel)


def _streamed(
    job: Job,
    scaling: Scaling,
    reached: Reached,
    cancel: CancelToken,
    until: int | None,
) -> Generator[Advance]:
    """Work through frames rows by rows."""
    strips = Strips(job, scaling, cancel, _reduced(job, job.placed))
    begin: tuple[int, ...] = reached.box, reached.row
    with _remembering(job, strips):
        for position in itertools.islice(job.layout.positions(), reached.frame, None):
            for parts in strips.frame(position, *begin, until=until):
                yield Advance(position, parts, False, strips.take_notes())
            yield Advance(position, [], True, strips.take_notes())
            begin = ()


def _tiled(
    job: Job, scaling: Scaling, reached: Reached, cancel: CancelToken
) -> Generator[Advance]:
    """Work through frames tile by tile, read ahead and batched.

    Tiles before the place that shared a batch or rows of patches are computed once
    more, so that all sums are made alike.
    """
    runners = [_runner(job, placed) for placed in (job.placed, *job.others)]
    blend = Blend(job.plan, job.network.spec.out_channels)
    is_blended = job.plan.way == "blend"
    first = _first_tile(job.plan, reached)
    begin = first - first % job.batch
    reading = pieces(job.stack, job.layout, job.plan, scaling, begin)
    with closing(read_ahead(reading)) as ahead, _remembering(job, *runners):
        grouped = batches(ahead, lambda: min(runner.batch for runner in runners))
        watched = _watched(grouped, cancel, begin, job.total)
        with closing(spread(watched, runners, job.placed.device)) as logits_of:
            for number, (piece, logits) in enumerate(logits_of, begin):
                if number < first:
                    continue
                parts = assemble(job.plan, piece, logits, blend)
                if is_blended and number // job.plan.pieces == reached.frame:
                    parts = [part for part in parts if part[0][0][1] > reached.row]
                notes = [note for runner in runners for note in runner.take_notes()]
                ends = (number + 1) % job.plan.pieces == 0
                yield Advance(piece.position, parts, ends, notes)


def _first_tile(plan: Plan, reached: Reached) -> int:
    """Return the number of the first tile that a place needs."""
    done = reached.frame * plan.pieces
    if plan.way != "blend":
        return done + reached.box
    rows = sum(span.write[1] <= reached.row for span in plan.spans[0])
    return done + rows * (plan.pieces // len(plan.spans[0]))


def _runner(job: Job, placed: Network) -> Runner:
    """Make what computes tiles on one device."""
    on_cpu = placed.device.type == "cpu"
    spare = None if on_cpu else partial(job.network.place, "cpu", "float32")
    return Runner(placed, job.plan, job.batch, spare, _reduced(job, placed))


def _reduced(job: Job, placed: Network) -> Any:
    """Return what earlier runs came to on a device."""
    return shared.reduced(job.network, str(placed.device), job.plan)


@contextmanager
def _remembering(job: Job, *workers: Runner | Strips) -> Iterator[None]:
    """Let the next run begin with pieces that fit."""
    devices = [str(placed.device) for placed in (job.placed, *job.others)]
    try:
        yield
    finally:
        for device, worker in zip(devices, workers, strict=False):
            shared.remember(job.network, device, job.plan, worker.reduced)


def _watched(
    grouped: Iterable[list[Piece]], cancel: CancelToken, done: int, total: int
) -> Iterator[list[Piece]]:
    """Hand out batches until it is cancelled."""
    for batch in grouped:
        if cancel.is_set():
            raise Stopped(f"stopped after {done} of {total} tiles")
        yield batch
        done += len(batch)
