from __future__ import annotations

import torch
from torch import nn

from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec


def unet(**fields) -> Network:
    """Return a tiny native network with weights and statistics that matter."""
    spec = UNetSpec(**{"widths": (4, 8), "in_channels": 1, "out_channels": 2, **fields})
    return Network(
        lively(UNet(spec)),
        ModelSpec(
            name="tiny",
            architecture=spec.model_dump(mode="json"),
            ndim=spec.ndim,
            in_channels=spec.in_channels,
            out_channels=spec.out_channels,
        ),
    )


def lively(module: nn.Module) -> nn.Module:
    """Give every weight and statistic a random value."""
    draw = torch.Generator().manual_seed(3)
    for key, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            scale = 0.3 if tensor.ndim > 1 else 1.0
            tensor.copy_(scale * torch.randn(tensor.shape, generator=draw))
            if key.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return module.eval()
