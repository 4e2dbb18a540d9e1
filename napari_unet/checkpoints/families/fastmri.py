"""fastMRI's Unet (facebookresearch/fastMRI), 2-D.

Instance norms without weights, average pooling; up-sampled features come first in the
concatenation, padded by reflection on odd sizes.
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
    count,
    normalization,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import Named, ReflectTo, doubled

if TYPE_CHECKING:
    from collections.abc import Mapping

_SLOPE = 0.2


class FastMriSpec(Config):
    """Shape of the network: `width` channels, doubled at each of `pools` poolings."""

    in_channels: int = Field(1, ge=1, le=4096)
    out_channels: int = Field(1, ge=1, le=65535)
    width: int = Field(32, ge=1, le=4096)
    pools: int = Field(4, ge=1, le=8)


class FastMri(Family):
    """fastMRI's Unet, which reconstructs images."""

    name = "fastmri"
    title = "fastMRI Unet"
    source = "fastmri 0.3.0, fastmri.models.unet.Unet"
    typical: ClassVar[Mapping[str, Any]] = {"width": 8}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (
            "down_sample_layers.0.layers.0.weight",
            "up_transpose_conv.0.layers.0.weight",
        )
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        width, channels = shapes["down_sample_layers.0.layers.0.weight"][:2]
        pools = count(shapes, "down_sample_layers.{}.")
        outputs = shapes[f"up_conv.{pools - 1}.1.weight"][0]
        architecture = {
            "in_channels": channels,
            "out_channels": outputs,
            "width": width,
            "pools": pools,
        }
        fields = {
            "ndim": 2,
            "in_channels": channels,
            "out_channels": outputs,
            "activation": "none",
            "task": "restoration",
        }
        reason = "its own transform standardises each slice"
        return Inferred(architecture, fields, (normalization("zscore", reason),))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return FastMriUNet(FastMriSpec(**architecture))


class FastMriUNet(nn.Module):
    """fastMRI's U-Net with its key names: (N, C, Y, X) to the image."""

    def __init__(self, spec: FastMriSpec) -> None:
        super().__init__()
        widths = doubled(spec.width, spec.pools + 1)
        inputs = (spec.in_channels, *widths)
        self.down_sample_layers = nn.ModuleList(
            _block(inputs[n], widths[n]) for n in range(spec.pools)
        )
        self.pool = nn.AvgPool2d(2)
        self.conv = _block(widths[-2], widths[-1])
        self.up_transpose_conv = nn.ModuleList(_up(w) for w in widths[-2::-1])
        self.up_conv = nn.ModuleList(_block(2 * w, w) for w in widths[-2::-1])
        head = nn.Conv2d(widths[0], spec.out_channels, 1)
        self.up_conv[-1] = nn.Sequential(self.up_conv[-1], head)
        self.pad = ReflectTo()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image, (N, out_channels, Y, X)."""
        skips = []
        for block in self.down_sample_layers:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.conv(x)
        for up, block in zip(self.up_transpose_conv, self.up_conv, strict=True):
            skip = skips.pop()
            x = block(torch.cat([self.pad(up(x), skip), skip], 1))
        return x


def _block(inputs: int, outputs: int) -> Named:
    """Two convolutions, at 0 and 4: the source has a dropout after each."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [
            nn.Conv2d(width, outputs, 3, padding=1, bias=False),
            nn.InstanceNorm2d(outputs),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Dropout2d(0.0),
        ]
    return Named("layers", nn.Sequential(*layers))


def _up(outputs: int) -> Named:
    up = nn.ConvTranspose2d(2 * outputs, outputs, 2, 2, bias=False)
    norm = nn.InstanceNorm2d(outputs)
    return Named("layers", nn.Sequential(up, norm, nn.LeakyReLU(_SLOPE, inplace=True)))
