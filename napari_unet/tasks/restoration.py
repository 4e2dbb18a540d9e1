"""Restoration: the network gives an image, not classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from napari_unet.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from napari_unet.networks.spec import ModelSpec


class Restoration:
    """A network whose channels are restored image channels.

    Parameters
    ----------
    spec : ModelSpec
        Of the network.
    """

    falls_apart = False

    def __init__(self, spec: ModelSpec) -> None:
        self._name = spec.name

    def check(self, kind: str) -> None:
        """Refuse labels and instances."""
        if kind in ("labels", "instances"):
            self._refuse(kind)

    def classes(self) -> int:
        """Refuse: there are no classes."""
        self._refuse("labels")

    def labels(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Refuse: there are no classes."""
        self._refuse("labels")

    def evidence(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Refuse: there are no objects."""
        self._refuse("instances")

    def evidence_bytes(self) -> int:
        """Refuse: there are no objects."""
        self._refuse("instances")

    def foreground(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Refuse: there are no objects."""
        self._refuse("instances")

    def separate(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Refuse: there are no objects."""
        self._refuse("instances")

    def _refuse(self, kind: str) -> NoReturn:
        raise UsageError(
            f"The model {self._name} restores images and has no {kind}",
            hint="Ask for --kind probabilities, which gives the restored image.",
        )
