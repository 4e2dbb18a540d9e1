"""How much tiling changes the result: tiles against tiles that lie otherwise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.errors import UsageError
from napari_unet.events import Stopped
from napari_unet.inference.backoff import Runner
from napari_unet.inference.finish import Blend, assemble
from napari_unet.inference.job import measure, prepare
from napari_unet.inference.overlapping import other_origins, patch_spans
from napari_unet.inference.pipeline import pieces
from napari_unet.inference.plan import overlap
from napari_unet.tasks.task import probabilities, task_of

if TYPE_CHECKING:
    from napari_unet.config import PredictConfig
    from napari_unet.events import CancelToken
    from napari_unet.images.intensity import Scaling
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.job import Job
    from napari_unet.inference.plan import Plan
    from napari_unet.inference.tiling import Grid, Range, Span
    from napari_unet.networks.network import Network

    Box = tuple[Range, ...]

_HALF = 16
_PLACES = 4


@dataclass(frozen=True)
class Seam:
    """What two ways to lay tiles differ in, near seams.

    Attributes
    ----------
    maximum, mean : float
        Of the absolute difference of the probabilities; 0 where there is no seam.
    flips : float or None
        Share of the labels that differ; None for a network without labels.
    places : int
        Places that were compared, 0 where a frame is one piece.
    tiling : str
        The plan in words.
    """

    maximum: float
    mean: float
    flips: float | None
    places: int
    tiling: str


def seam(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    *,
    scaling: Scaling | None = None,
    cancel: CancelToken | None = None,
) -> Seam:
    """Compare two ways to lay tiles where tiles meet.

    Up to four places of the first frame are computed twice: with the tiles of the plan,
    and with tiles that have the place in their middle. Exact tiles are compared with
    one tile around the place, blended patches with the same ones half a step on.

    Parameters
    ----------
    stack, network, config, scaling
        As in `predict`; kind of result and test-time augmentation do not matter.
    cancel : CancelToken, optional
        Checked between places.

    Raises
    ------
    UNetError
        As `predict` does.
    UsageError
        For a network that brings a procedure of its own, as nnU-Net's do.
    Stopped
        If it is cancelled.
    """
    if network.spec.recipe is not None:
        raise UsageError(
            "There is no seam to measure",
            found=f"{network.spec.name} brings its own procedure for whole volumes",
        )
    own = {"kind": "probabilities", "tta": "none"}
    job = prepare(stack, network, config.model_copy(update=own))
    boxes = _places(job.plan)
    apart = _Apart(job, scaling or measure(job, cancel)) if boxes else None
    for box in boxes:
        if cancel is not None and cancel.is_set():
            raise Stopped("stopped before all places were compared")
        assert apart is not None
        apart.compare(box)
    if apart is None:
        flips = None if network.spec.task == "restoration" else 0.0
        return Seam(0.0, 0.0, flips, 0, job.plan.describe())
    return apart.figure()


class _Apart:
    """Gathers the differences of places."""

    def __init__(self, job: Job, scaling: Scaling) -> None:
        self._job = job
        self._scaling = scaling
        self._shares: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def compare(self, box: Box) -> None:
        """Compute a place in two ways."""
        job, spec = self._job, self._job.network.spec
        plans = _within(job.plan, box), _otherwise(job, box)
        one, other = (_logits(job, plan, self._scaling) for plan in plans)
        shares = [probabilities(logits, spec.activation) for logits in (one, other)]
        self._shares.append((shares[0] - shares[1]).abs().numpy())
        if spec.task != "restoration":
            task, threshold = task_of(spec), job.config.threshold
            flipped = task.labels(one, threshold) != task.labels(other, threshold)
            self._labels.append(flipped.numpy())

    def figure(self) -> Seam:
        """Sum up."""
        flips = [float(part.mean()) for part in self._labels]
        return Seam(
            max(float(part.max()) for part in self._shares),
            float(np.mean([part.mean() for part in self._shares])),
            float(np.mean(flips)) if flips else None,
            len(self._shares),
            self._job.plan.describe(),
        )


def _places(plan: Plan) -> list[Box]:
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


def _within(plan: Plan, box: Box) -> Plan:
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


def _otherwise(job: Job, box: Box) -> Plan:
    """Plan a box with tiles that lie otherwise."""
    if job.plan.way == "blend":
        return _half_a_step_on(job, box)
    axes = zip(job.plan.grids, job.plan.size, job.plan.tile, box, strict=True)
    spans = tuple((_around(*axis),) for axis in axes)
    return replace(job.plan, way="whole", spans=spans, windows=())


def _half_a_step_on(job: Job, box: Box) -> Plan:
    """Plan a box with blended patches of the other phase."""
    share, window = overlap(job.config), job.config.window
    axes = zip(job.plan.grids, job.plan.size, job.plan.tile, box, strict=True)
    found = [
        patch_spans(grid, size, tile, share, part, window, other_origins)
        for grid, size, tile, part in axes
    ]
    return replace(
        job.plan,
        spans=tuple(spans for spans, _ in found),
        windows=tuple(windows for _, windows in found),
    )


def _around(grid: Grid, size: int, tile: int, part: Range) -> Span:
    """One tile with `part` in its middle, clipped to the padded image."""
    context = max(grid.overlap, tile // 2)
    origin = max(0, grid.down(part[0] - context))
    stop = min(grid.fit(size), part[1] + context)
    return grid.span(origin, grid.fit(stop - origin), part)


def _logits(job: Job, plan: Plan, scaling: Scaling) -> torch.Tensor:
    """Logits (C, *spatial) of the part of the first frame that a plan covers."""
    runner, channels = Runner(job.placed, plan), job.network.spec.out_channels
    blend = Blend(plan, channels)
    origin = [spans[0].write[0] for spans in plan.spans]
    shape = [
        spans[-1].write[1] - o for spans, o in zip(plan.spans, origin, strict=True)
    ]
    values = torch.empty((channels, *shape))
    tiles = pieces(job.stack, job.layout, plan, scaling)
    for piece in itertools.islice(tiles, plan.pieces):
        for write, logits in assemble(plan, piece, runner([piece])[0], blend):
            place = [
                slice(a - o, b - o) for (a, b), o in zip(write, origin, strict=True)
            ]
            values[(slice(None), *place)] = logits.cpu()
    return values
