"""LeeJunHyun/Image_Segmentation: U_Net and AttU_Net, 2-D.

Nearest-neighbour up-sampling and a convolution; the skip, in AttU_Net weighted by an
attention gate, comes first in the concatenation. Its recurrent R2U_Net is not read.
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
from napari_unet.networks.blocks import Named, double_conv

if TYPE_CHECKING:
    from collections.abc import Mapping


class LeeJunHyunSpec(Config):
    """Shape of the network; `gates` are the widths inside the attention, if any."""

    in_channels: int = Field(3, ge=1, le=4096)
    out_channels: int = Field(1, ge=1, le=65535)
    widths: tuple[int, ...] = Field((64, 128, 256, 512, 1024), min_length=2)
    gates: tuple[int, ...] = ()
    bias: bool = True
    upsampling: str = Field("nearest", pattern="^(nearest|bilinear|aligned)$")


class LeeJunHyun(Family):
    """LeeJunHyun/Image_Segmentation."""

    name = "leejunhyun"
    title = "LeeJunHyun/Image_Segmentation (U_Net, AttU_Net)"
    source = "LeeJunHyun/Image_Segmentation 7a6e5f9, network.U_Net and AttU_Net"
    typical: ClassVar[Mapping[str, Any]] = {"widths": [8, 16, 32, 64, 128]}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("Conv1.conv.0.weight", "Up2.up.1.weight", "Conv_1x1.weight")
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        levels = 1
        while f"Conv{levels + 1}.conv.0.weight" in shapes:
            levels += 1
        numbers = range(1, levels + 1)
        channels = shapes["Conv1.conv.0.weight"][1]
        outputs = shapes["Conv_1x1.weight"][0]
        has_gates = any(key.startswith("Att") for key in shapes)
        architecture = {
            "in_channels": channels,
            "out_channels": outputs,
            "widths": [shapes[f"Conv{n}.conv.0.weight"][0] for n in numbers],
            "gates": [shapes[f"Att{n}.W_g.0.weight"][0] for n in numbers[1:]]
            if has_gates
            else [],
            "bias": "Conv1.conv.0.bias" in shapes,
        }
        fields = {"ndim": 2, "in_channels": channels, "out_channels": outputs}
        assumed = (
            activation(outputs),
            normalization("zscore", "its own loader centres and scales 0 to 1 images"),
            setting(
                "upsampling",
                value="nearest",
                alternatives=("bilinear", "aligned"),
                reason="the source repeats pixels; copies may interpolate",
            ),
        )
        return Inferred(architecture, fields, assumed)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return LeeJunHyunUNet(LeeJunHyunSpec(**architecture))


class LeeJunHyunUNet(nn.Module):
    """The network with its key names: (N, C, Y, X) to logits."""

    def __init__(self, spec: LeeJunHyunSpec) -> None:
        super().__init__()
        self.levels = len(spec.widths)
        self.has_gates = bool(spec.gates)
        self.Maxpool = nn.MaxPool2d(2)
        inputs = (spec.in_channels, *spec.widths)
        for n, width in enumerate(spec.widths):
            block = Named("conv", double_conv(inputs[n], width, spec.bias))
            self.add_module(f"Conv{n + 1}", block)
        for n in range(self.levels, 1, -1):
            deep, width = spec.widths[n - 1], spec.widths[n - 2]
            self.add_module(f"Up{n}", Named("up", _up(deep, width, spec)))
            if self.has_gates:
                gate = _Gate(width, spec.gates[n - 2], spec.bias)
                self.add_module(f"Att{n}", gate)
            block = Named("conv", double_conv(2 * width, width, spec.bias))
            self.add_module(f"Up_conv{n}", block)
        self.Conv_1x1 = nn.Conv2d(spec.widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, Y, X)."""
        skips = [self.get_submodule("Conv1")(x)]
        for n in range(2, self.levels + 1):
            skips.append(self.get_submodule(f"Conv{n}")(self.Maxpool(skips[-1])))
        x = skips.pop()
        for n in range(self.levels, 1, -1):
            x, skip = self.get_submodule(f"Up{n}")(x), skips.pop()
            if self.has_gates:
                skip = self.get_submodule(f"Att{n}")(x, skip)
            x = self.get_submodule(f"Up_conv{n}")(torch.cat([skip, x], 1))
        logits: torch.Tensor = self.Conv_1x1(x)
        return logits


def _up(inputs: int, outputs: int, spec: LeeJunHyunSpec) -> nn.Sequential:
    """Enlargement by 2, convolution, batch norm, ReLU."""
    if spec.upsampling == "nearest":
        enlarge = nn.Upsample(scale_factor=2)
    else:
        aligned = spec.upsampling == "aligned"
        enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=aligned)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=spec.bias)
    norm = nn.BatchNorm2d(outputs)
    return nn.Sequential(enlarge, conv, norm, nn.ReLU(inplace=True))


class _Gate(nn.Module):
    """Weight between 0 and 1 per pixel of the skip (Oktay et al., arXiv:1804.03999)."""

    def __init__(self, width: int, inside: int, bias: bool) -> None:
        super().__init__()
        self.W_g = _pointwise(width, inside, bias)
        self.W_x = _pointwise(width, inside, bias)
        self.psi = _pointwise(inside, 1, bias).append(nn.Sigmoid())
        self.relu = nn.ReLU()

    def forward(self, rising: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = self.psi(self.relu(self.W_g(rising) + self.W_x(skip)))
        return skip * weight


def _pointwise(inputs: int, outputs: int, bias: bool) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 1, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))
