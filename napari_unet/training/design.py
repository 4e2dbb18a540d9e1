"""Design: which network learns, on which patches, before anything is read of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from napari_unet import checkpoints
from napari_unet.events import Cancelled, Finished, Started, Stopped
from napari_unet.networks.device import choose_device, free_memory
from napari_unet.networks.network import Network
from napari_unet.training import plan
from napari_unet.training.looking import gather
from napari_unet.training.planning import step_memory
from napari_unet.training.typical import typical_size, typical_spacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.training.annotations import AnnotationSet, Example, Kind
    from napari_unet.training.planning import NetworkPlan


@dataclass(frozen=True)
class Design:
    """What learns from what.

    Attributes
    ----------
    annotations : AnnotationSet
        The strokes.
    kind : {"classes", "instances"}
        What their ids are.
    network : Network
        What learns, with random weights where it is new.
    batch : Batch
        Shape of a batch.
    planned : NetworkPlan or None
        Plan of a new network for complete labels.
    notes : list of str
        What the user should know.
    """

    annotations: AnnotationSet
    kind: Kind
    network: Network
    batch: plan.Batch
    planned: NetworkPlan | None
    notes: list[str]

    def facts(self) -> dict[str, Any]:
        """Tell it in plain values, memory in bytes."""
        spec, geometry = self.network.spec, self.network.geometry
        seen = zip(geometry.before, geometry.after, strict=True)
        stacks = self.annotations.examples
        return {
            "axes": spec.spatial,
            "task": spec.task,
            "classes": list(spec.class_names),
            "patch": list(self.batch.patch),
            "batch": self.batch.size,
            **self._shape(),
            "weights": sum(p.numel() for p in self.network.module.parameters()),
            "receptive_field": [1 + before + after for before, after in seen],
            "smallest_object": spec.smallest,
            "normalization": spec.normalization[0].kind,
            "painted": len(self.annotations.ids),
            "painted_as": self.kind,
            "images": len(stacks),
            "typical_size": list(typical_size(stacks, spec.spatial)),
            "typical_spacing": typical_spacing(stacks, spec.spatial),
            "notes": self.notes,
        }

    def _shape(self) -> dict[str, Any]:
        """Levels of the network, where it has such, and what a step takes."""
        told = self.network.spec.architecture
        names = "strides", "kernels", "widths"
        levels: dict[str, Any] = {name: told.get(name) for name in names}
        if not all(levels.values()):
            return {"memory": None}
        return {
            **levels,
            "memory": step_memory(self.batch.patch, self.batch.size, **levels),
        }


def design(
    examples: Sequence[Example],
    network: Network | None,
    config: FinetuneConfig,
    cancel: CancelToken | None = None,
) -> Design:
    """Look through the strokes and settle the network, or plan one if there is none.

    Raises
    ------
    StrokesError, ModelError, UsageError
        If the strokes, the network or the settings do not fit together.
    Stopped
        If `cancel` was set.
    """
    annotations, kind, notes = gather(examples, network, config, cancel)
    if kind == "classes" and (missing := plan.unpainted(annotations.ids)):
        notes.append(missing)
    planned = None
    if network is None and config.complete:
        memory = free_memory(choose_device(config.device).device) / 2
        planned = plan.plan_full(annotations, kind, config, memory)
        notes.append(planned.words())
    learner = _learner(annotations, kind, network, config, planned)
    plan.check_fit(annotations, kind, learner.spec, config)
    batch = plan.plan_batch(
        learner.geometry,
        learner.spec,
        _largest(annotations.examples),
        planned.patch if planned else config.patch,
        complete=config.complete,
        batch=planned.batch if planned else config.batch,
    )
    return Design(annotations, kind, learner, batch, planned, notes)


def _learner(
    annotations: AnnotationSet,
    kind: Kind,
    network: Network | None,
    config: FinetuneConfig,
    planned: NetworkPlan | None,
) -> Network:
    """Make a network, or take the one given with the scaling asked for."""
    if network is None:
        spec = plan.new_spec(annotations, kind, config, planned)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return Network(checkpoints.build_module(spec), spec)
    if config.normalize == "auto":
        return network
    scaling = {"normalization": (plan.normalization(config),)}
    spec = network.spec.model_copy(update=scaling)
    return Network(network.module, spec, network.digest)


def _largest(examples: Sequence[Example]) -> dict[str, int]:
    """Largest size of each axis over the images."""
    sizes: dict[str, int] = {}
    for example in examples:
        for axis, size in example.stack.sizes.items():
            sizes[axis] = max(size, sizes.get(axis, 1))
    return sizes


def outlook(
    examples: Sequence[Example],
    network: Network | None,
    config: FinetuneConfig,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Tell what would learn from what, as `Finished` with plain values.

    Raises
    ------
    UNetError
        As `design`.
    """
    yield Started("Planning", 1, "plan")
    try:
        yield Finished(design(examples, network, config, cancel).facts())
    except Stopped as stopped:
        yield Cancelled(str(stopped))
