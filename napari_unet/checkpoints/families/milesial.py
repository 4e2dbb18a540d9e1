"""milesial/Pytorch-UNet, the widely copied 2-D U-Net (read from its 2024 source).

Skip connections come first in the concatenation; the up-sampled features are padded to
the size of the skip; bilinear up-sampling aligns the corners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    normalization,
)
from napari_unet.config import Config
from napari_unet.networks.spec import Assumption
from napari_unet.networks.unet import CropTo

if TYPE_CHECKING:
    from collections.abc import Mapping


class MilesialSpec(Config):
    """Shape of a milesial U-Net: `width` channels, doubled `depth` times."""

    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    width: int = Field(64, ge=1, le=4096)
    depth: int = Field(4, ge=1, le=6)
    bilinear: bool = False
    align_corners: bool = True
    bias: bool = False


class Milesial(Family):
    """milesial/Pytorch-UNet."""

    name = "milesial"
    title = "milesial/Pytorch-UNet"
    source = "milesial/Pytorch-UNet 4.0, unet.UNet"
    typical: ClassVar[Mapping[str, Any]] = {
        "in_channels": 3,
        "out_channels": 2,
        "width": 8,
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (
            "inc.double_conv.0.weight",
            "down1.maxpool_conv.1.double_conv.0.weight",
            "outc.conv.weight",
        )
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        width, channels = shapes["inc.double_conv.0.weight"][:2]
        out_channels = shapes["outc.conv.weight"][0]
        architecture = {
            "in_channels": channels,
            "out_channels": out_channels,
            "width": width,
            "depth": _levels(shapes),
            "bilinear": "up1.up.weight" not in shapes,
            "bias": "inc.double_conv.0.bias" in shapes,
        }
        fields = {"ndim": 2, "in_channels": channels, "out_channels": out_channels}
        return Inferred(architecture, fields, tuple(_assumed(architecture)))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return MilesialUNet(MilesialSpec(**architecture))


def _levels(shapes: Shapes) -> int:
    """Count down1, down2 and so on."""
    numbers = {key.partition(".")[0] for key in shapes if key.startswith("down")}
    return len(numbers)


def _assumed(architecture: Mapping[str, Any]) -> list[Assumption]:
    assumed = [
        activation(architecture["out_channels"]),
        normalization(
            "linear", "its own loader divides by 255", gain=1 / 255, offset=0.0
        ),
    ]
    if architecture["bilinear"]:
        assumed.append(
            Assumption(
                field="architecture.align_corners",
                value=True,
                alternatives=(False,),
                reason="the source aligns the corners; copies may not",
            )
        )
    return assumed


class PadTo(CropTo):
    """Pad `x` with zeros, or crop it, to the spatial size of `like`."""

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return `x` with the spatial size of `like`."""
        sides: list[int] = []
        for axis in range(x.ndim - 1, 1, -1):
            lacking = like.shape[axis] - x.shape[axis]
            sides += [lacking // 2, lacking - lacking // 2]
        return F.pad(x, sides)

    @staticmethod
    def offset(length: int, wanted: int) -> int:
        """Return the pixel of `length` that becomes the first of the `wanted` ones."""
        return -((wanted - length) // 2)


class MilesialUNet(nn.Module):
    """milesial's U-Net with its key names: (N, C, Y, X) to logits."""

    def __init__(self, spec: MilesialSpec) -> None:
        super().__init__()
        widths = [spec.width * 2**n for n in range(spec.depth + 1)]
        shrink = 2 if spec.bilinear else 1
        deepest = widths[-1] // shrink
        self.depth = spec.depth
        self.inc = _DoubleConv(spec.in_channels, widths[0], widths[0], spec.bias)
        for n in range(1, spec.depth + 1):
            outputs = widths[n] if n < spec.depth else deepest
            self.add_module(f"down{n}", _Down(widths[n - 1], outputs, spec.bias))
        for n in range(1, spec.depth + 1):
            level = spec.depth - n
            outputs = widths[level] // (shrink if level else 1)
            self.add_module(f"up{n}", _Up(widths[level + 1], outputs, spec))
        self.outc = _OutConv(widths[0], spec.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, Y, X)."""
        skips = [self.inc(x)]
        for n in range(1, self.depth + 1):
            skips.append(self.get_submodule(f"down{n}")(skips[-1]))
        x = skips.pop()
        for n in range(1, self.depth + 1):
            x = self.get_submodule(f"up{n}")(x, skips.pop())
        logits: torch.Tensor = self.outc(x)
        return logits


class _DoubleConv(nn.Module):
    """Convolution, batch norm, ReLU, twice."""

    def __init__(self, inputs: int, middle: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=bias),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=bias),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.double_conv(x)
        return features


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        convs = _DoubleConv(inputs, outputs, outputs, bias)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), convs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.maxpool_conv(x)
        return features


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int, spec: MilesialSpec) -> None:
        super().__init__()
        middle = outputs
        self.up: nn.Module
        if spec.bilinear:
            self.up = nn.Upsample(
                scale_factor=2, mode="bilinear", align_corners=spec.align_corners
            )
            middle = inputs // 2
        else:
            self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, 2)
        self.pad = PadTo()
        self.conv = _DoubleConv(inputs, middle, outputs, spec.bias)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.pad(self.up(x), skip)
        features: torch.Tensor = self.conv(torch.cat([skip, x], 1))
        return features


class _OutConv(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.conv(x)
        return logits
