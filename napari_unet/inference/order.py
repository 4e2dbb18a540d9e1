"""The order of a run that is looked at: outwards from what is in view.

Only the order changes: each piece is what it is in any other order, and no more is
held.

- Frames (times, and planes of a 2D network) come by their distance from those in view.
- Tiles come by the distance of their middle from the middle of the view.
- Streamed rows have to follow each other: they begin with the first one in view, and
  those before it come after the last. Strips come by their distance, as tiles do.
- Blended patches are summed up row by row, and flips slab by slab; in another order all
  sums would be open at once. Only their frames are reordered.
- Objects are numbered as the rows and frames come: nothing is reordered.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.inference.finish import Pointwise

if TYPE_CHECKING:
    from napari_unet.inference.job import Job
    from napari_unet.inference.layout import Region
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.tiling import Range


def from_view(job: Job, view: Region) -> Job:
    """Return the job in the order of the distance from a view.

    Parameters
    ----------
    job : Job
        Planned, not begun.
    view : mapping of str to int or slice
        What is in view, in voxels; an axis that is not named is seen whole.
    """
    if not isinstance(job.finisher, Pointwise):
        return job
    seen = {a: _seen(view.get(a), n) for a, n in job.layout.wanted.items()}
    middle = {a: (start + stop - 1) / 2 for a, (start, stop) in seen.items()}
    layout = replace(job.layout, middle=middle)
    if job.config.tta != "none" or job.network.spec.recipe is not None:
        return replace(job, layout=layout)
    spatial = [middle[a] for a in layout.spatial]
    first = seen[layout.spatial[0]][0]
    return replace(job, layout=layout, plan=_ordered(job.plan, spatial, first))


def _seen(part: int | slice | None, wanted: Range) -> Range:
    """Start and stop of what is in view along an axis, kept inside what is wanted."""
    low, high = wanted
    if part is None:
        return wanted
    start, stop = (part, part + 1) if isinstance(part, int) else (part.start, part.stop)
    start = min(max(start, low), high - 1)
    return start, min(max(stop, start + 1), high)


def _ordered(plan: Plan, middle: list[float], first: int) -> Plan:
    """Put tiles or strips in their order, and say at which row streaming begins."""
    if plan.way == "blend":
        return plan
    boxes = plan.boxes()
    if plan.way == "stream":  # rows of a strip are not its distance
        boxes, middle = [box[1:] for box in boxes], middle[1:]
    order = sorted(range(len(boxes)), key=lambda n: _distance(boxes[n], middle))
    begin = first if plan.way == "stream" and plan.exact else None
    return replace(plan, order=tuple(order), begin=begin)


def _distance(box: tuple[Range, ...], middle: list[float]) -> float:
    """Square of the distance of the middle of a box from a point."""
    return sum(
        ((a + b - 1) / 2 - m) ** 2 for (a, b), m in zip(box, middle, strict=True)
    )
