"""A prediction, checked and planned before its first pixel is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import napari_unet
from napari_unet.config import PredictConfig
from napari_unet.errors import UsageError
from napari_unet.images import intensity
from napari_unet.images.intensity import Normalization, Scaling
from napari_unet.images.sinks import OutputSpec
from napari_unet.inference import augmented, footprint, shared, tiling, turns
from napari_unet.inference.finish import Finisher, Reduced, finisher
from napari_unet.inference.layout import Layout, lay_out
from napari_unet.inference.plan import Memory, Plan, RowCost, plan
from napari_unet.networks import device as devices
from napari_unet.tasks.semantic import class_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from napari_unet.events import CancelToken
    from napari_unet.images.stack import ImageStack
    from napari_unet.inference.layout import Region
    from napari_unet.inference.probabilities import Probabilities
    from napari_unet.inference.tiling import Range
    from napari_unet.networks.network import Network
    from napari_unet.networks.spec import ModelSpec

_CPU_BUDGET = 4 << 30
"""Larger tiles save little on a CPU and crowd out the user's other programs."""
_COMFORT = 256 << 20
"""Frames that take more are streamed on a CPU, as fast and in less memory."""
_row_costs: WeakKeyDictionary[Network, RowCost | None] = WeakKeyDictionary()
_BATCH = 16
"""Most tiles per forward pass on a GPU where the user says nothing else."""


class Advance(NamedTuple):
    """What is final after one more piece of work.

    Attributes
    ----------
    position : mapping of str to int
        Of the frame, along the looped axes.
    parts : list
        Where finished logits lie in the frame, and the logits (C, *spatial).
    ends_frame : bool
        Whether the frame is done.
    notes : list of str
        What the user should be told.
    """

    position: Mapping[str, int]
    parts: list[tuple[tuple[Range, ...], torch.Tensor]]
    ends_frame: bool
    notes: list[str]


@dataclass(frozen=True)
class Job:
    """A prediction, checked and planned, before its first pixel is read.

    Attributes
    ----------
    stack : ImageStack
        The image.
    network : Network
        As it was handed in.
    placed : Network
        On its device.
    config : PredictConfig
        The settings.
    layout : Layout
        Which axes the network sees.
    plan : Plan
        How a frame is cut.
    finisher : Finisher
        What makes the result of logits.
    batch : int
        Tiles per forward pass.
    memory : Memory, optional
        By which it was planned; None for a network with a recipe.
    others : tuple of Network
        The same network on further GPUs that share the tiles.
    beside : Probabilities, optional
        Takes the probabilities too.
    """

    stack: ImageStack
    network: Network
    placed: Network
    config: PredictConfig
    layout: Layout
    plan: Plan
    finisher: Finisher
    batch: int
    memory: Memory | None = None
    others: tuple[Network, ...] = ()
    beside: Probabilities | None = None

    @cached_property
    def passes(self) -> tuple[Plan, ...]:
        """Plans of all passes over a frame: several under test-time augmentation."""
        if self.config.tta == "none":
            return (self.plan,)
        return tuple(augmented.passes(self))

    @property
    def total(self) -> int:
        """Tiles of all frames."""
        return sum(plan.pieces for plan in self.passes) * self.layout.frames

    def accelerated(self) -> Job:
        """Return the job with the backend that the settings ask for."""
        if self.plan.way == "stream":
            return self
        others = (other.accelerated(self.config.backend) for other in self.others)
        placed = self.placed.accelerated(self.config.backend)
        return replace(self, placed=placed, others=tuple(others))

    def reduce(self, logits: torch.Tensor) -> Reduced:
        """Return what is needed of the logits (C, *spatial) of a part."""
        values = None if self.beside is None else self.beside.values(logits)
        return Reduced(self.finisher.reduce(logits), values)

    def output(self, scaling: Scaling) -> OutputSpec:
        """Describe the result."""
        spec, has_channels = self.network.spec, self.finisher.channels is not None
        axes = self.layout.axes(has_channels)
        shares = self.config.kind == "probabilities" and spec.task != "restoration"
        return OutputSpec(
            axes=axes,
            shape=self.layout.shape(self.finisher.channels),
            dtype=self.finisher.dtype,
            kind="image" if has_channels else "labels",
            scale={a: v for a, v in self.stack.scale.items() if a in axes},
            units={a: v for a, v in self.stack.units.items() if a in axes},
            channel_names=spec.class_names if has_channels else (),
            classes=class_names(spec) if self.config.kind == "labels" else {},
            window=(0.0, 1.0) if shares else None,
            name=f"{self.stack.name} {self.config.kind}",
            provenance=self._provenance(scaling),
        )

    def _provenance(self, scaling: Scaling) -> dict[str, Any]:
        return {
            "software": f"unet-napari {napari_unet.__version__}",
            "model": self.network.spec.name,
            "model_digest": self.network.digest,
            "source": self.stack.source,
            "settings": self.config.model_dump(
                mode="json", include=set(PredictConfig.model_fields)
            ),
            "tiling": self.plan.describe(),
            "device": self.placed.words,
            "intensity": asdict(scaling),
        }


def prepare(
    stack: ImageStack,
    network: Network,
    config: PredictConfig,
    region: Region | None = None,
    memory: Memory | None = None,
) -> Job:
    """Check that everything fits together, and plan the work.

    Parameters
    ----------
    stack : ImageStack
        The image.
    network : Network
        Not placed yet; `config` says where it runs.
    config : PredictConfig
        The settings.
    region : mapping of str to int or slice, optional
        Wanted part of the image in voxels, by axis name.
    memory : Memory, optional
        What a forward pass may and does cost; looked up when not given. With that of an
        earlier run the plan is the same.

    Raises
    ------
    UNetError
        If image, network, settings or device do not fit; see `lay_out`, `plan` and
        `Network.place`.
    """
    layout = lay_out(stack, network.spec, config.channels, region)
    augmented.check(stack, config)
    finish = finisher(network.spec, config, layout.target)
    placed = shared.placed(network, config.device, config.precision)
    if memory is None:
        memory = _memory(network, placed, shared.per_pixel(network), config.memory)
        chosen = shared.planned(network, layout.size, config, memory, layout.target)
    else:
        chosen = plan(layout.size, network.geometry, config, memory, layout.target)
    _check_memory(placed.device, chosen)
    if config.tta != "none":
        averaged = turns.words(config.tta, layout.spatial)
        chosen = replace(chosen, reason=f"{chosen.reason}; {averaged}")
    batch = config.batch_size or _batch(placed.device, memory, chosen)
    others = tuple(
        network.place(name, config.precision)
        for name in devices.further_gpus(placed.device, config.gpus - 1)
    )
    return Job(
        *(stack, network, placed, config, layout, chosen, finish, batch),
        memory=memory,
        others=others,
    )


def measure(job: Job, cancel: CancelToken | None = None) -> Scaling:
    """Measure the scaling over the whole stack, so that all its crops are scaled alike.

    Raises
    ------
    Stopped
        If `cancel` is set meanwhile.
    """
    return intensity.measure(
        job.stack,
        normalizations(job.network.spec, job.config.normalize),
        channels=job.layout.channels,
        nan=job.config.nan,
        cancel=cancel,
    )


def normalizations(spec: ModelSpec, wish: str) -> tuple[Normalization, ...]:
    """Choose the model's own normalization, or the plain one of the kind asked for."""
    if wish == "auto" or all(n.kind == wish for n in spec.normalization):
        return spec.normalization
    return (Normalization.build(kind=wish),)


def _memory(
    network: Network, placed: Network, per_pixel: float, most: float | None
) -> Memory:
    """Return what a forward pass may and does cost; `most` are GB."""
    budget = _budget(placed.device)
    if most is not None:
        budget = min(budget, int(most * 1e9))
    is_cpu = placed.device.type == "cpu"
    return Memory(
        budget,
        per_pixel,
        min(budget, _COMFORT) if is_cpu else budget,
        partial(_row_cost, network, placed if is_cpu else network),
    )


def known_row_cost(network: Network) -> RowCost | None:
    """Return what streaming takes where a plan needed to know, else None."""
    return _row_costs.get(network)


def _row_cost(network: Network, measured: Network) -> RowCost | None:
    """Measure what streaming takes, once for a network."""
    if network not in _row_costs:
        grids = tiling.grids(network.geometry)
        _row_costs[network] = footprint.row_cost(measured, grids)
    return _row_costs[network]


def _budget(device: torch.device) -> int:
    """Bytes a forward pass may take on a device."""
    free = devices.free_memory(device)
    return min(free // 2, _CPU_BUDGET) if device.type == "cpu" else free * 7 // 10


def _check_memory(device: torch.device, chosen: Plan) -> None:
    """Refuse what surely fills the main memory, where the system would end us."""
    needed, free = chosen.peak / footprint.SLACK, devices.free_memory(device)
    if device.type == "cpu" and needed > free:
        raise UsageError(
            "The memory is too small for one forward pass of this size",
            found=f"{free / 1e9:.1f} GB free",
            expected=f"{needed / 1e9:.1f} GB for {chosen.describe()}",
            hint="Use --tiling auto, or a smaller --tile.",
        )


def _batch(device: torch.device, memory: Memory, chosen: Plan) -> int:
    """Tiles per forward pass: one on a CPU, where more are slower."""
    if device.type == "cpu":
        return 1
    return max(1, min(_BATCH, memory.budget // max(chosen.peak, 1)))
