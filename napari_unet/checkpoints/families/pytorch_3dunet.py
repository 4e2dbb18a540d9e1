"""UNet and ResidualUNet of wolny/pytorch-3dunet, also PlantSeg's (1.9.6).

The order of norm, convolution and activation is a word such as ``gcr``; a norm before
the convolution has the channels of its input. UNets rise by nearest neighbours and
concatenate, the skip connection first; residual ones rise by a transposed convolution
and add. In evaluation the source applies a sigmoid or softmax, which is
`ModelSpec.activation` here: the module gives logits.
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
)
from napari_unet.config import Config
from napari_unet.networks.spec import Assumption
from napari_unet.networks.unet import ResizeTo

if TYPE_CHECKING:
    from collections.abc import Mapping

_NORMS = {"g": "groupnorm", "b": "batchnorm"}
_ACTIVATIONS = {"r": "ReLU", "l": "LeakyReLU", "e": "ELU"}
_FIRST = "encoders.0.basic_module."


class Pytorch3DUNetSpec(Config):
    """Shape of a pytorch-3dunet network.

    `firsts` are the channels between the two convolutions of each encoder; `order` is
    the source's ``layer_order``.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    widths: tuple[int, ...] = Field(min_length=2, max_length=9)
    firsts: tuple[int, ...] = ()
    residual: bool = False
    deconv: bool = False
    kernel: int = Field(3, ge=1, le=15)
    order: str = Field("gcr", pattern="^[gbrlec]{1,3}$")
    groups: int = Field(8, ge=1, le=4096)
    pool: tuple[int, ...] = ()


class Pytorch3DUNet(Family):
    """pytorch-3dunet's UNet2D, UNet3D, ResidualUNet2D and ResidualUNet3D."""

    name = "pytorch_3dunet"
    title = "pytorch-3dunet / PlantSeg"
    source = "pytorch3dunet 1.9.6, pytorch3dunet.unet3d.model"
    typical: ClassVar[Mapping[str, Any]] = {
        **{"ndim": 3, "in_channels": 1, "out_channels": 1, "order": "gcr"},
        **{"widths": [8, 16, 32], "firsts": [4, 8, 16], "groups": 4},
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        parts = ("SingleConv1.conv.weight", "conv2.conv.weight")
        has_block = any(f"{_FIRST}{part}" in shapes for part in parts)
        return has_block and "final_conv.weight" in shapes

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names, shapes and their order."""
        levels = count(shapes, "encoders.{}.")
        residual = f"{_FIRST}conv2.conv.weight" in shapes
        last = "conv3" if residual else "SingleConv2"
        widths = [
            shapes[f"encoders.{n}.basic_module.{last}.conv.weight"][0]
            for n in range(levels)
        ]
        block = "conv2" if residual else "SingleConv1"
        first = shapes[f"{_FIRST}{block}.conv.weight"]
        out = shapes["final_conv.weight"][0]
        if residual:
            entry = shapes.get(f"{_FIRST}conv1.weight", (widths[0], widths[0]))[1]
        else:
            entry = first[1]
        order, is_known = _order(shapes, f"{_FIRST}{block}.", hints, residual)
        architecture: dict[str, Any] = {
            "ndim": len(first) - 2,
            "in_channels": entry,
            "out_channels": out,
            "widths": widths,
            "residual": residual,
            "deconv": any(".upsampling." in key for key in shapes),
            "kernel": first[2],
            "order": order,
            "groups": int(hints.get("num_groups") or 8),
            "pool": [2] * (len(first) - 2),
        }
        if not residual:
            architecture["firsts"] = [
                shapes[f"encoders.{n}.basic_module.SingleConv1.conv.weight"][0]
                for n in range(levels)
            ]
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        assumed = _assumed(architecture, hints, is_known)
        return Inferred(architecture, fields, tuple(assumed))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return UNet3D(Pytorch3DUNetSpec(**architecture))


def _order(
    shapes: Shapes, block: str, hints: Mapping[str, Any], residual: bool
) -> tuple[str, bool]:
    """Return the order of the layers, and whether the source's settings tell it."""
    told = str(hints.get("layer_order") or "")
    letter = next((k for k, v in _NORMS.items() if f"{block}{v}.weight" in shapes), "")
    act = "e" if residual else "r"
    if told and set(told) <= set("gbrlec") and (letter or "c") in told:
        return told, True
    if not letter:
        return f"c{act}", False
    names = [k for k in shapes if k.startswith(block)]
    norm = names.index(f"{block}{_NORMS[letter]}.weight")
    conv = names.index(f"{block}conv.weight")
    width = shapes[f"{block}conv.weight"]
    is_first = norm < conv
    if width[0] != width[1]:  # its size is surer than the order in the file
        is_first = shapes[f"{block}{_NORMS[letter]}.weight"] == (width[1],)
    return (f"{letter}c{act}" if is_first else f"c{letter}{act}"), False


def _assumed(
    architecture: Mapping[str, Any], hints: Mapping[str, Any], is_known: bool
) -> list[Assumption]:
    """List what names and shapes do not tell."""
    order, out = architecture["order"], architecture["out_channels"]
    assumed = [normalization("zscore", "its own loader standardises by default")]
    told = hints.get("final_sigmoid")
    if told is None:
        assumed.append(activation(out))
    values: list[tuple[str, Any, tuple[Any, ...], str]] = []
    if not is_known:
        others = [order.replace(a, b) for a in _ACTIVATIONS for b in _ACTIVATIONS]
        choices = dict.fromkeys(o for o in others if o != order)
        values.append(("order", order, tuple(choices), "activations have no weights"))
    if "g" in order and not hints.get("num_groups"):
        values.append(("groups", 8, (), "groups have no weights"))
    flat = ([1, 2, 2],) if architecture["ndim"] == 3 else ()
    values.append(("pool", architecture["pool"], flat, "pooling has no weights"))
    return [
        *assumed,
        *(
            Assumption(field=f"architecture.{n}", value=v, alternatives=a, reason=r)
            for n, v, a, r in values
        ),
    ]


def _conv(spec: Pytorch3DUNetSpec, inputs: int, outputs: int, order: str) -> nn.Module:
    """One convolution with its norm and activation in the given order."""
    block = nn.Sequential()
    groups = spec.groups
    for n, letter in enumerate(order):
        if letter == "c":
            kind = nn.Conv2d if spec.ndim == 2 else nn.Conv3d
            bias = not set("gb") & set(order)
            pad = spec.kernel // 2
            layer: nn.Module = kind(
                inputs, outputs, spec.kernel, padding=pad, bias=bias
            )
            block.add_module("conv", layer)
        elif letter in _NORMS:
            channels = inputs if n < order.index("c") else outputs
            groups = 1 if channels < groups else groups
            norm = nn.BatchNorm2d if spec.ndim == 2 else nn.BatchNorm3d
            layer = norm(channels) if letter == "b" else nn.GroupNorm(groups, channels)
            block.add_module(_NORMS[letter], layer)
        else:
            name = _ACTIVATIONS[letter]
            block.add_module(name, getattr(nn, name)())
    return block


def _double(
    spec: Pytorch3DUNetSpec, inputs: int, middle: int, outputs: int
) -> nn.Sequential:
    block = nn.Sequential()
    block.add_module("SingleConv1", _conv(spec, inputs, middle, spec.order))
    block.add_module("SingleConv2", _conv(spec, middle, outputs, spec.order))
    return block


class _Residual(nn.Module):
    """A pair of convolutions beside the identity; the activation comes last."""

    def __init__(self, spec: Pytorch3DUNetSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        kind = nn.Conv2d if spec.ndim == 2 else nn.Conv3d
        self.conv1 = kind(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.conv2 = _conv(spec, outputs, outputs, spec.order)
        bare = "".join(c for c in spec.order if c not in _ACTIVATIONS)
        self.conv3 = _conv(spec, outputs, outputs, bare)
        acts: dict[str, nn.Module] = {"l": nn.LeakyReLU(0.1), "e": nn.ELU()}
        letter = next((c for c in "le" if c in spec.order), "")
        self.non_linearity = acts.get(letter, nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        features: torch.Tensor = self.non_linearity(self.conv3(self.conv2(x)) + x)
        return features


class _Encoder(nn.Module):
    def __init__(self, spec: Pytorch3DUNetSpec, level: int) -> None:
        super().__init__()
        pool = nn.MaxPool2d if spec.ndim == 2 else nn.MaxPool3d
        size = spec.pool or (2,) * spec.ndim
        self.pooling = pool(size) if level else nn.Identity()
        inputs = spec.widths[level - 1] if level else spec.in_channels
        outputs = spec.widths[level]
        if spec.residual:
            self.basic_module: nn.Module = _Residual(spec, inputs, outputs)
        else:
            self.basic_module = _double(spec, inputs, spec.firsts[level], outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.basic_module(self.pooling(x))
        return features


class _Decoder(nn.Module):
    def __init__(self, spec: Pytorch3DUNetSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        factor = spec.pool or (2,) * spec.ndim
        self.resize: nn.Module = ResizeTo(2)
        self.resize.factor = tuple(float(f) for f in factor)  # type: ignore[assignment]
        self.upsampling = nn.Module()
        self.is_deconv, self.is_sum = spec.deconv, spec.residual
        if spec.deconv:
            kind: Any = nn.ConvTranspose2d if spec.ndim == 2 else nn.ConvTranspose3d
            rise = kind(
                inputs,
                outputs,
                spec.kernel,
                factor,
                padding=1,
                bias=False,
            )
            upsample = nn.Module()
            upsample.add_module("conv_transposed", rise)
            self.upsampling.add_module("upsample", upsample)
            self.resize = _Stretch()
        if spec.residual:
            self.basic_module: nn.Module = _Residual(spec, outputs, outputs)
        else:
            joined = 2 * outputs if spec.deconv else inputs + outputs
            self.basic_module = _double(spec, joined, outputs, outputs)

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        if self.is_deconv:
            x = self.upsampling.get_submodule("upsample.conv_transposed")(x)
        x = self.resize(x, skip)
        x = skip + x if self.is_sum else torch.cat([skip, x], 1)
        features: torch.Tensor = self.basic_module(x)
        return features


class _Stretch(nn.Module):
    """Nearest neighbours to the size of another tensor, by a pixel or so."""

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, size=like.shape[2:])


class UNet3D(nn.Module):
    """The network with its key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: Pytorch3DUNetSpec) -> None:
        super().__init__()
        levels = range(len(spec.widths))
        self.encoders = nn.ModuleList(_Encoder(spec, n) for n in levels)
        rising = spec.widths[::-1]
        self.decoders = nn.ModuleList(_Decoder(spec, i, o) for i, o in pairwise(rising))
        kind = nn.Conv2d if spec.ndim == 2 else nn.Conv3d
        self.final_conv = kind(spec.widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        skips.pop()
        for decoder in self.decoders:
            x = decoder(skips.pop(), x)
        logits: torch.Tensor = self.final_conv(x)
        return logits
