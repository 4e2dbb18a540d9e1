"""What a prediction will take, said before it runs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import torch

from napari_unet.errors import UsageError
from napari_unet.events import Finished, Progress, drain
from napari_unet.inference import augmented, precision, tiling
from napari_unet.inference.job import prepare
from napari_unet.inference.plan import PATCH

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_unet.config import PredictConfig
    from napari_unet.events import Event
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.job import Job
    from napari_unet.inference.layout import Region
    from napari_unet.networks.network import Network

_ON_THEIR_WAY = 4
"""Pieces read ahead, at work and waiting to be written."""


@dataclass(frozen=True)
class Forecast:
    """The plan of a prediction with its costs.

    Attributes
    ----------
    way : str
        whole, stream, exact or blend.
    plan : str
        The plan and its reason in words.
    pieces : int
        Pieces of work over all frames.
    device : str
        Where it runs and in which arithmetic.
    device_bytes : int
        Estimated memory of the network at work.
    host_bytes : int
        Estimated memory of pixels and results on their way, and of the program.
    output_shape : tuple of int
        Size of the result.
    output_bytes : int
        Bytes of the result before compression.
    seconds : float
        Estimated from one empty tile.
    """

    way: str
    plan: str
    pieces: int
    device: str
    device_bytes: int
    host_bytes: int
    output_shape: tuple[int, ...]
    output_bytes: int
    seconds: float


def forecast(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    region: Region | None = None,
) -> Forecast:
    """Plan a prediction and estimate what it takes; no pixel is read.

    `iter_forecast` does the same step by step.

    Parameters
    ----------
    stack, network, config, region
        As in `napari_unet.inference.predict.predict`.

    Raises
    ------
    UNetError
        As `predict` does before it computes.
    UsageError
        For a network that brings a procedure of its own, as nnU-Net's do.
    """
    found: Forecast = drain(iter_forecast(stack, network, config, region))
    return found


def iter_forecast(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    region: Region | None = None,
) -> Iterator[Event]:
    """Yield `Progress` after each step of `forecast`, and at last its result."""
    if network.spec.recipe is not None:
        raise UsageError(
            "There is no plan to show",
            found=f"{network.spec.name} brings its own procedure for whole volumes",
            hint="Run it on a small volume to see how long it takes.",
        )
    job = prepare(stack, network, config, region)
    shape, dtype = job.layout.shape(job.finisher.channels), job.finisher.dtype
    words = job.placed.words
    if precision.is_open(job):
        words += f", or bfloat16 if less than {precision.MOST_FLIPS:.1%} of labels flip"
    seconds = yield from _seconds(job)
    found = Forecast(
        way=job.plan.way,
        plan=job.plan.describe(),
        pieces=job.total,
        device=words,
        device_bytes=job.plan.peak * job.batch,
        host_bytes=_ON_THEIR_WAY * _piece_bytes(job)
        + augmented.slab_bytes(job)
        + psutil.Process().memory_info().rss,
        output_shape=shape,
        output_bytes=math.prod(shape) * dtype.itemsize,
        seconds=seconds,
    )
    yield Finished(found)


def _piece_bytes(job: Job) -> int:
    """Pixels of one piece in float32, with its result."""
    lengths = [s[0].read[1] - s[0].read[0] for s in job.plan.spans]
    if job.plan.way == "stream":
        lengths[0] = min(lengths[0], job.plan.chunk)
    channels = len(job.layout.channels) + (job.finisher.channels or 1)
    return 4 * channels * math.prod(lengths)


def _seconds(job: Job) -> Generator[Event, None, float]:
    """Time one tile of zeros, and scale it to all that goes through the network."""
    lengths = [
        min(g.fit(n) + 2 * g.margin, spans[0].read[1] - spans[0].read[0])
        for g, n, spans in zip(
            job.plan.grids, PATCH[len(job.layout.size)], job.plan.spans, strict=True
        )
    ]
    pixels = torch.zeros((1, job.network.spec.in_channels, *lengths))
    times = []
    for done in range(2):
        yield Progress(done + 1, 3, "timing a tile")
        start = time.perf_counter()
        job.placed(pixels).cpu()
        times.append(time.perf_counter() - start)
    passes = sum(tiling.forwarded(plan.spans) for plan in job.passes)
    work = passes * job.layout.frames
    return min(times) * work / math.prod(lengths)
