"""MONAI's SegResNet (Project-MONAI/MONAI 1.6.1): residual blocks, skips by addition.

Myronenko 2018, arXiv:1810.11654. Norm and activation come before each convolution. The
variational branch of SegResNetVAE works in training only and is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families._monai import (
    MonaiNetwork,
    MonaiSpec,
    Unit,
    Upsampling,
    Width,
    act_layer,
    convolution,
    inferred,
    layer_settings,
    norm_layer,
    upsampling,
    upsampling_kind,
)
from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    count,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Blocks = Annotated[int, Field(ge=0, le=64)]
_DEFAULTS = {"affine": "group", "act": "relu", "slope": 0.01}


class SegResNetSpec(MonaiSpec):
    """Shape of a SegResNet: `width` doubles with each level; blocks of either side."""

    width: Width
    blocks_down: tuple[Blocks, ...] = Field(min_length=2, max_length=9)
    blocks_up: tuple[Blocks, ...] = Field(min_length=1, max_length=8)
    upsampling: Upsampling = "nontrainable"


class MonaiSegResNet(Family):
    """MONAI SegResNet and SegResNetVAE."""

    name = "monai_segresnet"
    title = "MONAI SegResNet"
    source = "MONAI 1.6.1, monai.networks.nets.SegResNet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 3,
        "in_channels": 1,
        "out_channels": 2,
        "width": 8,
        "blocks_down": [1, 2, 2, 4],
        "blocks_up": [1, 1, 1],
        "norm": "group",
        "act": "relu",
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("convInit.conv.weight", "conv_final.2.conv.weight")
        return all(mark in shapes for mark in marks)

    def accept(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors without those of the variational branch."""
        return {k: t for k, t in tensors.items() if not k.startswith("vae_")}

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        first, out = shapes["convInit.conv.weight"], shapes["conv_final.2.conv.weight"]
        downs, ups = count(shapes, "down_layers.{}."), count(shapes, "up_samples.{}.")
        layers, assumed = layer_settings(
            shapes, "conv_final.0", "act_mod", hints, _DEFAULTS
        )
        architecture = {
            "ndim": len(first) - 2,
            "in_channels": first[1],
            "out_channels": out[0],
            "width": first[0],
            "blocks_down": [_blocks(shapes, f"down_layers.{n}") for n in range(downs)],
            "blocks_up": [_blocks(shapes, f"up_layers.{n}") for n in range(ups)],
            "upsampling": upsampling_kind(shapes, "up_samples.0.1"),
            **layers,
        }
        return inferred(architecture, assumed, hints)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return SegResNet(SegResNetSpec(**architecture))


def _blocks(shapes: Shapes, place: str) -> int:
    """Count the residual blocks of a level."""
    start, end = f"{place}.", ".conv1.conv.weight"
    return sum(key.startswith(start) and key.endswith(end) for key in shapes)


class SegResNet(MonaiNetwork):
    """MONAI's SegResNet with its key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: SegResNetSpec) -> None:
        super().__init__(spec)
        if len(spec.blocks_up) != len(spec.blocks_down) - 1:
            raise ValueError("blocks_up: one less than blocks_down")
        rising = range(len(spec.blocks_up) - 1, -1, -1)
        self.act_mod = act_layer(spec)
        self.convInit = _conv(spec, spec.in_channels, spec.width)
        self.down_layers = nn.ModuleList(
            _down(spec, n) for n in range(len(spec.blocks_down))
        )
        self.up_layers = nn.ModuleList(
            nn.Sequential(*_residuals(spec, n, blocks))
            for n, blocks in zip(rising, spec.blocks_up, strict=True)
        )
        self.up_samples = nn.ModuleList(_up(spec, n) for n in rising)
        head = convolution(spec, spec.width, spec.out_channels, (1,) * spec.ndim)
        norm = norm_layer(spec, spec.width)
        self.conv_final = nn.Sequential(norm, self.act_mod, Unit(head))

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        x = self.convInit(x)
        skips = []
        for down in self.down_layers:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up, blocks in zip(self.up_samples, self.up_layers, strict=True):
            x = blocks(up(x) + skips.pop())
        logits: torch.Tensor = self.conv_final(x)
        return logits


def _conv(
    spec: SegResNetSpec, inputs: int, outputs: int, kernel: int = 3, stride: int = 1
) -> Unit:
    n = spec.ndim
    return Unit(
        convolution(spec, inputs, outputs, (kernel,) * n, (stride,) * n, bias=False)
    )


def _residuals(spec: SegResNetSpec, level: int, blocks: int) -> list[nn.Module]:
    return [_Residual(spec, spec.width * 2**level) for _ in range(blocks)]


def _down(spec: SegResNetSpec, level: int) -> nn.Sequential:
    width = spec.width * 2**level
    first = _conv(spec, width // 2, width, stride=2) if level else nn.Identity()
    return nn.Sequential(first, *_residuals(spec, level, spec.blocks_down[level]))


def _up(spec: SegResNetSpec, level: int) -> nn.Sequential:
    """Return what leads from the level below to `level`."""
    width = spec.width * 2**level
    up = upsampling(spec.upsampling, spec.ndim, width, width, False)
    return nn.Sequential(_conv(spec, 2 * width, width, kernel=1), up)


class _Residual(nn.Module):
    """Norm, activation and convolution, twice, added to what went in."""

    def __init__(self, spec: SegResNetSpec, width: int) -> None:
        super().__init__()
        self.norm1 = norm_layer(spec, width)
        self.norm2 = norm_layer(spec, width)
        self.act = act_layer(spec)
        self.conv1 = _conv(spec, width, width)
        self.conv2 = _conv(spec, width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.conv1(self.act(self.norm1(x)))
        features = self.conv2(self.act(self.norm2(features)))
        added: torch.Tensor = features + x
        return added
