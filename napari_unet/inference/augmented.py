"""Test-time augmentation: average the logits of a frame over its flips and rotations.

Each pass works on a lazy view of the turned image as any prediction does, in the way
its own plan says; so the result is that of turning the whole image, computing it,
turning it back and averaging, whatever the size and however it is cut. Frames are done
slab by slab, and the sum of one slab is all that is held. Logits are averaged as in
`napari_unet.inference.finish.Blend`, so labels, probabilities and logits of one run
agree, and objects are looked for in the average.
"""

from __future__ import annotations

import itertools
import math
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_unet.errors import UsageError
from napari_unet.images.views import Held
from napari_unet.inference import tiling
from napari_unet.inference.plan import plan
from napari_unet.inference.turns import turns
from napari_unet.networks.device import free_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from napari_unet.config import PredictConfig
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.job import Advance, Job
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.resuming.reached import Reached
    from napari_unet.inference.tiling import Range
    from napari_unet.inference.turns import Turn

    Box = tuple[Range, ...]
    Way = Callable[[Job], Generator[Advance]]

SLAB = 1 << 30
"""Bytes of logits that are summed at a time; each slab computes its halo again."""
_PART = 64 << 20
"""Bytes of logits that are finished at a time."""


def augmented(job: Job, reached: Reached, way: Way) -> Generator[Advance]:
    """Compute all frames of a job, each in all its turns.

    Parameters
    ----------
    job : Job
        Whose settings ask for it.
    reached : Reached
        Where to begin; a slab of which a part is finished is computed once more.
    way : callable
        Computes a job without test-time augmentation.

    Yields
    ------
    Advance
        One for each of a pass without parts, and one for each finished slab.
    """
    boxes, ways = slabs(job), turns(job.config.tta, job.layout.spatial)
    row = reached.row
    for position in itertools.islice(job.layout.positions(), reached.frame, None):
        for number, box in enumerate(boxes):
            if box[0][1] <= row:
                continue
            shape = [stop - start for start, stop in box]
            total = torch.zeros((job.network.spec.out_channels, *shape))
            held = _holding(job, box, position)
            for turn in ways:
                part = turned(held, turn, box, position)
                with closing(way(part)) as advances:
                    for advance in advances:
                        _add(total, box, job, turn, advance)
                        yield advance._replace(
                            position=position, parts=[], ends_frame=False
                        )
            total /= len(ways)
            yield advance._replace(
                position=position,
                parts=[part for part in _parts(total, box) if part[0][0][1] > row],
                ends_frame=number + 1 == len(boxes),
                notes=[],
            )
        row = boxes[0][0][0]


def passes(job: Job) -> Iterator[Plan]:
    """Plans of all passes over one frame."""
    for box in slabs(job):
        for turn in turns(job.config.tta, job.layout.spatial):
            yield turned(job, turn, box).plan


def slabs(job: Job) -> list[Box]:
    """Cut the wanted part of a frame into slabs whose logits fit into memory.

    Raises
    ------
    UsageError
        If a network whose frames cannot be cut gives more than fits.
    """
    (start, stop), *others = job.layout.target
    row = 4 * job.network.spec.out_channels * math.prod(b - a for a, b in others)
    free = free_memory(torch.device("cpu")) // 2
    if not job.plan.exact and job.plan.way != "blend":
        if row * (stop - start) > free:
            raise UsageError(
                "Flips of this network are averaged over whole frames, which are too "
                "large",
                found=f"{free / 1e9:.1f} GB of memory for it",
                expected=f"{row * (stop - start) / 1e9:.1f} GB",
                hint="Use --tiling blend, or --tta none.",
            )
        return [job.layout.target]
    assert job.memory is not None
    rows = max(job.plan.grids[0].smallest, min(SLAB, job.memory.budget) // row)
    length = math.ceil((stop - start) / math.ceil((stop - start) / rows))
    cuts = [*range(start, stop, length), stop]
    return [((a, b), *others) for a, b in itertools.pairwise(cuts)]


def slab_bytes(job: Job) -> int:
    """Bytes of the sum and the pixels of one slab, 0 without test-time augmentation."""
    if job.config.tta == "none":
        return 0
    pixel = 4 * job.network.spec.out_channels
    pixel += job.stack.dtype.itemsize * len(job.layout.channels)
    return pixel * math.prod(stop - start for start, stop in slabs(job)[0])


def turned(
    job: Job, turn: Turn, box: Box, position: Mapping[str, int] | None = None
) -> Job:
    """Return the job of one pass: a part of the turned frame at `position`."""
    size = turn.size(job.layout.size)
    target = turn.box(box, job.layout.size)
    wanted = dict(zip(job.layout.spatial, target, strict=True))
    place = {axis: (n, n + 1) for axis, n in (position or {}).items()}
    layout = replace(
        job.layout, size=size, wanted={**job.layout.wanted, **wanted, **place}
    )
    assert job.memory is not None
    chosen = plan(size, job.network.geometry, job.config, job.memory, target)
    return replace(job, stack=turn.stack(job.stack), layout=layout, plan=chosen)


def check(stack: ImageStack, config: PredictConfig) -> None:
    """Refuse to rotate pixels that are not square.

    Raises
    ------
    UsageError
        With both sizes.
    """
    sizes = [stack.scale.get(axis) for axis in "YX"]
    if config.tta != "rotations" or None in sizes:
        return
    along_y, along_x = (float(size or 0) for size in sizes)
    if not math.isclose(along_y, along_x, rel_tol=0.01):
        raise UsageError(
            "Rotated by 90°, this image would look stretched to the network",
            found=f"pixels of {along_y:g} along Y and {along_x:g} along X",
            hint="Use --tta flips.",
        )


def _holding(job: Job, box: Box, position: Mapping[str, int]) -> Job:
    """Return the job with the pixels of a slab and its halo read once for all turns.

    Turned frames are read along other axes than files are written, which would decode
    the same strips of a file over and over. Nothing is held where the memory is short.
    """
    parts: dict[str, Range] = {axis: (n, n + 1) for axis, n in position.items()}
    axes = zip(job.layout.spatial, job.plan.grids, job.plan.tile, box, strict=True)
    for axis, grid, tile, (start, stop) in axes:
        reach = grid.before + grid.after + grid.margin + 2 * grid.stride
        reach = tile if job.plan.way == "blend" else reach
        parts[axis] = (max(0, start - reach), stop + reach)
    parts["C"] = (min(job.layout.channels), max(job.layout.channels) + 1)
    sizes = job.stack.sizes
    block = tuple(
        slice(start, min(stop, sizes[axis]))
        for axis in sizes
        for start, stop in [parts.get(axis, (0, sizes[axis]))]
    )
    count = math.prod(part.stop - part.start for part in block)
    room = min(SLAB, free_memory(torch.device("cpu")) // 4)
    if count * job.stack.dtype.itemsize > room:
        return job
    return replace(job, stack=replace(job.stack, array=Held(job.stack.array, block)))


def _add(total: torch.Tensor, box: Box, job: Job, turn: Turn, advance: Advance) -> None:
    """Add what a pass has finished to the sum of a slab."""
    has_flows = job.network.spec.task == "flows"
    for write, logits in advance.parts:
        place = zip(turn.box_back(write, job.layout.size), box, strict=True)
        within = (slice(a - start, b - start) for (a, b), (start, _) in place)
        total[(slice(None), *within)] += turn.logits_back(logits.cpu(), has_flows)


def _parts(total: torch.Tensor, box: Box) -> list[tuple[Box, torch.Tensor]]:
    """Cut a finished slab along its rows."""
    (start, stop), *others = box
    rows = max(1, _PART * (stop - start) // max(total.nbytes, 1))
    return [
        (((a, b), *others), total[:, a - start : b - start])
        for a, b in tiling.pieces(start, stop, rows)
    ]
