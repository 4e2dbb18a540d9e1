"""agaldran/lwnet: small residual U-Nets for retinal vessels, alone or as a W-Net, 2-D.

Batch norm comes after the activation, skips pass a convolution of their own, every
block has a shortcut. In a W-Net the second U-Net reads the image and the first's
logits; the output is the second's.
"""

from __future__ import annotations

from itertools import pairwise
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
from napari_unet.networks.blocks import Named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.networks.spec import Assumption

_LEAKY = 0.01


class LwnetSpec(Config):
    """Shape of the network, or of each of the two in a W-Net."""

    in_channels: int = Field(3, ge=1, le=4096)
    out_channels: int = Field(1, ge=1, le=65535)
    widths: tuple[int, ...] = Field((8, 16, 32), min_length=2)
    kernel: Literal[1, 3, 5, 7, 9] = 3
    double: bool = False
    upsampling: Literal["transposed", "linear"] = "transposed"
    bridge: bool = True
    shortcut: bool = True
    slope: float = Field(0.0, ge=0.0, lt=1.0)


class Lwnet(Family):
    """agaldran/lwnet."""

    name = "lwnet"
    title = "lwnet (little W-Net)"
    source = (
        "agaldran/lwnet 27f57f5, models.res_unet_adrian.UNet, models.get_model.wnet"
    )
    typical: ClassVar[Mapping[str, Any]] = {"double": True}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("first.block.0.weight", "up_path.0.conv_layer.block.0.weight")
        return any(
            all(f"{place}{mark}" in shapes for mark in marks)
            for place in ("", "unet2.")
        )

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        double = "unet2.final.weight" in shapes
        place = "unet1." if double else ""
        first = shapes[f"{place}first.block.0.weight"]
        downs = range(count(shapes, f"{place}down_path.{{}}."))
        blocks = ["first", *(f"down_path.{n}" for n in downs)]
        architecture = {
            "in_channels": first[1],
            "out_channels": shapes[f"{place}final.weight"][0],
            "widths": [shapes[f"{place}{b}.block.0.weight"][0] for b in blocks],
            "kernel": first[2],
            "double": double,
            "upsampling": "transposed"
            if f"{place}up_path.0.up_layer.block.0.weight" in shapes
            else "linear",
            "bridge": f"{place}up_path.0.conv_bridge_layer.block.0.weight" in shapes,
            "shortcut": f"{place}first.shortcut.0.weight" in shapes,
            "slope": _slope(shapes),
        }
        fields = {
            "ndim": 2,
            **{k: architecture[k] for k in ("in_channels", "out_channels")},
        }
        return Inferred(architecture, fields, tuple(_assumed(architecture)))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        spec = LwnetSpec(**architecture)
        return WNet(spec) if spec.double else LwnetUNet(spec, spec.in_channels)


def _slope(shapes: Shapes) -> float:
    """Tell the activation by the mean values of the norms right after it.

    After a ReLU no mean can be negative; some are after a leaky one.
    """
    means = [
        tensor
        for key, tensor in shapes.tensors.items()
        if ".block." in key and key.endswith("running_mean")
    ]
    return _LEAKY if any(bool((m < 0).any()) for m in means) else 0.0


def _assumed(architecture: Mapping[str, Any]) -> list[Assumption]:
    slope = architecture["slope"]
    seen = "some means after activations are negative" if slope else "none is negative"
    return [
        activation(architecture["out_channels"]),
        normalization(
            "linear", "its own loader divides by 255", gain=1 / 255, offset=0.0
        ),
        setting(
            "slope",
            value=slope,
            alternatives=(0.0 if slope else _LEAKY,),
            reason=f"the source had ReLU, then leaky ReLU; {seen}",
        ),
    ]


class LwnetUNet(nn.Module):
    """One U-Net with its key names: (N, C, Y, X) to logits."""

    def __init__(self, spec: LwnetSpec, inputs: int) -> None:
        super().__init__()
        widths = spec.widths
        self.first = _Block(spec, inputs, widths[0])
        self.pool = nn.MaxPool2d(2)
        pairs = list(pairwise(widths))
        self.down_path = nn.ModuleList(_Block(spec, i, o) for i, o in pairs)
        self.up_path = nn.ModuleList(_Up(spec, i, o) for o, i in reversed(pairs))
        self.final = nn.Conv2d(widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, Y, X)."""
        x = self.first(x)
        skips = []
        for down in self.down_path:
            skips.append(x)
            x = down(self.pool(x))
        for up in self.up_path:
            x = up(x, skips.pop())
        logits: torch.Tensor = self.final(x)
        return logits


class WNet(nn.Module):
    """Two U-Nets in a row with their key names: (N, C, Y, X) to logits."""

    def __init__(self, spec: LwnetSpec) -> None:
        super().__init__()
        self.unet1 = LwnetUNet(spec, spec.in_channels)
        self.unet2 = LwnetUNet(spec, spec.in_channels + spec.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the second network's logits, (N, out_channels, Y, X)."""
        logits: torch.Tensor = self.unet2(torch.cat([x, self.unet1(x)], 1))
        return logits


class _Block(nn.Module):
    """Two convolutions and, with a shortcut, a pointwise one around them."""

    def __init__(self, spec: LwnetSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        if spec.shortcut:
            around = nn.Conv2d(inputs, outputs, 1, bias=False)
            self.shortcut = nn.Sequential(around, nn.BatchNorm2d(outputs))
        self.has_shortcut = spec.shortcut
        self.block = nn.Sequential(
            *_layers(spec, inputs, outputs), *_layers(spec, outputs, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.block(x)
        return features + self.shortcut(x) if self.has_shortcut else features


class _Up(nn.Module):
    def __init__(self, spec: LwnetSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        enlarge: list[nn.Module] = [nn.ConvTranspose2d(inputs, outputs, 2, 2)]
        if spec.upsampling == "linear":
            enlarge = [
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(inputs, outputs, 1),
            ]
        self.up_layer = Named("block", nn.Sequential(*enlarge))
        self.conv_layer = _Block(spec, 2 * outputs, outputs)
        self.has_bridge = spec.bridge
        if spec.bridge:
            bridge = nn.Sequential(*_layers(spec, outputs, outputs))
            self.conv_bridge_layer = Named("block", bridge)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        skip = self.conv_bridge_layer(skip) if self.has_bridge else skip
        joined = torch.cat([self.up_layer(x), skip], 1)
        features: torch.Tensor = self.conv_layer(joined)
        return features


def _layers(spec: LwnetSpec, inputs: int, outputs: int) -> list[nn.Module]:
    """Convolution, activation, batch norm."""
    conv = nn.Conv2d(inputs, outputs, spec.kernel, padding=spec.kernel // 2)
    return [conv, nn.LeakyReLU(spec.slope), nn.BatchNorm2d(outputs)]
