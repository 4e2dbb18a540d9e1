"""usuyama/pytorch-unet, a 2-D U-Net without norms.

Bilinear up-sampling aligns the corners; up-sampled features come first in the
concatenation. The repository's `ResNetUNet` is another network.
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
    activation,
    normalization,
    setting,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import doubled

if TYPE_CHECKING:
    from collections.abc import Mapping

_DOWN = "dconv_down"
_SCALE = "copies of it read images as 0 to 1"


class UsuyamaSpec(Config):
    """Shape of the network: `width` channels, doubled `levels` - 1 times."""

    in_channels: int = Field(3, ge=1, le=4096)
    out_channels: int = Field(1, ge=1, le=65535)
    width: int = Field(64, ge=1, le=4096)
    levels: int = Field(4, ge=2, le=8)
    align_corners: bool = True


class Usuyama(Family):
    """usuyama/pytorch-unet."""

    name = "usuyama"
    title = "usuyama/pytorch-unet"
    source = "usuyama/pytorch-unet bebf6a4, pytorch_unet.UNet"
    typical: ClassVar[Mapping[str, Any]] = {"width": 8}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        return "dconv_down1.0.weight" in shapes and "conv_last.weight" in shapes

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        width, channels = shapes["dconv_down1.0.weight"][:2]
        outputs = shapes["conv_last.weight"][0]
        architecture = {
            "in_channels": channels,
            "out_channels": outputs,
            "width": width,
            "levels": len({k.partition(".")[0] for k in shapes if k.startswith(_DOWN)}),
        }
        fields = {"ndim": 2, "in_channels": channels, "out_channels": outputs}
        assumed = (
            activation(outputs),
            normalization("linear", _SCALE, gain=1 / 255, offset=0.0),
            setting(
                "align_corners",
                value=True,
                alternatives=(False,),
                reason="the source aligns the corners; copies may not",
            ),
        )
        return Inferred(architecture, fields, assumed)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return UsuyamaUNet(UsuyamaSpec(**architecture))


class UsuyamaUNet(nn.Module):
    """The network with its key names: (N, C, Y, X) to logits."""

    def __init__(self, spec: UsuyamaSpec) -> None:
        super().__init__()
        widths = doubled(spec.width, spec.levels)
        inputs = (spec.in_channels, *widths)
        self.levels = spec.levels
        for n in range(spec.levels):
            self.add_module(f"{_DOWN}{n + 1}", _block(inputs[n], widths[n]))
        self.maxpool = nn.MaxPool2d(2)
        self.upsample = nn.Upsample(
            scale_factor=2, mode="bilinear", align_corners=spec.align_corners
        )
        for n in reversed(range(spec.levels - 1)):
            block = _block(widths[n] + widths[n + 1], widths[n])
            self.add_module(f"dconv_up{n + 1}", block)
        self.conv_last = nn.Conv2d(widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, Y, X)."""
        skips = []
        for n in range(1, self.levels):
            skips.append(self.get_submodule(f"{_DOWN}{n}")(x))
            x = self.maxpool(skips[-1])
        x = self.get_submodule(f"{_DOWN}{self.levels}")(x)
        for n in range(self.levels - 1, 0, -1):
            x = torch.cat([self.upsample(x), skips.pop()], 1)
            x = self.get_submodule(f"dconv_up{n}")(x)
        logits: torch.Tensor = self.conv_last(x)
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Convolution and ReLU, twice."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )
