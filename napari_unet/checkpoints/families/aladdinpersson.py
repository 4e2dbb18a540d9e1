"""The U-Net of Aladdin Persson's tutorial, copied hundreds of times, in 2-D and 3-D.

The skip comes first in the concatenation; up-sampled features are resized to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    count,
    normalization,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import LinearTo, Named, double_conv, layer

if TYPE_CHECKING:
    from collections.abc import Mapping


class AladdinSpec(Config):
    """Shape of the network; the bottleneck is twice as wide as the last of `widths`."""

    ndim: Literal[2, 3] = 2
    in_channels: int = Field(3, ge=1, le=4096)
    out_channels: int = Field(1, ge=1, le=65535)
    widths: tuple[int, ...] = Field((64, 128, 256, 512), min_length=1, max_length=8)
    bottleneck: int = Field(1024, ge=1, le=8192)
    bias: bool = False


class Aladdin(Family):
    """aladdinpersson/Machine-Learning-Collection."""

    name = "aladdinpersson"
    title = "aladdinpersson's tutorial UNET"
    source = (
        "aladdinpersson/Machine-Learning-Collection 65b8c80, "
        "semantic_segmentation_unet.model.UNET; in 3-D the same with 3-D layers"
    )
    typical: ClassVar[Mapping[str, Any]] = {"widths": [8, 16, 32], "bottleneck": 64}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("downs.0.conv.0.weight", "ups.0.weight", "final_conv.weight")
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        first = shapes["downs.0.conv.0.weight"]
        places = range(count(shapes, "downs.{}."))
        architecture: dict[str, Any] = {
            "ndim": len(first) - 2,
            "in_channels": first[1],
            "out_channels": shapes["final_conv.weight"][0],
            "widths": [shapes[f"downs.{n}.conv.0.weight"][0] for n in places],
            "bottleneck": shapes["bottleneck.conv.0.weight"][0],
            "bias": "downs.0.conv.0.bias" in shapes,
        }
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        reason = "the tutorial divides 8-bit images by 255"
        assumed = (
            activation(fields["out_channels"]),
            normalization("linear", reason, gain=1 / 255, offset=0.0),
        )
        return Inferred(architecture, fields, assumed)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return AladdinUNet(AladdinSpec(**architecture))


class AladdinUNet(nn.Module):
    """The network with its key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: AladdinSpec) -> None:
        super().__init__()
        inputs = (spec.in_channels, *spec.widths)
        self.downs = nn.ModuleList(
            _block(spec, i, o) for i, o in zip(inputs, spec.widths, strict=False)
        )
        self.pool = layer("MaxPool", spec.ndim)(2)
        self.ups = nn.ModuleList()
        deeper = (*spec.widths[1:], spec.bottleneck)
        for width, deep in zip(spec.widths[::-1], deeper[::-1], strict=True):
            self.ups.append(layer("ConvTranspose", spec.ndim)(deep, width, 2, 2))
            self.ups.append(_block(spec, 2 * width, width))
        self.bottleneck = _block(spec, spec.widths[-1], spec.bottleneck)
        self.final_conv = layer("Conv", spec.ndim)(spec.widths[0], spec.out_channels, 1)
        self.resize = LinearTo()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        skips = []
        for down in self.downs:
            skips.append(down(x))
            x = self.pool(skips[-1])
        x = self.bottleneck(x)
        for n in range(0, len(self.ups), 2):
            skip = skips.pop()
            x = self.resize(self.ups[n](x), skip)
            x = self.ups[n + 1](torch.cat([skip, x], 1))
        logits: torch.Tensor = self.final_conv(x)
        return logits


def _block(spec: AladdinSpec, inputs: int, outputs: int) -> Named:
    return Named("conv", double_conv(inputs, outputs, spec.bias, spec.ndim))
