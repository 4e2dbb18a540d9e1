"""How much tiling changes the result: tiles against one larger window."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.inference.backoff import Runner
from napari_unet.inference.finish import Blend, assemble
from napari_unet.inference.job import measure, prepare
from napari_unet.inference.pipeline import pieces
from napari_unet.tasks.task import probabilities

if TYPE_CHECKING:
    from napari_unet.config import PredictConfig
    from napari_unet.images.intensity import Scaling
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.job import Job
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.tiling import Grid, Range, Span
    from napari_unet.networks.network import Network

_HALF = 16
_PLACES = 4


@dataclass(frozen=True)
class Seam:
    """Difference of the probabilities between tiles and one window, near seams.

    Attributes
    ----------
    maximum, mean : float
        Of the absolute difference; 0 where there is no seam.
    places : int
        Places that were compared, 0 where a frame is one piece.
    tiling : str
        The plan in words.
    """

    maximum: float
    mean: float
    places: int
    tiling: str


def seam(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    *,
    scaling: Scaling | None = None,
) -> Seam:
    """Compare the planned tiling with larger windows where tiles meet.

    Up to four places of the first frame are computed twice: with the tiles of the plan,
    and in one window in whose middle the seam lies.

    Parameters
    ----------
    stack, network, config, scaling
        As in `predict`; the kind of result does not matter.

    Raises
    ------
    UNetError
        As `predict` does.
    """
    job = prepare(stack, network, config.model_copy(update={"kind": "probabilities"}))
    boxes = _places(job.plan)
    scaling = (scaling or measure(job)) if boxes else None
    apart = [
        np.abs(
            _values(job, _within(job.plan, box), scaling) - _window(job, box, scaling)
        )
        for box in boxes
        if scaling is not None
    ]
    return Seam(
        max((float(d.max()) for d in apart), default=0.0),
        float(np.mean([d.mean() for d in apart])) if apart else 0.0,
        len(apart),
        job.plan.describe(),
    )


def _places(plan: Plan) -> list[tuple[Range, ...]]:
    """Boxes around places where tiles meet along every axis that is cut.

    None where a frame is streamed, since no pixel is then computed from less than all.
    """
    if plan.way == "stream":
        return []
    borders = [_borders(spans) for spans in plan.spans]
    count = min(_PLACES, max(len(b) for b in borders))
    boxes = []
    for n in range(count):
        centres = [
            b[(2 * n + 1) * len(b) // (2 * count)] if b else size // 2
            for b, size in zip(borders, plan.size, strict=True)
        ]
        boxes.append(
            tuple(
                (max(0, c - _HALF), min(size, c + _HALF))
                for c, size in zip(centres, plan.size, strict=True)
            )
        )
    return list(dict.fromkeys(boxes))


def _borders(spans: tuple[Span, ...]) -> list[int]:
    """Positions where one tile's part ends and the next one's begins."""
    return [(a.write[1] + b.write[0]) // 2 for a, b in itertools.pairwise(spans)]


def _within(plan: Plan, box: tuple[Range, ...]) -> Plan:
    """Keep the tiles of a plan that touch a box, and of them what lies in it."""
    spans, windows = [], []
    for axis, (start, stop) in enumerate(box):
        kept = [
            (n, replace(s, write=(max(s.write[0], start), min(s.write[1], stop))))
            for n, s in enumerate(plan.spans[axis])
            if s.write[0] < stop and s.write[1] > start
        ]
        spans.append(tuple(s for _, s in kept))
        if plan.windows:
            windows.append(
                tuple(
                    plan.windows[axis][n][_inside(s.write, plan.spans[axis][n].write)]
                    for n, s in kept
                )
            )
    return replace(plan, spans=tuple(spans), windows=tuple(windows))


def _inside(inner: Range, outer: Range) -> slice:
    return slice(inner[0] - outer[0], inner[1] - outer[0])


def _window(job: Job, box: tuple[Range, ...], scaling: Scaling) -> np.ndarray:
    """Probabilities of a box out of one window around it."""
    axes = zip(job.plan.grids, job.plan.size, job.plan.tile, box, strict=True)
    spans = tuple((_around(*axis),) for axis in axes)
    return _values(
        job, replace(job.plan, way="whole", spans=spans, windows=()), scaling
    )


def _around(grid: Grid, size: int, tile: int, part: Range) -> Span:
    """One tile with `part` in its middle, clipped to the padded image."""
    context = max(grid.overlap, tile // 2)
    origin = max(0, grid.down(part[0] - context))
    stop = min(grid.fit(size), part[1] + context)
    return grid.span(origin, grid.fit(stop - origin), part)


def _values(job: Job, plan: Plan, scaling: Scaling) -> np.ndarray:
    """Probabilities (C, *spatial) of the part of the first frame that a plan covers."""
    runner, spec = Runner(job.placed, plan), job.network.spec
    blend = Blend(plan, spec.out_channels)
    origin = [spans[0].write[0] for spans in plan.spans]
    shape = [
        spans[-1].write[1] - o for spans, o in zip(plan.spans, origin, strict=True)
    ]
    values = np.empty((spec.out_channels, *shape), np.float32)
    tiles = pieces(job.stack, job.layout, plan, scaling)
    for piece in itertools.islice(tiles, plan.pieces):
        for write, logits in assemble(plan, piece, runner([piece])[0], blend):
            place = [
                slice(a - o, b - o) for (a, b), o in zip(write, origin, strict=True)
            ]
            part = probabilities(logits, spec.activation)
            values[(slice(None), *place)] = part.cpu().numpy()
    return values
