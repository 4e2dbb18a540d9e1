"""Run a network over an image, of any size and in any order of axes."""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from napari_unet.events import (
    Cancelled,
    CancelToken,
    Finished,
    Preview,
    Progress,
    Started,
    Stopped,
    Warned,
)
from napari_unet.inference import by_recipe, precision
from napari_unet.inference.augmented import augmented
from napari_unet.inference.backoff import Runner
from napari_unet.inference.finish import Blend, assemble
from napari_unet.inference.job import Advance, Job, measure, prepare
from napari_unet.inference.pipeline import batches, pieces, read_ahead
from napari_unet.inference.spread import spread
from napari_unet.inference.strips import Strips

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    import numpy as np

    from napari_unet.config import PredictConfig
    from napari_unet.events import Event
    from napari_unet.images.intensity import Scaling
    from napari_unet.images.sinks import Sink
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.layout import Region
    from napari_unet.inference.pipeline import Piece
    from napari_unet.inference.tiling import Range
    from napari_unet.networks.network import Network
    from napari_unet.networks.spec import Assumption, ModelSpec


def predict(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    sink: Sink,
    *,
    region: Region | None = None,
    scaling: Scaling | None = None,
    measure: Callable[[Job, CancelToken], Scaling] = measure,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a network over an image and write the result to a sink.

    Between two events other runs of the same network may be done, whole or in part;
    neither changes the values of the other. They wait for one piece at most, for the
    measuring of the intensities, or for objects that are found in a whole frame.

    Parameters
    ----------
    stack, network, config, region
        As in `prepare`. An axis that `region` gives an integer is dropped; the values
        are those of the whole run, but objects are numbered anew.
    sink : Sink
        Takes the result: frames (T and others), Z, C, Y, X; labels have no C.
    scaling : Scaling, optional
        Intensity scaling, measured over the whole stack when not given.
    measure : callable
        Measures it.
    cancel : CancelToken, optional
        Checked between tiles.

    Yields
    ------
    Event
        `Started`, `Warned`, a `Preview` for each finished block, `Progress` for each
        tile, and at last `Finished` with what the sink returns, or `Cancelled`.

    Raises
    ------
    UNetError
        If something does not fit, or reading, computing or writing fails. The sink is
        aborted then, and nothing is left behind.
    """
    cancel = cancel or CancelToken()
    if network.spec.recipe is not None:
        yield from _by_recipe(stack, network, config, sink, region, cancel)
        return
    job = prepare(stack, network, config, region)
    yield Started(f"{stack.name}: {job.plan.describe()}", job.total, "tiles")
    yield from (Warned(note) for note in _notes(stack, network.spec))
    try:
        scaling = scaling or measure(job, cancel)
        yield from (Warned(note) for note in scaling.notes)
        job, notes = precision.settle(job, scaling)
        job = job.accelerated()
        yield from (Warned(note) for note in (*notes, *_unused(job)))
        with _aborting(sink):
            sink.open(job.output(scaling))
            yield from _run(job, sink, scaling, cancel)
            result = sink.close()
    except Stopped as stopped:
        yield Cancelled(str(stopped))
        return
    yield Finished(result)


def _by_recipe(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    sink: Sink,
    region: Region | None,
    cancel: CancelToken,
) -> Iterator[Event]:
    """Run a network that was trained with a fixed procedure around it."""
    notes = _notes(stack, network.spec)
    try:
        with _aborting(sink):
            yield from by_recipe.predict(
                *(stack, network, config, sink),
                region=region,
                cancel=cancel,
                notes=notes,
            )
            result = sink.close()
    except Stopped as stopped:
        yield Cancelled(str(stopped))
        return
    yield Finished(result)


def _run(
    job: Job, sink: Sink, scaling: Scaling, cancel: CancelToken
) -> Iterator[Event]:
    """Compute and write all pieces."""
    with closing(_computed(job, scaling, cancel)) as advances:
        for done, advance in enumerate(advances, 1):
            yield from (Warned(note) for note in advance.notes)
            for write, block in _finished(job, advance):
                region, values = job.layout.place(advance.position, write, block)
                sink.write(region, values)
                yield Preview(region, values)
            yield from (Warned(note) for note in job.finisher.notes)
            job.finisher.notes.clear()
            yield Progress(min(done, job.total), job.total, "tiles")


def _computed(job: Job, scaling: Scaling, cancel: CancelToken) -> Generator[Advance]:
    """Work through frames as the settings say."""
    if job.config.tta == "none":
        return _plain(job, scaling, cancel)
    return augmented(job, scaling, cancel, _plain)


def _plain(job: Job, scaling: Scaling, cancel: CancelToken) -> Generator[Advance]:
    """Work through frames as they are."""
    way = _streamed if job.plan.way == "stream" else _tiled
    return way(job, scaling, cancel)


def _streamed(job: Job, scaling: Scaling, cancel: CancelToken) -> Generator[Advance]:
    """Work through frames rows by rows."""
    strips = Strips(job, scaling, cancel)
    for position in job.layout.positions():
        for parts in strips.frame(position):
            yield Advance(position, parts, False, strips.take_notes())
        yield Advance(position, [], True, strips.take_notes())


def _tiled(job: Job, scaling: Scaling, cancel: CancelToken) -> Generator[Advance]:
    """Work through frames tile by tile, read ahead and batched."""
    runners = [_runner(job, placed) for placed in (job.placed, *job.others)]
    blend = Blend(job.plan, job.network.spec.out_channels)
    last = [len(spans) - 1 for spans in job.plan.spans]
    reading = pieces(job.stack, job.layout, job.plan, scaling)
    with closing(read_ahead(reading)) as ahead:
        grouped = batches(ahead, lambda: min(runner.batch for runner in runners))
        watched = _watched(grouped, cancel, job.total)
        with closing(spread(watched, runners, job.placed.device)) as computed:
            for piece, logits in computed:
                parts = assemble(job.plan, piece, logits, blend)
                notes = [note for runner in runners for note in runner.take_notes()]
                ends = list(piece.index) == last
                yield Advance(piece.position, parts, ends, notes)


def _runner(job: Job, placed: Network) -> Runner:
    """Make what computes tiles on one device."""
    on_cpu = placed.device.type == "cpu"
    spare = None if on_cpu else partial(job.network.place, "cpu", "float32")
    return Runner(placed, job.plan, job.batch, spare)


def _watched(
    grouped: Iterable[list[Piece]], cancel: CancelToken, total: int
) -> Iterator[list[Piece]]:
    """Hand out batches until it is cancelled."""
    done = 0
    for batch in grouped:
        if cancel.is_set():
            raise Stopped(f"stopped after {done} of {total} tiles")
        yield batch
        done += len(batch)


def _finished(
    job: Job, advance: Advance
) -> Iterator[tuple[tuple[Range, ...], np.ndarray]]:
    """Blocks of the frame that are final now."""
    for write, logits in advance.parts:
        yield from job.finisher.add(write, logits)
    if advance.ends_frame:
        yield from job.finisher.end_frame()


@contextmanager
def _aborting(sink: Sink) -> Iterator[None]:
    """Leave nothing behind if anything fails, is stopped or is dropped."""
    try:
        yield
    except BaseException:
        sink.abort()
        raise


def _unused(job: Job) -> list[str]:
    """Say that a backend is not used."""
    backend = job.config.backend
    if job.plan.way != "stream" or backend in ("auto", "eager"):
        return []
    return [
        f"The backend {backend} is not used, since frames stream through the layers "
        "one by one; --tiling exact or blend uses it."
    ]


def _notes(stack: ImageStack, spec: ModelSpec) -> list[str]:
    """Gather what the user should know about the image and the model."""
    return [*stack.notes, *(_assumed(a) for a in spec.assumed)]


def _assumed(fact: Assumption) -> str:
    """One assumption in a sentence."""
    others = ", ".join(map(str, fact.alternatives))
    text = f"The checkpoint does not tell {fact.field}; {fact.value} is assumed"
    text += f" (others: {others})" if others else ""
    return f"{text}. {fact.reason}".rstrip()
