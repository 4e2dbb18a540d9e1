"""jvanvugt/pytorch-unet, a 2-D U-Net close to the paper's.

Batch norm comes after the ReLU; up-sampled features come first in the concatenation,
the skip is cropped to them. Without padding the output is smaller than the input.
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
    setting,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import Named, layer
from napari_unet.networks.unet import CropTo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.networks.spec import Assumption


class JvanvugtSpec(Config):
    """Shape of the network."""

    in_channels: int = Field(1, ge=1, le=4096)
    out_channels: int = Field(2, ge=1, le=65535)
    widths: tuple[int, ...] = Field((64, 128, 256, 512, 1024), min_length=2)
    batch_norm: bool = False
    upsampling: Literal["transposed", "linear"] = "transposed"
    padding: Literal[0, 1] = 0
    pooling: Literal["average", "max"] = "max"
    align_corners: bool = False


class Jvanvugt(Family):
    """jvanvugt/pytorch-unet."""

    name = "jvanvugt"
    title = "jvanvugt/pytorch-unet"
    source = "jvanvugt/pytorch-unet 00e358b, unet.UNet; maximum pooling is of copies"
    typical: ClassVar[Mapping[str, Any]] = {"widths": [8, 16, 32]}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (
            "down_path.0.block.0.weight",
            "up_path.0.conv_block.block.0.weight",
            "last.weight",
        )
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        places = range(count(shapes, "down_path.{}."))
        outputs = shapes["last.weight"][0]
        channels = shapes["down_path.0.block.0.weight"][1]
        batch_norm = "down_path.0.block.2.running_mean" in shapes
        is_linear = "up_path.0.up.1.weight" in shapes
        architecture = {
            "in_channels": channels,
            "out_channels": outputs,
            "widths": [shapes[f"down_path.{n}.block.0.weight"][0] for n in places],
            "batch_norm": batch_norm,
            "upsampling": "linear" if is_linear else "transposed",
            "padding": int(batch_norm),
        }
        fields = {"ndim": 2, "in_channels": channels, "out_channels": outputs}
        return Inferred(architecture, fields, tuple(_assumed(architecture)))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return JvanvugtUNet(JvanvugtSpec(**architecture))


def _assumed(architecture: Mapping[str, Any]) -> list[Assumption]:
    padding = architecture["padding"]
    assumed = [
        activation(architecture["out_channels"]),
        normalization("zscore", "intensity scaling is not stored"),
        setting(
            "padding",
            value=padding,
            alternatives=(1 - padding,),
            reason="padding is not stored; it is usual with batch norm",
        ),
        setting(
            "pooling",
            value="max",
            alternatives=("average",),
            reason="pooling has no weights; some revisions take the average",
        ),
    ]
    if architecture["upsampling"] == "linear":
        assumed.append(
            setting(
                "align_corners",
                value=False,
                alternatives=(True,),
                reason="interpolation has no weights; PyTorch before 0.4 aligned",
            )
        )
    return assumed


class JvanvugtUNet(nn.Module):
    """The network with its key names: (N, C, Y, X) to logits."""

    def __init__(self, spec: JvanvugtSpec) -> None:
        super().__init__()
        widths = spec.widths
        inputs = (spec.in_channels, *widths)
        self.down_path = nn.ModuleList(
            _block(spec, i, o) for i, o in zip(inputs, widths, strict=False)
        )
        kind = "AvgPool" if spec.pooling == "average" else "MaxPool"
        self.pool = layer(kind, 2)(2)
        self.up_path = nn.ModuleList(
            _Up(spec, i, o) for i, o in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last = nn.Conv2d(widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, Y, X)."""
        skips = [self.down_path[0](x)]
        for block in self.down_path[1:]:
            skips.append(block(self.pool(skips[-1])))
        x = skips.pop()
        for up in self.up_path:
            x = up(x, skips.pop())
        logits: torch.Tensor = self.last(x)
        return logits


class _Up(nn.Module):
    def __init__(self, spec: JvanvugtSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up: nn.Module = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        if spec.upsampling == "linear":
            enlarge = nn.Upsample(
                scale_factor=2, mode="bilinear", align_corners=spec.align_corners
            )
            self.up = nn.Sequential(enlarge, nn.Conv2d(inputs, outputs, 1))
        self.crop = CropTo()
        self.conv_block = _block(spec, inputs, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        joined = torch.cat([x, self.crop(skip, x)], 1)
        features: torch.Tensor = self.conv_block(joined)
        return features


def _block(spec: JvanvugtSpec, inputs: int, outputs: int) -> Named:
    """Convolution, ReLU and perhaps batch norm, twice."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [nn.Conv2d(width, outputs, 3, padding=spec.padding), nn.ReLU()]
        layers += [nn.BatchNorm2d(outputs)] if spec.batch_norm else []
    return Named("block", nn.Sequential(*layers))
