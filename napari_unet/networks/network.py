"""Network: a module with its spec, on a device, ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

    from napari_unet.networks.spec import ModelSpec


class Network:
    """A U-Net that can be called.

    Attributes
    ----------
    spec : ModelSpec
        What it is.
    module : torch.nn.Module
        Its layers in float32, in eval mode, as training and export need them.
    digest : str
        SHA-256 of the checkpoint it came from, empty for a new network.
    """

    def __init__(self, module: nn.Module, spec: ModelSpec, digest: str = "") -> None:
        self.module = module.eval()
        self.spec = spec
        self.digest = digest

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits (N, out_channels, *spatial) of normalised input, in float32."""
        logits: torch.Tensor = self.module(batch)
        return logits.float()
