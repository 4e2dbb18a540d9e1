"""Cellpose 1 to 3, CPnet (cellpose 3.1.1; Stringer et al., Nature Methods 2021).

Residual blocks of norm, ReLU and convolution; skip connections are added; the mean of
the deepest features, the style, is added everywhere on the way up, so an output pixel
depends on the whole patch. The outputs are the flows along Y and X and the logit of
being in a cell; `napari_unet.tasks.flows` makes cells of them.
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
    count,
    normalization,
    setting,
)
from napari_unet.config import Config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.networks.spec import Assumption

_NAMES = ("flow Y", "flow X", "cell probability")


class CellposeSpec(Config):
    """Shape of a CPnet: channels of the image and of each level."""

    ndim: Literal[2, 3] = 2
    widths: tuple[int, ...] = Field(min_length=2, max_length=9)
    out_channels: int = Field(3, ge=1, le=4096)
    kernel: int = Field(3, ge=1, le=15)
    pooling: Literal["max", "average"] = "max"
    diam_mean: float | None = Field(None, gt=0)
    """Pixels across an object to which images were rescaled in training."""
    diam_labels: float | None = Field(None, gt=0)
    """Pixels across an object in the training images, on average."""


class Cellpose(Family):
    """Cellpose's CPnet."""

    name = "cellpose"
    title = "cellpose 1 to 3"
    source = "cellpose 3.1.1.1, cellpose.resnet_torch.CPnet"
    typical: ClassVar[Mapping[str, Any]] = {"widths": [2, 32, 64, 128, 256]}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (
            "downsample.down.res_down_0.conv.conv_0.2.weight",
            "upsample.up.res_up_0.conv.conv_1.full.weight",
            "output.2.weight",
        )
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        depth = count(shapes, "downsample.down.res_down_{}.")
        convs = [
            shapes[f"downsample.down.res_down_{n}.conv.conv_0.2.weight"]
            for n in range(depth)
        ]
        out = shapes["output.2.weight"][0]
        fields: dict[str, Any] = {
            "ndim": len(convs[0]) - 2,
            "in_channels": convs[0][1],
            "out_channels": out,
            "task": "restoration",
            "activation": "none",
        }
        if out == len(_NAMES) and len(convs[0]) == 4:
            fields |= {"class_names": _NAMES, "task": "flows"}
        architecture = {
            "ndim": fields["ndim"],
            "widths": [convs[0][1], *(shape[0] for shape in convs)],
            "out_channels": out,
            "kernel": convs[0][2],
            **_diameters(shapes),
        }
        return Inferred(architecture, fields, _assumed(shapes))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return CPnet(CellposeSpec(**architecture))


def _diameters(shapes: Shapes) -> dict[str, float]:
    """Return the sizes of objects that the file keeps beside the weights."""
    found = {n: shapes.tensors.get(n) for n in ("diam_mean", "diam_labels")}
    return {
        name: float(value)
        for name, value in found.items()
        if value is not None and value.numel() == 1 and float(value) > 0
    }


def _assumed(shapes: Shapes) -> tuple[Assumption, ...]:
    """List what names and shapes do not tell, and what objects the weights expect."""
    diameter = shapes.tensors.get("diam_mean")
    reason = "cellpose scales so by default"
    if diameter is not None:
        size = f"{float(diameter):.0f} pixels across"
        reason += f"; it expects objects about {size}, so rescale images to that"
    return (
        normalization("percentile", reason, low=1.0, high=99.0),
        setting(
            "pooling",
            value="max",
            alternatives=("average",),
            reason="pooling has no weights",
        ),
    )


def _norm_conv(
    spec: CellposeSpec, inputs: int, outputs: int, kernel: int, *, relu: bool = True
) -> nn.Sequential:
    """Batch norm, ReLU where wanted, convolution."""
    norm = nn.BatchNorm2d if spec.ndim == 2 else nn.BatchNorm3d
    conv = nn.Conv2d if spec.ndim == 2 else nn.Conv3d
    activation = [nn.ReLU()] if relu else []
    return nn.Sequential(
        norm(inputs), *activation, conv(inputs, outputs, kernel, padding=kernel // 2)
    )


class _Down(nn.Module):
    """Two residual pairs of convolutions."""

    def __init__(self, spec: CellposeSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = _norm_conv(spec, inputs, outputs, 1, relu=False)
        self.conv = nn.Sequential()
        for n in range(4):
            block = _norm_conv(spec, outputs if n else inputs, outputs, spec.kernel)
            self.conv.add_module(f"conv_{n}", block)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth = self.conv
        x = self.proj(x) + second(first(x))
        features: torch.Tensor = x + fourth(third(x))
        return features


class _Styled(nn.Module):
    """Adds the style to every pixel, then norm, ReLU, convolution."""

    def __init__(self, spec: CellposeSpec, width: int, style: int) -> None:
        super().__init__()
        self.conv = _norm_conv(spec, width, width, spec.kernel)
        self.full = nn.Linear(style, width)
        self.ones = (1,) * spec.ndim

    def forward(self, style: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        added = self.full(style).unflatten(1, (-1, *self.ones))
        features: torch.Tensor = self.conv(x + added)
        return features


class _Up(nn.Module):
    """As `_Down`, with the skip connection and the style added."""

    def __init__(
        self, spec: CellposeSpec, inputs: int, outputs: int, style: int
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        self.conv.add_module("conv_0", _norm_conv(spec, inputs, outputs, spec.kernel))
        for n in (1, 2, 3):
            self.conv.add_module(f"conv_{n}", _Styled(spec, outputs, style))
        self.proj = _norm_conv(spec, inputs, outputs, 1, relu=False)

    def forward(
        self, x: torch.Tensor, skip: torch.Tensor, style: torch.Tensor
    ) -> torch.Tensor:
        first, second, third, fourth = self.conv
        x = self.proj(x) + second(style, first(x) + skip)
        features: torch.Tensor = x + fourth(style, third(style, x))
        return features


class CPnet(nn.Module):
    """Cellpose's network with its key names: (N, C, *spatial) to flows and logits."""

    def __init__(self, spec: CellposeSpec) -> None:
        super().__init__()
        widths = spec.widths[1:]
        style = widths[-1]
        downs = nn.Sequential()
        for n, (i, o) in enumerate(zip(spec.widths, widths, strict=False)):
            downs.add_module(f"res_down_{n}", _Down(spec, i, o))
        ups = nn.Sequential()
        for n, (i, o) in enumerate(zip((*widths[1:], style), widths, strict=True)):
            ups.add_module(f"res_up_{n}", _Up(spec, i, o, style))
        self.downsample, self.upsample = nn.Module(), nn.Module()
        self.downsample.add_module("down", downs)
        self.upsample.add_module("up", ups)
        self.output = _norm_conv(spec, widths[0], spec.out_channels, 1)
        self.diam_mean = nn.Parameter(torch.ones(1), requires_grad=False)
        self.diam_labels = nn.Parameter(torch.ones(1), requires_grad=False)
        pools = {"max": (nn.MaxPool2d, nn.MaxPool3d)}
        pool = pools.get(spec.pooling, (nn.AvgPool2d, nn.AvgPool3d))[spec.ndim - 2]
        self.pool: nn.Module = pool(2, 2)
        self.rise = nn.Upsample(scale_factor=2, mode="nearest")
        mean = nn.AdaptiveAvgPool2d if spec.ndim == 2 else nn.AdaptiveAvgPool3d
        self.mean = nn.Sequential(mean(1), nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return flows and the logit of being in a cell, (N, 3, *spatial)."""
        skips: list[torch.Tensor] = []
        for down in self.downsample.down:  # type: ignore[union-attr]
            skips.append(down(self.pool(skips[-1]) if skips else x))
        style = self.mean(skips[-1])
        style = style / (style**2).sum(1, keepdim=True) ** 0.5
        x = skips[-1]
        for n, up in reversed(list(enumerate(self.upsample.up))):  # type: ignore[arg-type]
            x = up(self.rise(x) if n < len(skips) - 1 else x, skips[n], style)
        output: torch.Tensor = self.output(x)
        return output
