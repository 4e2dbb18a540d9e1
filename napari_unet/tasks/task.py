"""The protocol of a task, and what the tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch

    from napari_unet.networks.spec import ModelSpec


class Separator(Protocol):
    """The part of a `Task` that finds objects."""

    def foreground(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Where objects are, bool (*spatial); evidence of 0 is never foreground."""
        ...

    def separate(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Object numbers 1, 2 ... (*spatial), int32, of a whole frame's evidence."""
        ...


class Task(Separator, Protocol):
    """From logits to results.

    All methods work on any block of a frame; only `separate` needs a whole frame, or
    whole parts of the foreground.

    Attributes
    ----------
    falls_apart : bool
        Whether parts of the foreground that do not touch have nothing to do with each
        other, so that `separate` may see them one by one.
    """

    falls_apart: bool

    def check(self, kind: str) -> None:
        """Refuse a kind of result the network cannot give, with a `UsageError`."""
        ...

    def classes(self) -> int:
        """Return the largest label id."""
        ...

    def labels(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Class ids (*spatial), integer, of logits (C, *spatial)."""
        ...

    def evidence(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Return what `separate` needs of each pixel, (K, *spatial), of logits."""
        ...

    def evidence_bytes(self) -> int:
        """Bytes of `evidence` per pixel."""
        ...


def task_of(spec: ModelSpec) -> Task:
    """Task of a network."""
    from napari_unet.tasks.flows import Flows
    from napari_unet.tasks.instances import Instances
    from napari_unet.tasks.restoration import Restoration
    from napari_unet.tasks.semantic import Semantic

    tasks: dict[str, Callable[[ModelSpec], Task]] = {
        "semantic": Semantic,
        "instances": Instances,
        "restoration": Restoration,
        "flows": Flows,
    }
    return tasks[spec.task](spec)


def probabilities(logits: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply a network's activation.

    Parameters
    ----------
    logits : torch.Tensor
        (C, *spatial) float32.
    activation : {"softmax", "sigmoid", "none"}
        Softmax over the channels; a sigmoid per channel; or the values as they are.

    Returns
    -------
    torch.Tensor
        (C, *spatial) float32.
    """
    if activation == "softmax":
        return logits.softmax(0)
    return logits.sigmoid() if activation == "sigmoid" else logits
