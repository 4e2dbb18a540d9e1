"""Whether labels may be computed in bfloat16: measured on the user's own image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.inference import shared, tiling
from napari_unet.inference.backoff import Runner
from napari_unet.inference.pipeline import Piece, read
from napari_unet.networks import device as devices
from napari_unet.tasks.task import task_of

if TYPE_CHECKING:
    import torch

    from napari_unet.images.intensity import Scaling
    from napari_unet.inference.job import Job
    from napari_unet.networks.network import Network

MOST_FLIPS = 1e-3
"""Share of labels that bfloat16 may change."""
_TILE = {2: (256, 256), 3: (32, 64, 64)}
"""Enough labels to tell one in 10,000, in little memory."""
_WORTH = {2: 16 << 20, 3: 32 << 20}
"""Pixels of a stack from which on the measurement is soon paid back."""
_measured: dict[object, float] = {}


def settle(job: Job, scaling: Scaling) -> tuple[Job, list[str]]:
    """Choose the arithmetic of a prediction where that is left open.

    Where the device computes in bfloat16, one tile in the middle of the stack's first
    frame is computed in both. The choice depends on the whole stack, not on the part
    that is wanted, so parts have the values of the whole.

    Parameters
    ----------
    job : Job
        The prediction.
    scaling : Scaling
        Intensity scaling.

    Returns
    -------
    job : Job
        The same, or with the network in bfloat16.
    notes : list of str
        What was found, empty where nothing was measured.
    """
    if not is_open(job):
        return job, []
    half = shared.placed(job.network, job.config.device, "bfloat16")
    flips = _flips(job, half, scaling)
    share = f"{100 * flips:.2g} % of the labels in a tile of this image"
    if flips > MOST_FLIPS:
        return job, [f"Computed in float32, since bfloat16 would change {share}."]
    return replace(job, placed=half), [
        f"Computed in bfloat16, which changes {share}; --precision float32 is exact."
    ]


def is_open(job: Job) -> bool:
    """Whether the arithmetic is open, and there is enough work for it to matter."""
    sizes = math.prod(n for a, n in job.stack.sizes.items() if a != "C")
    return (
        job.config.precision == "auto"
        and job.config.kind in ("labels", "instances")
        and devices.has_bfloat16(job.placed.device)
        and sizes >= _WORTH[job.network.spec.ndim]
    )


def _flips(job: Job, half: Network, scaling: Scaling) -> float:
    """Share of the labels of a tile that bfloat16 changes, measured once."""
    key = (job.network.digest, job.stack.source, job.stack.sizes, job.layout.channels)
    name = (str(key), scaling) if job.network.digest and job.stack.source else None
    if name in _measured:
        return _measured[name]
    piece = _middle(job, scaling)
    labels = [_labels(job, network, piece) for network in (job.placed, half)]
    flips = float((labels[0] != labels[1]).float().mean())
    if name is not None:
        _measured[name] = flips
    return flips


def _middle(job: Job, scaling: Scaling) -> Piece:
    """Read a tile in the middle of the first frame."""
    plan, layout = job.plan, job.layout
    spans = []
    for grid, size, length in zip(
        plan.grids, layout.size, _TILE[len(layout.size)], strict=True
    ):
        start = max(0, (size - length) // 2)
        target = (start, min(size, start + length))
        spans.append(tiling.extent_span(grid, size, target))
    position = dict.fromkeys(layout.looped, 0)
    pixels = read(job.stack, layout, position, spans, scaling)
    return Piece(position, (), tuple(spans), pixels)


def _labels(job: Job, network: Network, piece: Piece) -> torch.Tensor:
    logits = Runner(network, job.plan)([piece])[0]
    return task_of(network.spec).labels(logits, job.config.threshold)
