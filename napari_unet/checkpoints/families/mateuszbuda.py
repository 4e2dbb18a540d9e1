"""mateuszbuda/brain-segmentation-pytorch, a 2-D U-Net for brain MRI.

Up-sampled features come first in the concatenation; the sigmoid is inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    normalization,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import double_conv, doubled

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEVELS = 4
_PARTS = ("conv1", "norm1", "relu1", "conv2", "norm2", "relu2")


class MateuszbudaSpec(Config):
    """Shape of the network: `width` channels, doubled four times."""

    in_channels: int = Field(3, ge=1, le=4096)
    out_channels: int = Field(1, ge=1, le=65535)
    width: int = Field(32, ge=1, le=4096)


class Mateuszbuda(Family):
    """mateuszbuda/brain-segmentation-pytorch."""

    name = "mateuszbuda"
    title = "mateuszbuda/brain-segmentation-pytorch"
    source = "mateuszbuda/brain-segmentation-pytorch 3329695, unet.UNet"
    typical: ClassVar[Mapping[str, Any]] = {"width": 8}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        return "encoder1.enc1conv1.weight" in shapes and "upconv4.weight" in shapes

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        width, channels = shapes["encoder1.enc1conv1.weight"][:2]
        outputs = shapes["conv.weight"][0]
        architecture = {
            "in_channels": channels,
            "out_channels": outputs,
            "width": width,
        }
        fields = {
            "ndim": 2,
            "in_channels": channels,
            "out_channels": outputs,
            "activation": "none",
        }
        reason = "its own loader standardises each volume, clipped to percentiles"
        return Inferred(architecture, fields, (normalization("zscore", reason),))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return MateuszbudaUNet(MateuszbudaSpec(**architecture))


class MateuszbudaUNet(nn.Module):
    """The network with its key names: (N, C, Y, X) to probabilities."""

    def __init__(self, spec: MateuszbudaSpec) -> None:
        super().__init__()
        widths = doubled(spec.width, _LEVELS + 1)
        inputs = (spec.in_channels, *widths)
        self.pool = nn.MaxPool2d(2)
        for n in range(_LEVELS):
            block = _block(inputs[n], widths[n], f"enc{n + 1}")
            self.add_module(f"encoder{n + 1}", block)
        self.bottleneck = _block(widths[-2], widths[-1], "bottleneck")
        for n in reversed(range(_LEVELS)):
            up = nn.ConvTranspose2d(widths[n + 1], widths[n], 2, 2)
            self.add_module(f"upconv{n + 1}", up)
            block = _block(2 * widths[n], widths[n], f"dec{n + 1}")
            self.add_module(f"decoder{n + 1}", block)
        self.conv = nn.Conv2d(widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities, (N, out_channels, Y, X)."""
        skips = []
        for n in range(1, _LEVELS + 1):
            skips.append(self.get_submodule(f"encoder{n}")(x))
            x = self.pool(skips[-1])
        x = self.bottleneck(x)
        for n in range(_LEVELS, 0, -1):
            x = self.get_submodule(f"upconv{n}")(x)
            x = self.get_submodule(f"decoder{n}")(torch.cat([x, skips.pop()], 1))
        return torch.sigmoid(self.conv(x))


def _block(inputs: int, outputs: int, name: str) -> nn.Sequential:
    """Two convolutions, each part under a name of its own."""
    block = nn.Sequential()
    for part, module in zip(_PARTS, double_conv(inputs, outputs, False), strict=True):
        block.add_module(f"{name}{part}", module)
    return block
