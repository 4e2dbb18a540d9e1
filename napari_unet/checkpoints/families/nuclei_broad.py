"""The 2-D U-Net of the bioimage.io specification, trained on nuclei ("nuclei broad").

Two convolutions follow each other without an activation between them, which its names
show: 0 and 1 are the convolutions, 2 is the ReLU. Assuming the usual ReLU in the gap
gives masks that look right and probabilities that are wrong by 0.2.
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
    count,
    normalization,
)
from napari_unet.config import Config

if TYPE_CHECKING:
    from collections.abc import Mapping


class NucleiBroadSpec(Config):
    """Shape of the network: channels per level from the full resolution down."""

    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    widths: tuple[int, ...] = Field((16, 32, 64, 128), min_length=2, max_length=8)


class NucleiBroad(Family):
    """UNet2d of the bioimage.io specification's example."""

    name = "nuclei_broad"
    title = "bioimage.io example UNet2d"
    source = "spec-bioimage-io, example unet2d_nuclei_broad, unet2d.UNet2d"
    typical: ClassVar[Mapping[str, Any]] = {
        "in_channels": 1,
        "out_channels": 1,
        "widths": [4, 8, 16],
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("encoders.0.1.weight", "base.1.weight", "upsamplers.0.1.weight")
        return all(mark in shapes for mark in (*marks, "output.weight"))

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        del hints  # names and shapes tell everything
        levels = count(shapes, "encoders.{}.")
        widths = [shapes[f"encoders.{n}.0.weight"][0] for n in range(levels)]
        channels = {
            "in_channels": shapes["encoders.0.0.weight"][1],
            "out_channels": shapes["output.weight"][0],
        }
        return Inferred(
            {**channels, "widths": [*widths, shapes["base.0.weight"][0]]},
            {**channels, "ndim": 2},
            (
                activation(channels["out_channels"]),
                normalization("zscore", "the published model's own", eps=1e-6),
            ),
        )

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return NucleiBroadUNet(NucleiBroadSpec(**architecture))


class NucleiBroadUNet(nn.Module):
    """The network with its key names: (N, C, Y, X) to logits."""

    def __init__(self, spec: NucleiBroadSpec) -> None:
        super().__init__()
        widths = spec.widths
        inputs = (spec.in_channels, *widths[:-2])
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.encoders = nn.ModuleList(
            _block(i, o) for i, o in zip(inputs, widths[:-1], strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.base = _block(*widths[-2:])
        self.upsamplers = nn.ModuleList(_up(i, o) for i, o in rising)
        self.decoders = nn.ModuleList(_block(2 * o, o) for _, o in rising)
        self.output = nn.Conv2d(widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, Y, X)."""
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
            x = self.pool(x)
        x = self.base(x)
        for upsampler, decoder in zip(self.upsamplers, self.decoders, strict=True):
            x = decoder(torch.cat([skips.pop(), upsampler(x)], 1))
        logits: torch.Tensor = self.output(x)
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions and one ReLU at the end."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(inputs, outputs, 1),
    )
