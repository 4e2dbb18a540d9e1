"""One prediction by several processes: one begins it, each does slabs, one completes.

What holds for the whole stack is decided once: the plan, the intensity scaling, the
arithmetic. It travels as plain values, the head, to whoever computes a slab. Slabs are
whole chunks of an OME-Zarr folder that nobody else writes.
"""

from __future__ import annotations

import math
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

from napari_unet import disk
from napari_unet.errors import UNetError
from napari_unet.events import Finished, Progress, Started, Warned
from napari_unet.files import flush, place, telling_write_errors
from napari_unet.images.paged_sink import check_whole
from napari_unet.images.zarr_levels import Extremes, complete, create
from napari_unet.images.zarr_sink import ZarrSink
from napari_unet.images.zarr_slab import ZarrSlab, checksum
from napari_unet.inference import precision, ways
from napari_unet.inference.division import Slab, divide
from napari_unet.inference.finish import Reduced
from napari_unet.inference.job import Job, measure, prepare
from napari_unet.inference.predict import notes_on
from napari_unet.inference.resuming.decisions import Decisions, identity
from napari_unet.inference.resuming.delivery import deliver
from napari_unet.inference.resuming.keeper import difference

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_unet.config import PredictConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.images.intensity import Scaling
    from napari_unet.images.sinks import OutputSpec
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.job import Advance
    from napari_unet.inference.resuming.reached import Box, Reached
    from napari_unet.networks.network import Network

    Head = dict[str, Any]


def begin(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    folder: Path,
    past: Mapping[str, Any] | None,
    cancel: CancelToken,
    *,
    workers: int,
    least: int,
    beside: bool = False,
) -> Generator[Event, None, Head | str]:
    """Decide what holds for all slabs, and make the folder that they fill.

    Parameters
    ----------
    stack, network, config
        As in `napari_unet.inference.predict.predict`.
    folder : pathlib.Path
        Takes the result in the making; what else is in it is removed, but `past`'s.
    past : mapping, optional
        The head of an earlier run, which goes on if it is about the same.
    cancel : CancelToken
        Checked while intensities are measured.
    workers, least
        As in `divide`.
    beside : bool
        Whether something else is made of the same pass, which slabs have no place for.

    Returns
    -------
    dict or str
        The head, plain values for `compute` and `finish`; or why one process has to do
        all of it, nothing where the stack is small.

    Raises
    ------
    UNetError
        As `predict` does before its first pixel.
    """
    if _pixels(stack) < 2 * least:
        return ""
    reason = _undivided(network, config, beside)
    about = identity(stack, network, config, None)
    if reason or about is None:
        return reason or "it is not known what the image is"
    if past is not None:
        if past.get("about") == about and (folder / past["part"]).is_dir():
            return dict(past)
        why = difference(past.get("about"), about)
        yield Warned(f"An earlier run is begun anew, since {why}.")
    job = prepare(stack, network, config)
    slabs = _slabs(job, workers, least)
    if isinstance(slabs, str):
        return slabs
    yield Started(f"{stack.name}: {job.plan.describe()}", len(slabs), "slabs")
    yield from map(Warned, notes_on(stack, network.spec))
    scaling = measure(job, cancel)
    yield from map(Warned, scaling.notes)
    job, told = precision.settle(job, scaling)
    yield from map(Warned, told)
    head = {
        "about": about,
        **Decisions.of(job, scaling).to_json(),
        "slabs": [[*slab.frames, *slab.rows] for slab in slabs],
        "part": f"{uuid.uuid4().hex[:8]}.ome.zarr",
    }
    _make(job.output(scaling), folder, head["part"])
    return head


def compute(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    folder: Path,
    head: Head,
    number: int,
    cancel: CancelToken,
    *,
    known: str = "",
) -> Iterator[Event]:
    """Compute one slab, unless it is there already.

    Parameters
    ----------
    stack, network, config, folder
        As in `begin`.
    head : dict
        From `begin`.
    number : int
        Which slab.
    cancel : CancelToken
        Checked between tiles.
    known : str
        SHA-256 it should have, if it was done before.

    Yields
    ------
    Event
        `Progress` in pixels, `Warned`; last `Finished` with the SHA-256 of the slab and
        the extremes of its values, where they matter.

    Raises
    ------
    Stopped
        If `cancel` is set meanwhile.
    UNetError
        As `predict` does.
    """
    job, scaling = _settled(stack, network, config, head)
    spec, slab = job.output(scaling), slab_of(head, number)
    part = folder / head["part"]
    chunks = slab.chunks(job.layout, job.finisher.channels)
    if known and checksum(part, spec, chunks) == known:
        yield Finished({"sha256": known})
        return
    sink = ZarrSlab(part, spec, chunks)
    try:
        yield from _filled(job, scaling, slab, sink, cancel)
        low, high = sink.close()
    except BaseException:
        sink.abort()
        raise
    found = {"sha256": checksum(part, spec, chunks)}
    yield Finished(found | ({"seen": [low, high]} if low <= high else {}))


def finish(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    folder: Path,
    head: Head,
    seen: Sequence[Sequence[float]],
    target: Path,
) -> None:
    """Complete a result whose slabs are done, and give it its name.

    Parameters
    ----------
    stack, network, config, folder, head
        As in `compute`.
    seen : sequence
        Extremes of the values of the slabs.
    target : pathlib.Path
        Where the result goes.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    job, scaling = _settled(stack, network, config, head)
    spec, part = job.output(scaling), folder / head["part"]
    extremes = Extremes(spec)
    for low, high in seen:
        extremes.include(low, high)
    with telling_write_errors(target, _bytes(spec)):
        complete(spec, part, extremes.range)
        check_whole(part, target, spec)
        flush(part)
    place(part, target)


def slab_of(head: Head, number: int) -> Slab:
    """Return one of the slabs that a head tells."""
    first, last, start, stop = head["slabs"][number]
    return Slab((first, last), (start, stop))


def _undivided(network: Network, config: PredictConfig, beside: bool) -> str:
    """Say why a kind of run is not divided; nothing if it may be."""
    if network.spec.recipe is not None:
        return "this network brings a procedure of its own for a whole volume"
    if config.kind == "instances":
        return "objects are numbered through the whole stack"
    if beside:
        return "the probabilities are written beside it"
    return ""


def _pixels(stack: ImageStack) -> int:
    """Pixels of a stack, channels not counted."""
    return math.prod(n for axis, n in stack.sizes.items() if axis != "C")


def _slabs(job: Job, workers: int, least: int) -> list[Slab] | str:
    """Cut a job, or say why that gains nothing."""
    can_cut = job.config.tta == "none"
    slabs = divide(job.plan, job.layout, workers=workers, least=least, can_cut=can_cut)
    if len(slabs) < 2:
        return "it has too few frames, and rows, to be cut"
    again = prepare(job.stack, job.network, job.config, None, job.memory)
    if again.plan != job.plan:
        return "its tiling depends on the memory that is free now"
    return slabs


def _make(spec: OutputSpec, folder: Path, name: str) -> None:
    """Make the empty result; remove what lies beside it and is no journal."""
    ZarrSink(folder / name).check(spec)
    with telling_write_errors(folder / name, _bytes(spec)):
        disk.make_folder(folder)
        for old in folder.iterdir():
            if old.suffix != ".journal":
                disk.remove(old)
        create(spec, folder / name)


def _settled(
    stack: ImageStack, network: Network, config: PredictConfig, head: Head
) -> tuple[Job, Scaling]:
    """Prepare with the decisions of the head."""
    decisions = Decisions.from_json(head)
    if decisions is None:
        raise UNetError("What is known of a divided stack makes no sense")
    job = prepare(stack, network, config, None, decisions.memory)
    return decisions.settle(job).accelerated(), decisions.scaling


def _filled(
    job: Job, scaling: Scaling, slab: Slab, sink: ZarrSlab, cancel: CancelToken
) -> Iterator[Event]:
    """Compute and write all pixels of a slab."""
    done, total = 0, slab.pixels(job.layout)
    for reached, pixels in _starts(job, slab):
        end = done + pixels
        working = ways.computed(job, scaling, reached, cancel, until=slab.rows[1])
        with closing(working) as advances:
            for advance in advances:
                for part in _reduced(job, advance, slab):
                    for _ in deliver(job, sink, advance.position, part):
                        pass
                    done += math.prod(b - a for a, b in part[0])
                yield from map(Warned, advance.notes)
                yield Progress(done, total, "pixels")
                if done >= end:
                    break


def _starts(job: Job, slab: Slab) -> Iterator[tuple[Reached, int]]:
    """Tell where the work on a slab begins, and after how many pixels it ends."""
    reached = ways.start(job)
    reached.frame = slab.frames[0]
    if slab.is_whole(job.layout):
        yield reached, slab.pixels(job.layout)
        return
    plan, (row, stop) = job.plan, slab.rows
    reached.row = row
    if plan.way == "stream":
        for reached.box, box in enumerate(plan.boxes()):
            yield reached, (stop - row) * math.prod(b - a for a, b in box[1:])
        return
    if plan.way == "exact":
        before = sum(span.write[1] <= row for span in plan.spans[0])
        reached.box = before * (plan.pieces // len(plan.spans[0]))
    yield reached, slab.pixels(job.layout)


def _reduced(job: Job, advance: Advance, slab: Slab) -> Iterator[tuple[Box, Reduced]]:
    """Reduce parts, then keep the rows of the slab.

    In this order, because the last bit of an exponential depends on where a number lies
    in its array.
    """
    for (rows, *others), logits in advance.parts:
        start, stop = max(rows[0], slab.rows[0]), min(rows[1], slab.rows[1])
        if start < stop:
            reduced = job.finisher.reduce(logits)
            first = reduced.ndim - 1 - len(others)
            kept = (slice(None),) * first + (slice(start - rows[0], stop - rows[0]),)
            yield ((start, stop), *others), Reduced(reduced[kept])


def _bytes(spec: OutputSpec) -> int:
    return math.prod(spec.shape) * spec.dtype.itemsize
