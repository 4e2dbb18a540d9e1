"""nnU-Net v1's Generic_UNet (nnunet 1.7.1), by its keys.

Two convolutions per level, strided convolutions or max-pooling downwards, transposed
convolutions or linear interpolation upwards; the up-sampled features come first in the
concatenation. Gives logits, as nnU-Net's own trainers build it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_unet.networks.spec import Assumption

SETTINGS = "generic_unet"
"""Hint: settings of the network that its trainer decides."""

Size = tuple[Annotated[int, Field(ge=1, le=15)], ...]
Width = Annotated[int, Field(ge=1, le=4096)]


class NNUNetV1Spec(Config):
    """Shape of a Generic_UNet.

    `widths` and `kernels` are of each level from the full resolution down, `strides`
    lie between them; `convs` counts the convolutions of a level.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    widths: tuple[Width, ...] = Field(min_length=2, max_length=12)
    strides: tuple[Size, ...]
    kernels: tuple[Size, ...]
    convs: int = Field(2, ge=2, le=16)
    downsampling: Literal["stride", "max"] = "stride"
    upsampling: Literal["transposed", "linear"] = "transposed"
    bias: bool = True
    head_bias: bool = False
    norm: Literal["instance", "batch"] = "instance"
    order: Literal["norm-act", "act-norm"] = "norm-act"
    slope: float = Field(0.01, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        levels = len(self.widths)
        if len(self.strides) != levels - 1 or len(self.kernels) != levels:
            raise ValueError("one stride between levels and one kernel per level")
        if any(len(s) != self.ndim for s in (*self.strides, *self.kernels)):
            raise ValueError("strides and kernels: one number per axis")
        return self

    @property
    def bottom(self) -> int:
        """Width of what goes up from the deepest level."""
        return self.widths[-1 if self.upsampling == "transposed" else -2]


class NNUNetV1(Family):
    """nnU-Net v1."""

    name = "nnunet_v1"
    title = "nnU-Net v1"
    source = "nnunet 1.7.1, network_architecture.generic_UNet.Generic_UNet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 3,
        "in_channels": 1,
        "out_channels": 2,
        "widths": [8, 16, 32],
        "strides": [[2, 2, 2]] * 2,
        "kernels": [[3, 3, 3]] * 3,
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (
            "conv_blocks_context.0.blocks.0.conv.weight",
            "conv_blocks_localization.0.0.blocks.0.conv.weight",
            "seg_outputs.0.weight",
        )
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        depth = count(shapes, "seg_outputs.{}.")
        levels = [f"conv_blocks_context.{n}.blocks.0" for n in range(depth)]
        levels.append(f"conv_blocks_context.{depth}.0.blocks.0")
        convs = [shapes[f"{level}.conv.weight"] for level in levels]
        ndim = len(convs[0]) - 2
        transposed = "tu.0.weight" in shapes
        strides = [
            list(shapes[f"tu.{depth - 1 - n}.weight"][2:]) if transposed else [2] * ndim
            for n in range(depth)
        ]
        statistics = f"{levels[0]}.instnorm.running_mean" in shapes
        architecture = {
            "ndim": ndim,
            "in_channels": convs[0][1],
            "out_channels": shapes["seg_outputs.0.weight"][0],
            "widths": [shape[0] for shape in convs],
            "strides": strides,
            "kernels": [list(shape[2:]) for shape in convs],
            "convs": count(shapes, "conv_blocks_context.0.blocks.{}."),
            "downsampling": "stride" if transposed else "max",
            "upsampling": "transposed" if transposed else "linear",
            "bias": f"{levels[0]}.conv.bias" in shapes,
            "head_bias": "seg_outputs.0.bias" in shapes,
            "norm": "batch" if statistics else "instance",
        }
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        told = hints.get(SETTINGS, {})
        assumed = tuple(
            a for a in _assumed(architecture) if a.field.rpartition(".")[2] not in told
        )
        return Inferred({**architecture, **told}, fields, assumed)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return GenericUNet(NNUNetV1Spec(**architecture))


def _assumed(architecture: Mapping[str, Any]) -> Iterator[Assumption]:
    """Yield what the keys leave open."""
    yield activation(architecture["out_channels"])
    yield normalization("zscore", "nnU-Net's default", eps=1e-8)
    own = architecture["downsampling"]
    yield setting(
        "downsampling",
        value=own,
        alternatives=("max",) if own == "stride" else ("stride",),
        reason="strided convolution and max-pooling leave the same keys",
    )
    yield setting(
        "slope",
        value=0.01,
        alternatives=(0.0,),
        reason="nnU-Net's leaky ReLU; 0 is a ReLU",
    )
    yield setting(
        "order",
        value="norm-act",
        alternatives=("act-norm",),
        reason="the source has a variant with the activation first",
    )
    if architecture["upsampling"] == "linear":
        yield setting(
            "strides",
            value=architecture["strides"],
            reason="interpolation leaves no keys",
        )


class GenericUNet(nn.Module):
    """nnU-Net v1's network: (N, in_channels, *spatial) to logits of the same size."""

    def __init__(self, spec: NNUNetV1Spec) -> None:
        super().__init__()
        strided = spec.downsampling == "stride"
        pool = nn.MaxPool2d if spec.ndim == 2 else nn.MaxPool3d
        self.conv_blocks_context = nn.ModuleList(_falling(spec))
        self.td = nn.ModuleList(pool(s) for s in (() if strided else spec.strides))
        rising = list(_rising(spec))
        self.conv_blocks_localization = nn.ModuleList(block for _, block, _ in rising)
        self.tu = nn.ModuleList(up for up, _, _ in rising)
        self.seg_outputs = nn.ModuleList(head for _, _, head in rising)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        skips = []
        for n in range(len(self.tu)):
            x = self.conv_blocks_context[n](x)
            skips.append(x)
            x = self.td[n](x) if len(self.td) else x
        x = self.conv_blocks_context[-1](x)
        for up, block, skip in zip(
            self.tu, self.conv_blocks_localization, skips[::-1], strict=True
        ):
            x = block(torch.cat((up(x), skip), 1))
        logits: torch.Tensor = self.seg_outputs[-1](x)
        return logits


def _falling(spec: NNUNetV1Spec) -> Iterator[nn.Module]:
    """Yield the levels downwards; the deepest is in two parts."""
    widths, depth = spec.widths, len(spec.strides)
    inputs = (spec.in_channels, *widths)
    for n, kernel in enumerate(spec.kernels):
        moves = n > 0 and spec.downsampling == "stride"
        stride = spec.strides[n - 1] if moves else None
        if n < depth:
            own = (inputs[n], *[widths[n]] * spec.convs)
            yield _Layers(spec, own, kernel, stride)
        else:
            yield _pair(spec, inputs[n], widths[n], spec.bottom, kernel, stride)


def _rising(
    spec: NNUNetV1Spec,
) -> Iterator[tuple[nn.Module, nn.Module, nn.Module]]:
    """Yield the levels upwards: up-sampling, convolutions and head."""
    below = spec.bottom
    for level in range(len(spec.strides) - 1, -1, -1):
        width = spec.widths[level]
        narrows = spec.upsampling == "linear" and level > 0
        last = spec.widths[level - 1] if narrows else width
        yield (
            _up(spec, below, width, spec.strides[level]),
            # the source takes the kernel of the level below
            _pair(spec, 2 * width, width, last, spec.kernels[level + 1], None),
            _conv(spec)(last, spec.out_channels, 1, bias=spec.head_bias),
        )
        below = last


class _Layers(nn.Module):
    """Convolutions through `widths`; the first has the stride."""

    def __init__(
        self,
        spec: NNUNetV1Spec,
        widths: tuple[int, ...],
        kernel: Size,
        stride: Size | None,
    ) -> None:
        super().__init__()
        one = (1,) * spec.ndim
        strides = [stride or one, *[one] * (len(widths) - 2)]
        pairs = zip(widths, widths[1:], strides, strict=False)
        self.blocks = nn.Sequential(
            *(_Conv(spec, i, o, kernel, s) for i, o, s in pairs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.blocks(x)
        return features


def _pair(
    spec: NNUNetV1Spec,
    inputs: int,
    middle: int,
    outputs: int,
    kernel: Size,
    stride: Size | None,
) -> nn.Sequential:
    """Stack all convolutions of a level but one, then that one."""
    first = (inputs, *[middle] * (spec.convs - 1))
    return nn.Sequential(
        _Layers(spec, first, kernel, stride),
        _Layers(spec, (middle, outputs), kernel, None),
    )


class _Conv(nn.Module):
    """Convolution, norm and activation."""

    def __init__(
        self, spec: NNUNetV1Spec, inputs: int, outputs: int, kernel: Size, stride: Size
    ) -> None:
        super().__init__()
        self.conv = _conv(spec)(
            *(inputs, outputs),
            *(kernel, stride),  # type: ignore[arg-type]
            padding=tuple(int(k == 3) for k in kernel),  # type: ignore[arg-type]
            bias=spec.bias,
        )
        self.instnorm = _norm(spec, outputs)
        self.lrelu = nn.LeakyReLU(spec.slope)
        self.norm_first = spec.order == "norm-act"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        features: torch.Tensor = (
            self.lrelu(self.instnorm(x))
            if self.norm_first
            else self.instnorm(self.lrelu(x))
        )
        return features


def _conv(spec: NNUNetV1Spec) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if spec.ndim == 2 else nn.Conv3d


def _norm(spec: NNUNetV1Spec, width: int) -> nn.Module:
    if spec.norm == "batch":
        return (nn.BatchNorm2d if spec.ndim == 2 else nn.BatchNorm3d)(width)
    instance = nn.InstanceNorm2d if spec.ndim == 2 else nn.InstanceNorm3d
    return instance(width, affine=True)


def _up(spec: NNUNetV1Spec, inputs: int, outputs: int, stride: Size) -> nn.Module:
    if spec.upsampling == "linear":
        mode = "bilinear" if spec.ndim == 2 else "trilinear"
        return nn.Upsample(scale_factor=tuple(map(float, stride)), mode=mode)
    transposed = nn.ConvTranspose2d if spec.ndim == 2 else nn.ConvTranspose3d
    return transposed(inputs, outputs, stride, stride, bias=False)  # type: ignore[arg-type]
