"""Prediction of networks with a recipe: whole volumes, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.events import CancelToken, Preview, Started, Warned
from napari_unet.images.intensity import Scaling
from napari_unet.images.sinks import OutputSpec, label_dtype
from napari_unet.inference.finish import finisher
from napari_unet.inference.job import Job, normalizations
from napari_unet.inference.layout import lay_out
from napari_unet.inference.prepared import (
    Prepared,
    frame_of,
    region_labels,
    spacing_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.config import PredictConfig
    from napari_unet.events import Event
    from napari_unet.images.sinks import Sink
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.finish import Block, Finisher
    from napari_unet.inference.layout import Region
    from napari_unet.inference.tiling import Range
    from napari_unet.networks.network import Network

_NO_SCALING = Scaling((), (), ())


@dataclass(frozen=True)
class _Whole:
    """Stands where other runs have their plan of tiles."""

    patch: tuple[int, ...]
    overlap: float

    def describe(self) -> str:
        size = " x ".join(map(str, self.patch))
        return f"patches of {size} pixels that overlap by {self.overlap:.0%}"


class _Regions:
    """Labels of overlapping regions, the later over the earlier."""

    def __init__(self, labels: tuple[int, ...]) -> None:
        self._labels = labels
        self.channels: int | None = None
        self.dtype: np.dtype[Any] = label_dtype(max(labels))

    def add(self, write: tuple[Range, ...], logits: torch.Tensor) -> Iterator[Block]:
        yield write, region_labels(logits, self._labels).numpy().astype(self.dtype)

    def end_frame(self) -> Iterator[Block]:
        yield from ()


def predict(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    sink: Sink,
    *,
    region: Region | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a network with a recipe; see `napari_unet.inference.predict.predict`.

    A 2D network sees the slices of a volume, but the volume is cropped and scaled as
    one. A wanted region is cut out of the whole volume's result.
    """
    job, work = _prepare(stack, network, config, region, cancel or CancelToken())
    yield Started(f"{stack.name}: {job.plan.describe()}", job.layout.frames, "patches")
    yield from (Warned(note) for note in work.notes)
    work.notes.clear()
    sink.open(_output(job))
    for number, position in enumerate(job.layout.positions()):
        volume = frame_of(stack, job.layout.channels, job.layout.spatial, position)
        for event in work.run(volume, number, job.layout.frames):
            if not isinstance(event, np.ndarray):
                yield event
                continue
            for write, block in _finished(job, event):
                place, values = job.layout.place(position, write, block)
                sink.write(place, values)
                yield Preview(place, values)


def _prepare(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    region: Region | None,
    cancel: CancelToken,
) -> tuple[Job, Prepared]:
    """Check that everything fits together."""
    spec, recipe = network.spec, network.spec.recipe
    assert recipe is not None
    ndim = 3 if "Z" in stack.axes else spec.ndim
    layout = lay_out(
        stack, spec.model_copy(update={"ndim": ndim}), config.channels, region
    )
    norms = normalizations(spec, config.normalize)
    spacing, note = spacing_of(stack, layout.spatial, recipe)
    if spacing is not None and len(spacing) == 2:
        spacing = (1.0, *spacing)
    placed = network.place(config.device, config.precision)
    is_regions = config.kind == "labels" and recipe.region_labels
    finish: Finisher = (
        _Regions(recipe.region_labels)
        if is_regions
        else finisher(spec, config, layout.target)
    )
    plan: Any = _Whole(recipe.patch, recipe.overlap)
    job = Job(stack, network, placed, config, layout, plan, finish, 1)
    work = Prepared(placed, network, norms, spacing, cancel, [note] if note else [])
    return job, work


def _output(job: Job) -> OutputSpec:
    return job.output(_NO_SCALING)


def _finished(job: Job, logits: np.ndarray) -> Iterator[Block]:
    """Cut the wanted part out of a volume's logits and finish it."""
    if len(job.layout.spatial) == 2:
        logits = logits[:, 0]
    target = job.layout.target
    part = logits[(slice(None), *(slice(*r) for r in target))]
    yield from job.finisher.add(target, torch.from_numpy(np.ascontiguousarray(part)))
    yield from job.finisher.end_frame()
