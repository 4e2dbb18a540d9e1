"""Prediction of networks with a recipe: whole volumes, one after another."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.config import PredictConfig
from napari_unet.events import CancelToken, Started, Warned
from napari_unet.images.intensity import Scaling
from napari_unet.inference import footprint, shared
from napari_unet.inference.backoff import Runner
from napari_unet.inference.finish import finisher
from napari_unet.inference.job import Job, normalizations
from napari_unet.inference.layout import lay_out
from napari_unet.inference.order import from_view
from napari_unet.inference.pipeline import read_channels
from napari_unet.inference.recipes.pixel_size import spacing_of
from napari_unet.inference.recipes.prepared import Prepared, check_memory
from napari_unet.inference.resuming.decisions import Decisions
from napari_unet.inference.resuming.delivery import deliver, replay
from napari_unet.inference.resuming.reached import Reached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_unet.events import Event
    from napari_unet.images.sinks import Sink
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.finish import Reduced
    from napari_unet.inference.layout import Layout, Region
    from napari_unet.inference.probabilities import Probabilities
    from napari_unet.inference.resuming.keeper import Keeper
    from napari_unet.networks.network import Network
    from napari_unet.networks.recipe import Recipe
    from napari_unet.networks.spec import ModelSpec

_NO_SCALING = Scaling((), (), ())


@dataclass(frozen=True)
class _Patches:
    """Stands where other runs have their plan of tiles."""

    recipe: Recipe
    exact: bool = False

    def describe(self) -> str:
        size = " x ".join(map(str, self.recipe.patch))
        share = f"{self.recipe.overlap:.0%}"
        return f"patches of {size} pixels that overlap by {share}, the model's own"


def predict(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    sink: Sink,
    kept: Keeper,
    *,
    region: Region | None = None,
    view: Region | None = None,
    beside: Probabilities | None = None,
    cancel: CancelToken | None = None,
    notes: Sequence[str] = (),
) -> Iterator[Event]:
    """Run a network with a recipe; see `napari_unet.inference.predict.predict`.

    A 2D network sees the slices of a volume, but the volume is cropped and scaled as
    one. A wanted region is cut out of the whole volume's result.

    Parameters
    ----------
    stack, network, config, sink, region, view, cancel
        As there; the sink stays open.
    kept : Keeper
        Keeps the volumes that are finished.
    beside : Probabilities, optional
        Takes the probabilities; stays open.
    notes : sequence of str
        Told after `Started`.
    """
    job, work, own = _prepare(stack, network, config, region, cancel or CancelToken())
    job = replace(job, beside=beside)
    job = job if view is None else from_view(job, view)
    yield Started(f"{stack.name}: {job.plan.describe()}", job.layout.frames, "patches")
    yield from (Warned(note) for note in (*notes, *own))
    sink.open(job.output(_NO_SCALING))
    if beside is not None:
        beside.open(job, _NO_SCALING)
    target, frames = job.layout.target, job.layout.frames
    reached = Reached([target], frames, frozenset([target[0][1]]))
    kept.begin(Decisions.of(job, _NO_SCALING), reached)
    yield from replay(job, sink, kept, reached, work.cancel)
    rest = itertools.islice(enumerate(job.layout.positions()), reached.frame, None)
    for number, position in rest:
        events = work.run(_volume(job, position), number, frames)
        for event in events:
            if not isinstance(event, np.ndarray):
                yield event
                continue
            part = target, _reduced(job, event)
            kept.add(*part)
            yield from deliver(job, sink, position, part, ends_frame=True)
        yield from (Warned(note) for note in kept.take_notes())


def _prepare(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    region: Region | None,
    cancel: CancelToken,
) -> tuple[Job, Prepared, list[str]]:
    """Check that everything fits together; warnings are the last of the answers."""
    spec, recipe = network.spec, network.spec.recipe
    assert recipe is not None
    ndim = 3 if "Z" in stack.axes else spec.ndim
    layout = lay_out(
        stack, spec.model_copy(update={"ndim": ndim}), config.channels, region
    )
    spacing, note = spacing_of(stack, layout.spatial, recipe)
    _check_reading(stack, layout, spec)
    finish = finisher(spec, config, layout.target)
    placed = shared.placed(network, config.device, config.precision)
    placed = placed.accelerated(config.backend)
    on_cpu = placed.device.type == "cpu"
    plan: Any = _Patches(recipe)
    spare = None if on_cpu else partial(network.place, "cpu", "float32")
    work = Prepared(
        spec,
        Runner(placed, plan, 1, spare),
        normalizations(spec, config.normalize),
        spacing,
        cancel,
        config.nan,
        _forward_bytes(network, recipe) if on_cpu else 0,
    )
    job = Job(stack, network, placed, config, layout, plan, finish, 1)
    return job, work, [n for n in (note, _unused(config)) if n]


def _check_reading(stack: ImageStack, layout: Layout, spec: ModelSpec) -> None:
    """Refuse, before it is read, a volume that does not even fit as it is."""
    channels = len(layout.channels)
    pixel = channels * (stack.dtype.itemsize + 4) + 4 * spec.out_channels
    check_memory(math.prod(layout.size) * pixel, layout.size, spec)


def _forward_bytes(network: Network, recipe: Recipe) -> int:
    """Bytes that the forward pass of one patch takes at least."""
    return int(shared.per_pixel(network) * math.prod(recipe.patch) / footprint.SLACK)


def _unused(config: PredictConfig) -> str:
    """Say that settings of the tiling are not looked at."""
    own = PredictConfig.model_fields
    names = ("tile", "tiling", "overlap", "window", "tta", "memory")
    given = [n for n in names if getattr(config, n) != own[n].default]
    if not given:
        return ""
    verb = "is" if len(given) == 1 else "are"
    return (
        "The model brings its own patches, overlap and flips; "
        f"{' and '.join(given)} {verb} unused"
    )


def _volume(job: Job, position: Mapping[str, int]) -> np.ndarray:
    """Read a volume, (C, Z, Y, X); Z is 1 where the image has none."""
    pixels = read_channels(job.stack, job.layout, position)
    return pixels if len(job.layout.spatial) == 3 else pixels[:, None]


def _reduced(job: Job, logits: np.ndarray) -> Reduced:
    """Cut the wanted part out of a volume's logits, and keep what is needed of it."""
    if len(job.layout.spatial) == 2:
        logits = logits[:, 0]
    part = logits[(slice(None), *(slice(*r) for r in job.layout.target))]
    return job.reduce(torch.from_numpy(np.ascontiguousarray(part)))
