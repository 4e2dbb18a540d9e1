"""Cut one result into slabs that several processes compute: pure integers.

A slab is some frames, or some rows of one frame. Its values are those of the whole run
because the plan stays that of the whole run: a slab begins as a run does that goes on
there (see `napari_unet.inference.resuming`), and its last rows are where it ends. So
what is next to a border is computed twice; how slabs are cut changes no value.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.images.zarr_levels import chunk_of
from napari_unet.images.zarr_slab import Chunks

if TYPE_CHECKING:
    from napari_unet.inference.layout import Layout
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.tiling import Range

_MOST = 256
"""Slabs of a result, or four a worker, so that each slab is worth its messages."""
_CHEAP = 8
"""Rows in halos from which on what is computed twice is no matter."""


@dataclass(frozen=True)
class Slab:
    """A part of a result that one process computes.

    Attributes
    ----------
    frames : tuple of int
        Start and stop of its frames.
    rows : tuple of int
        Start and stop of its rows, along the first spatial axis of each frame.
    """

    frames: Range
    rows: Range

    def is_whole(self, layout: Layout) -> bool:
        """Whether it has all rows of its frames."""
        return self.rows == layout.target[0]

    def pixels(self, layout: Layout) -> int:
        """Pixels of it, channels not counted."""
        (first, last), (start, stop) = self.frames, self.rows
        return (last - first) * (stop - start) * math.prod(layout.size[1:])

    def chunks(self, layout: Layout, channels: int | None) -> Chunks:
        """Return the chunks of the result that are its own."""
        per_row = channels or 1
        if len(layout.size) == 2:
            first, last = self.frames
            return Chunks((first * per_row, last * per_row), self.rows)
        height = layout.size[0]
        start = self.frames[0] * height + self.rows[0]
        stop = (self.frames[1] - 1) * height + self.rows[1]
        return Chunks((start * per_row, stop * per_row), (0, layout.size[1]))


def divide(
    plan: Plan, layout: Layout, *, workers: int, least: int, can_cut: bool = True
) -> list[Slab]:
    """Cut a result along the borders of its chunks.

    Frames are cut apart where there are enough of them, else each is cut into rows.
    Slabs are so long that their halos cost little; where workers would have nothing to
    do they are shorter, but not shorter than a halo.

    Parameters
    ----------
    plan : Plan
        How a frame is computed.
    layout : Layout
        Of a whole image.
    workers : int
        How many compute.
    least : int
        Pixels below which a slab is not worth a message.
    can_cut : bool
        Whether frames may be cut into rows, if the plan allows it.

    Returns
    -------
    list of Slab
        They cover all once, in order.
    """
    row = math.prod(layout.size[1:])
    height, frames = layout.size[0], layout.frames
    most = max(_MOST, 4 * workers)
    if can_cut and frames < 2 * workers and _has_rows(plan):
        halo = _halo(plan)
        shortest = max(halo, -(-least // row))
        busy = -(-height * frames // (2 * workers))
        rows = max(shortest, min(_CHEAP * halo, busy), -(-height * frames // most))
        align = chunk_of(layout.size)[0] if len(layout.size) == 2 else 1
        ranges = _evenly(height, rows, align)
        if len(ranges) > 1:
            numbers = itertools.product(range(frames), ranges)
            return [Slab((frame, frame + 1), part) for frame, part in numbers]
    each = max(-(-least // (row * height)), -(-frames // most))
    return [Slab(part, (0, height)) for part in _evenly(frames, each, 1)]


def _has_rows(plan: Plan) -> bool:
    """Whether some rows of a frame cost less than all of it."""
    return plan.way == "blend" or (plan.exact and plan.way in ("stream", "exact"))


def _halo(plan: Plan) -> int:
    """Rows beside a slab that are computed again, at most."""
    grid, spans = plan.grids[0], plan.spans[0]
    longest = max(span.write[1] - span.write[0] for span in spans)
    if plan.way == "blend":
        return 2 * longest
    reach = grid.before + grid.after + grid.stride
    return reach if plan.way == "stream" else reach + 2 * longest


def _evenly(length: int, each: int, align: int) -> list[Range]:
    """Cut a length at multiples of `align` into parts of at least about `each`."""
    count = max(1, length // max(each, align))
    cuts = (round(n * length / count / align) * align for n in range(1, count))
    return list(itertools.pairwise((0, *cuts, length)))
