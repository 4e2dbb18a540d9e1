"""Run a network over an image, of any size and in any order of axes."""

from __future__ import annotations

from contextlib import closing, contextmanager
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.errors import UsageError
from napari_unet.events import (
    Cancelled,
    CancelToken,
    Finished,
    Progress,
    Started,
    Stopped,
    Warned,
)
from napari_unet.inference import precision, ways
from napari_unet.inference.job import Job, measure, prepare
from napari_unet.inference.order import from_view
from napari_unet.inference.recipes import by_recipe
from napari_unet.inference.resuming.decisions import Decisions
from napari_unet.inference.resuming.delivery import deliver, replay
from napari_unet.inference.resuming.keeper import keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from napari_unet.config import PredictConfig
    from napari_unet.events import Event
    from napari_unet.images.intensity import Scaling
    from napari_unet.images.sinks import Sink
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.layout import Region
    from napari_unet.inference.probabilities import Probabilities
    from napari_unet.inference.resuming.keeper import Keeper
    from napari_unet.inference.resuming.reached import Reached
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
    view: Region | None = None,
    probabilities: Probabilities | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a network over an image and write the result to a sink.

    Between two events other runs of the same network may be done, whole or in part;
    neither changes the values of the other. They wait for one piece at most, for the
    measuring of the intensities, or for objects that are found in a whole frame.

    Where the sink writes a file, what is finished is kept beside it until the result is
    complete. A run that was stopped or killed goes on from there the next time, with
    the bytes of a run that was not; see `napari_unet.inference.resuming`.

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
    view : mapping of str to int or slice, optional
        What somebody looks at, in voxels: the run goes outwards from there as far as it
        can, see `napari_unet.inference.order`. Only for a sink that takes regions in
        any order.
    probabilities : Probabilities, optional
        Takes the probabilities beside the result, from the same pass.
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
        aborted then; what is finished stays only where trying again may help.
    """
    cancel = cancel or CancelToken()
    kept = keeper(sink, stack, network, config, region, scaling, view, probabilities)
    try:
        with kept:
            if network.spec.recipe is not None:
                work = _by_recipe(
                    *(stack, network, config, sink, region, view, kept, probabilities),
                    cancel,
                )
            else:
                job = _prepared(stack, network, config, region, kept)
                job = replace(job, beside=probabilities)
                job = job if view is None else from_view(job, view)
                known = None if scaling is None else lambda *_: scaling
                work = _by_plan(job, sink, known or measure, kept, cancel)
            result = yield from work
    except Stopped as stopped:
        yield Cancelled(kept.advice(str(stopped)))
        return
    yield Finished(result)


def _prepared(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    region: Region | None,
    kept: Keeper,
) -> Job:
    """Prepare with the plan of the run that goes on, if the memory still allows it."""
    if kept.past is not None:
        try:
            return prepare(stack, network, config, region, kept.past.memory)
        except UsageError:
            kept.begin_anew("the memory is too short for its plan")
    return prepare(stack, network, config, region)


def _by_plan(
    job: Job,
    sink: Sink,
    measure: Callable[[Job, CancelToken], Scaling],
    kept: Keeper,
    cancel: CancelToken,
) -> Generator[Event, None, Any]:
    """Run a network over frames that are planned beforehand."""
    yield Started(f"{job.stack.name}: {job.plan.describe()}", job.total, "tiles")
    notes = [*notes_on(job.stack, job.network.spec), *kept.take_notes()]
    yield from (Warned(note) for note in notes)
    past = kept.past
    scaling = past.scaling if past else measure(job, cancel)
    yield from (Warned(note) for note in scaling.notes)
    job, notes = (past.settle(job), []) if past else precision.settle(job, scaling)
    job = job.accelerated()
    yield from (Warned(note) for note in (*notes, *_unused(job)))
    with _aborting(sink, job.beside):
        sink.open(job.output(scaling))
        if job.beside is not None:
            job.beside.open(job, scaling)
        reached = ways.start(job)
        kept.begin(Decisions.of(job, scaling), reached)
        yield from replay(job, sink, kept, reached, cancel)
        yield from _run(job, sink, scaling, kept, reached, cancel)
        return _closed(sink, job.beside)


def _by_recipe(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    sink: Sink,
    region: Region | None,
    view: Region | None,
    kept: Keeper,
    beside: Probabilities | None,
    cancel: CancelToken,
) -> Generator[Event, None, Any]:
    """Run a network that was trained with a fixed procedure around it."""
    notes = [*notes_on(stack, network.spec), *kept.take_notes()]
    with _aborting(sink, beside):
        yield from by_recipe.predict(
            *(stack, network, config, sink, kept),
            region=region,
            view=view,
            beside=beside,
            cancel=cancel,
            notes=notes,
        )
        return _closed(sink, beside)


def _run(
    job: Job,
    sink: Sink,
    scaling: Scaling,
    kept: Keeper,
    reached: Reached,
    cancel: CancelToken,
) -> Iterator[Event]:
    """Compute and write all pieces that are not finished."""
    begun = 1 + int(reached.share * job.total)
    with closing(ways.computed(job, scaling, copy(reached), cancel)) as advances:
        for done, advance in enumerate(advances, begun):
            yield from (Warned(note) for note in advance.notes)
            for write, logits in advance.parts:
                part = write, job.reduce(logits)
                kept.add(*part)
                yield from deliver(job, sink, advance.position, part)
            if advance.ends_frame:
                yield from deliver(job, sink, advance.position, None, True)
            notes = [*job.finisher.notes, *kept.take_notes()]
            job.finisher.notes.clear()
            yield from (Warned(note) for note in notes)
            yield Progress(min(done, job.total), job.total, "tiles")


@contextmanager
def _aborting(sink: Sink, beside: Probabilities | None) -> Iterator[None]:
    """Leave nothing behind if anything fails, is stopped or is dropped."""
    try:
        yield
    except BaseException:
        sink.abort()
        if beside is not None:
            beside.abort()
        raise


def _closed(sink: Sink, beside: Probabilities | None) -> Any:
    """Complete what was written, the result last, and return what its sink does."""
    if beside is not None:
        beside.close()
    return sink.close()


def _unused(job: Job) -> list[str]:
    """Say that a backend is not used."""
    backend = job.config.backend
    if job.plan.way != "stream" or backend in ("auto", "eager"):
        return []
    return [
        f"The backend {backend} is not used, since frames stream through the layers "
        "one by one; --tiling exact or blend uses it."
    ]


def notes_on(stack: ImageStack, spec: ModelSpec) -> list[str]:
    """Gather what the user should know about the image and the model."""
    return [*stack.notes, *(_assumed(a) for a in spec.assumed)]


def _assumed(fact: Assumption) -> str:
    """One assumption in a sentence."""
    others = ", ".join(map(str, fact.alternatives))
    text = f"The checkpoint does not tell {fact.field}; {fact.value} is assumed"
    text += f" (others: {others})" if others else ""
    return f"{text}. {fact.reason}".rstrip()
