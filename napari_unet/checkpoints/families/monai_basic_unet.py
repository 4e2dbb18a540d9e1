"""MONAI's BasicUNet (Project-MONAI/MONAI 1.6.1): five levels and max-pooling.

After Falk et al. 2019, doi:10.1038/s41592-018-0261-2. The skip connection comes first
in the concatenation; where pooling met an odd size the last pixel is repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families._monai import (
    MonaiNetwork,
    MonaiSpec,
    Unit,
    Upsampling,
    Width,
    conv_class,
    convolution,
    inferred,
    layer_settings,
    upsampling,
    upsampling_kind,
)
from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
)
from napari_unet.networks.unet import CropTo

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULTS = {"affine": "instance_affine", "act": "leakyrelu", "slope": 0.1}
_LEVELS = 5


class BasicUNetSpec(MonaiSpec):
    """Shape of a BasicUNet: widths of five levels and of the last up-sampled one."""

    widths: tuple[Width, ...] = Field(min_length=_LEVELS + 1, max_length=_LEVELS + 1)
    upsampling: Upsampling = "deconv"
    bias: bool = True


class MonaiBasicUNet(Family):
    """MONAI BasicUNet."""

    name = "monai_basic_unet"
    title = "MONAI BasicUNet"
    source = "MONAI 1.6.1, monai.networks.nets.BasicUNet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 3,
        "in_channels": 1,
        "out_channels": 2,
        "widths": [32, 32, 64, 128, 256, 32],
        "norm": "instance_affine",
        "act": "leakyrelu",
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("conv_0.conv_0.conv", "upcat_1.convs.conv_0.conv", "final_conv")
        return all(f"{mark}.weight" in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        first = shapes["conv_0.conv_0.conv.weight"]
        downs = [
            shapes[f"down_{n}.convs.conv_0.conv.weight"] for n in range(1, _LEVELS)
        ]
        final = shapes["final_conv.weight"]
        adn = "conv_0.conv_0.adn"
        layers, assumed = layer_settings(
            shapes, f"{adn}.N", f"{adn}.A", hints, _DEFAULTS
        )
        architecture = {
            "ndim": len(first) - 2,
            "in_channels": first[1],
            "out_channels": final[0],
            "widths": [first[0], *(shape[0] for shape in downs), final[1]],
            "upsampling": upsampling_kind(shapes, "upcat_4.upsample"),
            "bias": "conv_0.conv_0.conv.bias" in shapes,
            **layers,
        }
        return inferred(architecture, assumed, hints)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return BasicUNet(BasicUNetSpec(**architecture))


class BasicUNet(MonaiNetwork):
    """MONAI's BasicUNet with its key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: BasicUNetSpec) -> None:
        super().__init__(spec)
        widths = spec.widths
        self.conv_0 = _two(spec, spec.in_channels, widths[0])
        for n in range(1, _LEVELS):
            self.add_module(f"down_{n}", _down(spec, widths[n - 1], widths[n]))
        for n in range(_LEVELS - 1, 0, -1):
            outputs = widths[n - 1] if n > 1 else widths[-1]
            rising = widths[n] // 2 if n > 1 else widths[n]
            up = _UpCat(spec, (widths[n], rising, widths[n - 1], outputs))
            self.add_module(f"upcat_{n}", up)
        self.final_conv = conv_class(spec.ndim)(widths[-1], spec.out_channels, 1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        skips = [self.conv_0(x)]
        for n in range(1, _LEVELS):
            skips.append(self.get_submodule(f"down_{n}")(skips[-1]))
        x = skips.pop()
        for n in range(_LEVELS - 1, 0, -1):
            x = self.get_submodule(f"upcat_{n}")(x, skips.pop())
        logits: torch.Tensor = self.final_conv(x)
        return logits


class RepeatTo(CropTo):
    """Repeat the last pixel of `x` along axes shorter than those of `like`."""

    outside = "replicate"

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return `x` with the spatial size of `like`."""
        sides: list[int] = []
        for axis in range(x.ndim - 1, 1, -1):
            sides += [0, like.shape[axis] - x.shape[axis]]
        return F.pad(x, sides, "replicate") if any(sides) else x

    @staticmethod
    def offset(length: int, wanted: int) -> int:
        """Return the pixel of `length` that becomes the first of the `wanted` ones."""
        del length, wanted
        return 0


def _two(spec: BasicUNetSpec, inputs: int, outputs: int) -> nn.Sequential:
    """Return two convolutions with norm and activation."""
    convs = nn.Sequential()
    for n, width in enumerate((inputs, outputs)):
        conv = convolution(spec, width, outputs, (3,) * spec.ndim, bias=spec.bias)
        convs.add_module(f"conv_{n}", Unit(conv, spec, outputs))
    return convs


def _down(spec: BasicUNetSpec, inputs: int, outputs: int) -> nn.Sequential:
    down = nn.Sequential()
    pool = nn.MaxPool2d if spec.ndim == 2 else nn.MaxPool3d
    down.add_module("max_pooling", pool(2))
    down.add_module("convs", _two(spec, inputs, outputs))
    return down


class _UpCat(nn.Module):
    """Up-sampling, concatenation and two convolutions."""

    def __init__(self, spec: BasicUNetSpec, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        inputs, rising, skip, outputs = widths
        self.upsample = upsampling(spec.upsampling, spec.ndim, inputs, rising, True)
        self.convs = _two(spec, skip + rising, outputs)
        self.repeat = RepeatTo()

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.repeat(self.upsample(x), skip)
        features: torch.Tensor = self.convs(torch.cat([skip, x], 1))
        return features
