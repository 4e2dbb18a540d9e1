"""nnU-Net's networks as modules: PlainConvUNet, ResidualEncoderUNet, ResidualUNet.

Agree with dynamic-network-architectures 0.4.4 (Isensee et al., Nature Methods 18,
2021; the residual encoders: Isensee et al., MICCAI 2024, arXiv:2404.09556). The source
registers each layer under two names and the encoder once more inside the decoder; here
each has one, the ``all_modules`` one, whose number tells what stands before the norm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from napari_unet.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

Size = tuple[Annotated[int, Field(ge=1, le=15)], ...]
Width = Annotated[int, Field(ge=1, le=4096)]
Count = Annotated[int, Field(ge=1, le=64)]
Order = Literal[
    "conv-norm-act", "conv-dropout-norm-act", "conv-act-norm", "conv-dropout-act-norm"
]
Activation = Literal["leaky", "relu", "elu", "gelu", "silu", "mish"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    **{"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU},
    "mish": nn.Mish,
}


class NNUNetSpec(Config):
    """Shape of an nnU-Net network, one entry per stage from the full resolution down.

    `convs` counts the convolutions of a plain stage or the blocks of a residual one;
    `bottleneck` has the inner widths of bottleneck blocks, empty for basic blocks;
    `stem` is the width of the residual encoder's first convolution.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    widths: tuple[Width, ...] = Field(min_length=2, max_length=12)
    strides: tuple[Size, ...]
    kernels: tuple[Size, ...]
    convs: tuple[Count, ...]
    decoder_convs: tuple[Count, ...]
    encoder: Literal["plain", "residual"] = "plain"
    decoder: Literal["plain", "residual"] = "plain"
    stem: Width | None = None
    bottleneck: tuple[Width, ...] = ()
    bias: bool = True
    norm: Literal["instance", "batch", "none"] = "instance"
    affine: bool = True
    eps: float = Field(1e-5, ge=0.0, le=1.0)
    activation: Activation = "leaky"
    slope: float = Field(0.01, ge=0.0, lt=1.0)
    order: Order = "conv-norm-act"

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        stages = len(self.widths)
        per_stage = (self.strides, self.kernels, self.convs)
        if any(len(v) != stages for v in per_stage):
            raise ValueError("one stride, kernel and number of convolutions per stage")
        if len(self.decoder_convs) != stages - 1:
            raise ValueError("decoder_convs: one fewer than stages")
        if len(self.bottleneck) not in (0, stages):
            raise ValueError("bottleneck: none or one per stage")
        if (self.stem is None) != (self.encoder == "plain"):
            raise ValueError("stem: of residual encoders only")
        if any(len(s) != self.ndim for s in (*self.strides, *self.kernels)):
            raise ValueError("strides and kernels: one number per axis")
        return self


class NNUNet(nn.Module):
    """An nnU-Net network: (N, in_channels, *spatial) to logits of the same size.

    The heads of the coarser levels, which deep supervision trains, are kept and unused.
    """

    def __init__(self, spec: NNUNetSpec) -> None:
        super().__init__()
        self.encoder = _Encoder(spec)
        self.decoder = _Decoder(spec)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        logits: torch.Tensor = self.decoder(self.encoder(x))
        return logits


class _Encoder(nn.Module):
    def __init__(self, spec: NNUNetSpec) -> None:
        super().__init__()
        inputs = spec.in_channels
        self.stem: nn.Module | None = None
        if spec.stem is not None:
            self.stem = _convolutions(spec, (inputs, spec.stem), spec.kernels[0])
            inputs = spec.stem
        stages: list[nn.Module] = []
        for n, width in enumerate(spec.widths):
            widths = (inputs, *[width] * spec.convs[n])
            if spec.encoder == "plain":
                convs = _convolutions(spec, widths, spec.kernels[n], spec.strides[n])
                stages.append(nn.Sequential(convs))
            else:
                inner = spec.bottleneck[n] if spec.bottleneck else 0
                stages.append(
                    _Blocks(spec, widths, spec.kernels[n], spec.strides[n], inner)
                )
            inputs = width
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if self.stem is not None:
            x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """From the deepest level upwards; the up-sampled features come before the skip."""

    def __init__(self, spec: NNUNetSpec) -> None:
        super().__init__()
        transposed = nn.ConvTranspose2d if spec.ndim == 2 else nn.ConvTranspose3d
        stages: list[nn.Module] = []
        ups: list[nn.Module] = []
        heads: list[nn.Module] = []
        for n, level in enumerate(range(len(spec.widths) - 2, -1, -1)):
            width, stride = spec.widths[level], spec.strides[level + 1]
            ups.append(
                transposed(
                    *(spec.widths[level + 1], width),
                    *(stride, stride),  # type: ignore[arg-type]
                    bias=spec.bias,
                )
            )
            widths = (2 * width, *[width] * spec.decoder_convs[n])
            kernel = spec.kernels[level]
            plain = spec.decoder == "plain"
            stages.append(
                _convolutions(spec, widths, kernel)
                if plain
                else _Blocks(spec, widths, kernel, _one(spec), 0)
            )
            heads.append(_conv(spec)(width, spec.out_channels, 1))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(ups)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = features[-1]
        skips = features[-2::-1]
        for stage, up, skip in zip(self.stages, self.transpconvs, skips, strict=True):
            x = stage(torch.cat((up(x), skip), 1))
        logits: torch.Tensor = self.seg_layers[-1](x)
        return logits


class _Convolutions(nn.Module):
    """Convolutions one after another, under the name ``convs``."""

    def __init__(self, convs: Iterator[nn.Module]) -> None:
        super().__init__()
        self.convs = nn.Sequential(*convs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.convs(x)
        return features


def _convolutions(
    spec: NNUNetSpec, widths: tuple[int, ...], kernel: Size, stride: Size = ()
) -> nn.Module:
    """Stack convolutions through `widths`; the first has the stride."""
    strides = [stride or _one(spec), *[_one(spec)] * (len(widths) - 2)]
    pairs = zip(widths, widths[1:], strides, strict=False)
    return _Convolutions(_Conv(spec, i, o, kernel, s) for i, o, s in pairs)


class _Conv(nn.Module):
    """Convolution, norm and activation, in the order of the spec.

    A dropout, which does nothing in evaluation, keeps its number in the sequence.
    """

    def __init__(
        self,
        spec: NNUNetSpec,
        inputs: int,
        outputs: int,
        kernel: Size,
        stride: Size,
        *,
        dropout: bool = True,
        active: bool = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        conv = _conv(spec)(
            *(inputs, outputs),
            *(kernel, stride),  # type: ignore[arg-type]
            padding=tuple((k - 1) // 2 for k in kernel),  # type: ignore[arg-type]
            bias=spec.bias if bias is None else bias,
        )
        after: dict[str, list[nn.Module]] = {
            "dropout": [nn.Identity()] if dropout else [],
            "norm": _norm(spec, outputs),
            "act": [_activation(spec)] if active else [],
        }
        order = spec.order.split("-")[1:]
        layers = [layer for name in order for layer in after[name]]
        self.all_modules = nn.Sequential(conv, *layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.all_modules(x)
        return features


class _Blocks(nn.Module):
    """Residual blocks one after another; the first has the stride."""

    def __init__(
        self,
        spec: NNUNetSpec,
        widths: tuple[int, ...],
        kernel: Size,
        stride: Size,
        inner: int,
    ) -> None:
        super().__init__()
        strides = [stride, *[_one(spec)] * (len(widths) - 2)]
        pairs = zip(widths, widths[1:], strides, strict=False)
        self.blocks = nn.Sequential(
            *(_Block(spec, i, o, kernel, s, inner) for i, o, s in pairs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.blocks(x)
        return features


class _Block(nn.Module):
    """A residual block: basic, or a bottleneck of `inner` channels if not 0.

    The way past it averages over the stride, then projects to the new width (ResNet-D,
    He et al., CVPR 2019, arXiv:1812.01187).
    """

    def __init__(
        self,
        spec: NNUNetSpec,
        inputs: int,
        outputs: int,
        kernel: Size,
        stride: Size,
        inner: int,
    ) -> None:
        super().__init__()
        one = _one(spec)
        self.conv3: nn.Module | None = None
        if inner:
            self.conv1 = _Conv(spec, inputs, inner, one, one, dropout=False)
            self.conv2 = _Conv(spec, inner, inner, kernel, stride)
            self.conv3 = _Conv(
                spec, inner, outputs, one, one, dropout=False, active=False
            )
        else:
            self.conv1 = _Conv(spec, inputs, outputs, kernel, stride)
            self.conv2 = _Conv(
                spec, outputs, outputs, kernel, one, dropout=False, active=False
            )
        self.last = _activation(spec)
        past: list[nn.Module] = []
        if stride != one:
            pool = nn.AvgPool2d if spec.ndim == 2 else nn.AvgPool3d
            past.append(pool(stride, stride))  # type: ignore[arg-type]
        if inputs != outputs:
            plain = {"dropout": False, "active": False, "bias": False}
            past.append(_Conv(spec, inputs, outputs, one, one, **plain))
        self.skip = nn.Sequential(*past)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(self.conv1(x))
        if self.conv3 is not None:
            y = self.conv3(y)
        features: torch.Tensor = self.last(y + self.skip(x))
        return features


def _conv(spec: NNUNetSpec) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if spec.ndim == 2 else nn.Conv3d


def _one(spec: NNUNetSpec) -> Size:
    return (1,) * spec.ndim


def _norm(spec: NNUNetSpec, width: int) -> list[nn.Module]:
    if spec.norm == "none":
        return []
    if spec.norm == "batch":
        batch = nn.BatchNorm2d if spec.ndim == 2 else nn.BatchNorm3d
        return [batch(width, spec.eps)]
    instance = nn.InstanceNorm2d if spec.ndim == 2 else nn.InstanceNorm3d
    return [instance(width, spec.eps, affine=spec.affine)]


def _activation(spec: NNUNetSpec) -> nn.Module:
    if spec.activation == "leaky":
        return nn.LeakyReLU(spec.slope)
    return _ACTIVATIONS[spec.activation]()
