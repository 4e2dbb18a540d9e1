"""milesial/Pytorch-UNet, the widely copied 2-D U-Net.

Skip connections come first in the concatenation; the up-sampled features are padded to
the size of the skip; bilinear up-sampling aligns the corners. Its first revisions have
other names and a narrower bottom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
    setting,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import Named
from napari_unet.networks.unet import CropTo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.networks.spec import Assumption


_NAMES = {"double_conv": "maxpool_conv", "conv": "mpconv"}
"""Names of a block's convolutions, and of the block after a pooling."""


class MilesialSpec(Config):
    """Shape of a milesial U-Net: `width` channels, doubled `depth` times.

    `early` are the revisions up to 2019: the bottom is as wide as the level above, the
    transposed convolutions keep the width and bilinear blocks narrow at once. `names`
    is what a block calls its convolutions.
    """

    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    width: int = Field(64, ge=1, le=4096)
    depth: int = Field(4, ge=1, le=6)
    bilinear: bool = False
    align_corners: bool = True
    bias: bool = False
    early: bool = False
    names: Literal["double_conv", "conv"] = "double_conv"


class Milesial(Family):
    """milesial/Pytorch-UNet."""

    name = "milesial"
    title = "milesial/Pytorch-UNet"
    source = (
        "milesial/Pytorch-UNet 07debeb, unet.UNet; "
        "the early revisions are unproven against the source"
    )
    typical: ClassVar[Mapping[str, Any]] = {
        "in_channels": 3,
        "out_channels": 2,
        "width": 8,
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        return any(
            f"inc.{inner}.0.weight" in shapes
            and f"down1.{outer}.1.{inner.removeprefix('conv.')}.0.weight" in shapes
            and "outc.conv.weight" in shapes
            for inner, outer in (
                ("double_conv", "maxpool_conv"),
                ("conv.conv", "mpconv"),
            )
        )

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        names = "conv" if "inc.conv.conv.0.weight" in shapes else "double_conv"
        start = "inc.conv.conv" if names == "conv" else "inc.double_conv"
        width, channels = shapes[f"{start}.0.weight"][:2]
        out_channels = shapes["outc.conv.weight"][0]
        architecture = {
            "in_channels": channels,
            "out_channels": out_channels,
            "width": width,
            "depth": _levels(shapes),
            "bilinear": "up1.up.weight" not in shapes,
            "bias": f"{start}.0.bias" in shapes,
            "early": _is_early(shapes, names),
            "names": names,
        }
        fields: dict[str, Any] = {
            "ndim": 2,
            "in_channels": channels,
            "out_channels": out_channels,
        }
        classes = _classes(hints.get("mask_values"), out_channels)
        if classes:
            fields["class_names"] = classes
        return Inferred(architecture, fields, tuple(_assumed(architecture)))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return MilesialUNet(MilesialSpec(**architecture))


def _levels(shapes: Shapes) -> int:
    """Count down1, down2 and so on."""
    numbers = {key.partition(".")[0] for key in shapes if key.startswith("down")}
    return len(numbers)


def _is_early(shapes: Shapes, names: str) -> bool:
    """Tell the first revisions by the widths on the way up."""
    if "up1.up.weight" in shapes:
        inputs, outputs = shapes["up1.up.weight"][:2]
        return inputs == outputs
    convs = [shapes[f"up1.conv.{names}.{n}.weight"][0] for n in (0, 3)]
    return convs[0] == convs[1]


def _classes(values: Any, outputs: int) -> tuple[str, ...]:
    """Name the classes by the values their pixels have in the masks of training."""
    if not isinstance(values, list):
        return ()
    if outputs == 1 and len(values) == 2:
        values = values[1:]  # one channel says how likely the second value is
    texts = [v if isinstance(v, list) else [v] for v in values]
    names = tuple(f"mask value {', '.join(map(str, text))}" for text in texts)
    return names if len(names) == outputs else ()


def _assumed(architecture: Mapping[str, Any]) -> list[Assumption]:
    assumed = [
        activation(architecture["out_channels"]),
        normalization(
            "linear", "its own loader divides by 255", gain=1 / 255, offset=0.0
        ),
    ]
    if architecture["bilinear"]:
        assumed.append(
            setting(
                "align_corners",
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
        shrink = 2 if spec.bilinear or spec.early else 1
        deepest = widths[-1] // shrink
        self.depth = spec.depth
        self.inc: nn.Module = _DoubleConv(spec, spec.in_channels, widths[0], widths[0])
        if spec.names == "conv":
            self.inc = Named("conv", self.inc)
        for n in range(1, spec.depth + 1):
            outputs = widths[n] if n < spec.depth else deepest
            self.add_module(f"down{n}", _down(spec, widths[n - 1], outputs))
        for n in range(1, spec.depth + 1):
            level = spec.depth - n
            outputs = widths[level] // (shrink if level else 1)
            self.add_module(f"up{n}", _Up(widths[level + 1], outputs, spec))
        self.outc = Named("conv", nn.Conv2d(widths[0], spec.out_channels, 1))

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


class _DoubleConv(Named):
    """Convolution, batch norm, ReLU, twice."""

    def __init__(
        self, spec: MilesialSpec, inputs: int, middle: int, outputs: int
    ) -> None:
        convs = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=spec.bias),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=spec.bias),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )
        super().__init__(spec.names, convs)


def _down(spec: MilesialSpec, inputs: int, outputs: int) -> Named:
    convs = _DoubleConv(spec, inputs, outputs, outputs)
    return Named(_NAMES[spec.names], nn.Sequential(nn.MaxPool2d(2), convs))


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int, spec: MilesialSpec) -> None:
        super().__init__()
        middle = outputs
        self.up: nn.Module
        if spec.bilinear:
            self.up = nn.Upsample(
                scale_factor=2, mode="bilinear", align_corners=spec.align_corners
            )
            middle = outputs if spec.early else inputs // 2
        else:
            below = inputs // 2 if spec.early else inputs
            self.up = nn.ConvTranspose2d(below, inputs // 2, 2, 2)
        self.pad = PadTo()
        self.conv = _DoubleConv(spec, inputs, middle, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.pad(self.up(x), skip)
        features: torch.Tensor = self.conv(torch.cat([skip, x], 1))
        return features
