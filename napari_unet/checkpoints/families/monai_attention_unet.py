"""MONAI's AttentionUnet (Project-MONAI/MONAI 1.6.1): gated skip connections.

Oktay et al. 2018, arXiv:1804.03999. The gated skip connection comes first in the
concatenation. Each merging convolution has an instance norm without weights, whatever
the rest of the network has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families._monai import (
    MonaiNetwork,
    MonaiSpec,
    Size,
    Unit,
    Width,
    conv_class,
    convolution,
    inferred,
    norm_layer,
    strides_left_open,
    told_strides,
)
from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.networks.spec import Assumption


class AttentionUnetSpec(MonaiSpec):
    """Shape of an AttentionUnet: widths from the top down, one stride less.

    Norm and activation are always batch norm and ReLU.
    """

    widths: tuple[Width, ...] = Field(min_length=2, max_length=12)
    strides: tuple[Size, ...] = Field(min_length=1, max_length=11)
    kernel: Size
    up_kernel: Size


class MonaiAttentionUnet(Family):
    """MONAI AttentionUnet."""

    name = "monai_attention_unet"
    title = "MONAI AttentionUnet"
    source = "MONAI 1.6.1, monai.networks.nets.AttentionUnet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 2,
        "in_channels": 1,
        "out_channels": 2,
        "widths": [16, 32, 64, 128],
        "strides": [[2, 2]] * 3,
        "kernel": [3, 3],
        "up_kernel": [3, 3],
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (
            *("model.0.conv.0.conv.weight", "model.1.attention.W_g.0.conv.weight"),
            *("model.1.merge.conv.weight", "model.2.conv.weight"),
        )
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        first, out = shapes["model.0.conv.0.conv.weight"], shapes["model.2.conv.weight"]
        ups = _ups(shapes)
        ndim = len(first) - 2
        assumed_strides = [[2] * ndim for _ in ups]
        told = told_strides(hints, len(ups), ndim)
        architecture = {
            "ndim": ndim,
            "in_channels": first[1],
            "out_channels": out[0],
            "widths": [first[0], *(shape[0] for shape in ups)],
            "strides": told or assumed_strides,
            "kernel": list(first[2:]),
            "up_kernel": list(ups[0][2:]),
        }
        assumed: list[Assumption] = []
        if not told:
            reason = "strides have no trace in the weights"
            assumed.append(strides_left_open(assumed_strides, reason))
        return inferred(architecture, assumed, hints)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        spec = {**architecture, "norm": "batch", "act": "relu"}
        return AttentionUnet(AttentionUnetSpec(**spec))


def _ups(shapes: Shapes) -> list[tuple[int, ...]]:
    """Return the shapes of the transposed convolutions from the top down."""
    found, place = [], "model.1."
    while f"{place}upconv.up.conv.weight" in shapes:
        found.append(shapes[f"{place}upconv.up.conv.weight"])
        place += "submodule.1."
    return found


class AttentionUnet(MonaiNetwork):
    """MONAI's AttentionUnet with its key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: AttentionUnetSpec) -> None:
        super().__init__(spec)
        if len(spec.strides) != len(spec.widths) - 1:
            raise ValueError("strides: one less than widths")
        head = _Block(spec, spec.in_channels, spec.widths[0], (1,) * spec.ndim)
        out = Unit(conv_class(spec.ndim)(spec.widths[0], spec.out_channels, 1))
        self.model = nn.Sequential(head, _Level(spec, 0), out)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        logits: torch.Tensor = self.model(x)
        return logits


class _Block(nn.Module):
    """Two convolutions with batch norm and ReLU."""

    def __init__(
        self, spec: AttentionUnetSpec, inputs: int, outputs: int, stride: Size
    ) -> None:
        super().__init__()
        first = convolution(spec, inputs, outputs, spec.kernel, stride)
        second = convolution(spec, outputs, outputs, spec.kernel)
        units = (Unit(conv, spec, outputs) for conv in (first, second))
        self.conv = nn.Sequential(*units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.conv(x)
        return features


class _Level(nn.Module):
    """A gated skip connection around all levels below."""

    def __init__(self, spec: AttentionUnetSpec, n: int) -> None:
        super().__init__()
        width, below, stride = spec.widths[n], spec.widths[n + 1], spec.strides[n]
        three = (3,) * spec.ndim
        merging = spec.model_copy(update={"norm": "instance", "act": "prelu"})
        self.attention = _Gate(spec, width)
        self.upconv = nn.Sequential()
        up = convolution(spec, below, width, spec.up_kernel, stride, transposed=True)
        self.upconv.add_module("up", Unit(up, spec, width))
        self.merge = Unit(convolution(spec, 2 * width, width, three), merging, width)
        block = _Block(spec, width, below, stride)
        is_last = n + 1 == len(spec.strides)
        self.submodule = block if is_last else nn.Sequential(block, _Level(spec, n + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lower = self.upconv(self.submodule(x))
        merged: torch.Tensor = self.merge(
            torch.cat([self.attention(lower, x), lower], 1)
        )
        return merged


class _Gate(nn.Module):
    """Attention to pixels of `x`, from `x` and the features below it."""

    def __init__(self, spec: AttentionUnetSpec, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.W_g = _pointwise(spec, width, inner)
        self.W_x = _pointwise(spec, width, inner)
        self.psi = _pointwise(spec, inner, 1).append(nn.Sigmoid())
        self.relu = nn.ReLU()

    def forward(self, lower: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        gate = self.psi(self.relu(self.W_g(lower) + self.W_x(x)))
        gated: torch.Tensor = x * gate
        return gated


def _pointwise(spec: AttentionUnetSpec, inputs: int, outputs: int) -> nn.Sequential:
    """Return a 1x1 convolution with batch norm."""
    conv = Unit(conv_class(spec.ndim)(inputs, outputs, 1))
    return nn.Sequential(conv, norm_layer(spec, outputs))
