"""MONAI's DynUNet (Project-MONAI/MONAI 1.6.1): kernels and strides of each level.

After Isensee et al. 2018, arXiv:1809.10486. The up-sampled features come first in the
concatenation. Every tensor is stored twice, once below ``skip_layers``; either name
does. Heads for deep supervision are kept but not used.
"""

from __future__ import annotations

import re
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
    act_layer,
    conv_class,
    inferred,
    layer_settings,
    norm_layer,
    strides_left_open,
    told_strides,
    transposed_class,
)
from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    count,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULTS = {"affine": "instance_affine", "act": "leakyrelu", "slope": 0.01}
_TWIN = re.compile(r"^skip_layers\.((?:next_layer\.)*)(.+)$")


class DynUNetSpec(MonaiSpec):
    """Shape of a DynUNet: widths, kernels and strides of the levels from the top.

    `heads` counts the outputs for deep supervision.
    """

    widths: tuple[Width, ...] = Field(min_length=3, max_length=12)
    kernels: tuple[Size, ...] = Field(min_length=3, max_length=12)
    strides: tuple[Size, ...] = Field(min_length=3, max_length=12)
    res_block: bool = False
    trans_bias: bool = False
    heads: int = Field(0, ge=0, le=12)


class MonaiDynUNet(Family):
    """MONAI DynUNet."""

    name = "monai_dynunet"
    title = "MONAI DynUNet"
    source = "MONAI 1.6.1, monai.networks.nets.DynUNet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 3,
        "in_channels": 1,
        "out_channels": 2,
        "widths": [16, 32, 64, 128],
        "kernels": [[3, 3, 3]] * 4,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * 3,
        "norm": "instance_affine",
        "act": "leakyrelu",
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (
            ("input_block.conv1.conv.weight", "skip_layers.downsample.conv1."),
            ("upsamples.0.transp_conv.", "skip_layers.upsample.transp_conv."),
            ("output_block.conv.conv.weight",),
        )
        return all(any(k.startswith(mark) for k in shapes) for mark in marks)

    def accept(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors under their flat names."""
        levels = 1 + max((_level(k) for k in tensors if ".downsample." in k), default=0)
        flat = {k: t for k, t in tensors.items() if not _TWIN.match(k)}
        for key, tensor in tensors.items():
            if _TWIN.match(key):
                flat.setdefault(_flat(key, levels), tensor)
        return flat

    def emit(
        self, tensors: Mapping[str, torch.Tensor], architecture: Mapping[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Return the tensors under both names."""
        levels = len(architecture["widths"]) - 1
        twins = {_twin(k, levels): t for k, t in tensors.items()}
        twins.pop("", None)
        return {**tensors, **twins}

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        inner = count(shapes, "downsamples.{}.")
        places = ("input_block", *(f"downsamples.{n}" for n in range(inner)))
        convs = [shapes[f"{p}.conv1.conv.weight"] for p in (*places, "bottleneck")]
        ups = [shapes[f"upsamples.{n}.transp_conv.conv.weight"] for n in _down(inner)]
        out = shapes["output_block.conv.conv.weight"]
        ndim = len(out) - 2
        told = told_strides(hints, len(convs), ndim)
        layers, assumed = layer_settings(
            shapes, "input_block.norm1", "input_block.lrelu", hints, _DEFAULTS
        )
        architecture = {
            "ndim": ndim,
            "in_channels": convs[0][1],
            "out_channels": out[0],
            "widths": [shape[0] for shape in convs],
            "kernels": [list(shape[2:]) for shape in convs],
            "strides": told or [[1] * ndim, *(list(shape[2:]) for shape in ups)],
            "res_block": any(".conv3." in key for key in shapes),
            "trans_bias": "upsamples.0.transp_conv.conv.bias" in shapes,
            "heads": count(shapes, "deep_supervision_heads.{}."),
            **layers,
        }
        if not told:
            reason = "the stride of the first level has no trace; it is nearly always 1"
            assumed.append(strides_left_open(architecture["strides"], reason))
        return inferred(architecture, assumed, hints)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return DynUNet(DynUNetSpec(**architecture))


def _down(last: int) -> range:
    """Count from `last` to 0: the deepest up-sampling is number 0."""
    return range(last, -1, -1)


def _level(key: str) -> int:
    """Return how deep below ``skip_layers`` a name lies."""
    return key.count("next_layer.")


def _flat(key: str, levels: int) -> str:
    """Return the flat name of a tensor below ``skip_layers``."""
    level, rest = _level(key), key.rpartition("next_layer.")[2]
    part, _, name = rest.removeprefix("skip_layers.").partition(".")
    if level == levels:
        return f"bottleneck.{part}.{name}"
    places = {
        "downsample": f"downsamples.{level - 1}" if level else "input_block",
        "upsample": f"upsamples.{levels - 1 - level}",
        "super_head": f"deep_supervision_heads.{level - 1}",
    }
    return f"{places[part]}.{name}" if part in places else key


def _twin(key: str, levels: int) -> str:
    """Return the other name of a tensor, empty for the output block that has none."""
    part, _, name = key.partition(".")
    number, _, rest = name.partition(".")
    if part == "output_block":
        return ""
    if part == "bottleneck":
        return "skip_layers." + "next_layer." * levels + name
    if part == "input_block":
        return f"skip_layers.downsample.{name}"
    n = int(number)
    level, word = {
        "downsamples": (n + 1, "downsample"),
        "upsamples": (levels - 1 - n, "upsample"),
        "deep_supervision_heads": (n + 1, "super_head"),
    }[part]
    return "skip_layers." + "next_layer." * level + f"{word}.{rest}"


class DynUNet(MonaiNetwork):
    """MONAI's DynUNet with its flat key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: DynUNetSpec) -> None:
        super().__init__(spec)
        last = len(spec.widths) - 1
        if {len(spec.kernels), len(spec.strides)} != {last + 1}:
            raise ValueError("kernels and strides: one per level")
        blocks = [_Block(spec, n) for n in range(last + 1)]
        self.input_block = blocks[0]
        self.downsamples = nn.ModuleList(blocks[1:-1])
        self.bottleneck = blocks[-1]
        self.upsamples = nn.ModuleList(_Up(spec, n) for n in range(last, 0, -1))
        self.output_block = _head(spec, 0)
        if spec.heads:
            heads = (_head(spec, n + 1) for n in range(spec.heads))
            self.deep_supervision_heads = nn.ModuleList(heads)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits at full resolution."""
        skips = [self.input_block(x)]
        for down in self.downsamples:
            skips.append(down(skips[-1]))
        x = self.bottleneck(skips[-1])
        for up in self.upsamples:
            x = up(x, skips.pop())
        logits: torch.Tensor = self.output_block(x)
        return logits


def _head(spec: DynUNetSpec, level: int) -> nn.Sequential:
    head = nn.Sequential()
    conv = conv_class(spec.ndim)(spec.widths[level], spec.out_channels, 1)
    head.add_module("conv", Unit(conv))
    return head


def _conv(inputs: int, outputs: int, kernel: Size, stride: Size) -> Unit:
    """Return a convolution with MONAI's padding for this kernel and stride."""
    pairs = list(zip(kernel, stride, strict=True))
    if any(k - s + 1 < 0 for k, s in pairs):
        raise ValueError("strides: at most one more than the kernel")
    padding = [(k - s + 1) // 2 for k, s in pairs]
    conv: Any = conv_class(len(kernel))
    return Unit(conv(inputs, outputs, kernel, stride, padding, bias=False))


class _Double(nn.Module):
    """Convolution, norm and activation, twice; perhaps with a way around."""

    def __init__(
        self, spec: DynUNetSpec, inputs: int, outputs: int, kernel: Size, stride: Size
    ) -> None:
        super().__init__()
        still = (1,) * spec.ndim
        self.conv1 = _conv(inputs, outputs, kernel, stride)
        self.conv2 = _conv(outputs, outputs, kernel, still)
        self.lrelu = act_layer(spec)
        self.norm1 = norm_layer(spec, outputs)
        self.norm2 = norm_layer(spec, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.lrelu(self._convolved(x))
        return features

    def _convolved(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the last activation gets."""
        x = self.lrelu(self.norm1(self.conv1(x)))
        features: torch.Tensor = self.norm2(self.conv2(x))
        return features


class _Block(_Double):
    """A level of the encoder."""

    def __init__(self, spec: DynUNetSpec, n: int) -> None:
        inputs = spec.widths[n - 1] if n else spec.in_channels
        outputs, stride = spec.widths[n], spec.strides[n]
        super().__init__(spec, inputs, outputs, spec.kernels[n], stride)
        self.is_residual = spec.res_block
        self.has_conv = spec.res_block and (inputs != outputs or max(stride) > 1)
        if self.has_conv:
            self.conv3 = _conv(inputs, outputs, (1,) * spec.ndim, stride)
            self.norm3 = norm_layer(spec, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self._convolved(x)
        if self.is_residual:
            around = self.norm3(self.conv3(x)) if self.has_conv else x
            features = features + around
        activated: torch.Tensor = self.lrelu(features)
        return activated


class _Up(nn.Module):
    """Transposed convolution from level `n` to the one above, and two convolutions."""

    def __init__(self, spec: DynUNetSpec, n: int) -> None:
        super().__init__()
        stride, outputs = spec.strides[n], spec.widths[n - 1]
        transposed: Any = transposed_class(spec.ndim)
        conv = transposed(spec.widths[n], outputs, stride, stride, bias=spec.trans_bias)
        self.transp_conv = Unit(conv)
        still = (1,) * spec.ndim
        self.conv_block = _Double(spec, 2 * outputs, outputs, spec.kernels[n], still)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.conv_block(
            torch.cat([self.transp_conv(x), skip], 1)
        )
        return features
