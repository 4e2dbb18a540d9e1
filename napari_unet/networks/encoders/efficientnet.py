"""EfficientNet without its classifier (Tan and Le, arXiv:1905.11946).

It has the key names of efficientnet-pytorch 0.7, which segmentation_models_pytorch 0.6
carries with it.

Convolutions are padded as TensorFlow pads them for the image size the network was made
for, whatever size it is given: the missing pixel lies after the image, not before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STAGES = (
    *((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3)),
    *((5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)),
)
"""Kernel, first stride, expansion, channels and blocks of each stage of B0."""
_FEATURE_STAGES = (1, 2, 4, 6)
_EPS = 1e-3
_SQUEEZE = 4


@dataclass(frozen=True)
class EfficientNetShape:
    """What tells one EfficientNet from another.

    Attributes
    ----------
    wider, deeper : float
        Factors on the channels and blocks of B0.
    size : int
        Side of the images it was made for; sets the padding.
    taken : tuple of int
        Blocks whose output is a feature, empty for the last of each stage.
    """

    wider: float
    deeper: float
    size: int
    taken: tuple[int, ...] = ()


EFFICIENTNETS: Mapping[str, EfficientNetShape] = {
    # The source takes B0's third feature after the first block of its stage.
    "efficientnet-b0": EfficientNetShape(1.0, 1.0, 224, (2, 4, 8, 15)),
    "efficientnet-b1": EfficientNetShape(1.0, 1.1, 240),
    "efficientnet-b2": EfficientNetShape(1.1, 1.2, 260),
    "efficientnet-b3": EfficientNetShape(1.2, 1.4, 300),
    "efficientnet-b4": EfficientNetShape(1.4, 1.8, 380),
    "efficientnet-b5": EfficientNetShape(1.6, 2.2, 456),
    "efficientnet-b6": EfficientNetShape(1.8, 2.6, 528),
    "efficientnet-b7": EfficientNetShape(2.0, 3.1, 600),
}


@dataclass(frozen=True)
class BlockShape:
    """Shape of one inverted residual block; `size` is that of its input."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int
    size: int
    stage: int


def stem_width(shape: EfficientNetShape) -> int:
    """Return the channels after the first convolution."""
    return _rounded(32, shape.wider)


def blocks(shape: EfficientNetShape) -> list[BlockShape]:
    """Return the shapes of all blocks in order."""
    return list(_blocks(shape))


def _blocks(shape: EfficientNetShape) -> Iterator[BlockShape]:
    inputs, size = stem_width(shape), ceil(shape.size / 2)
    for stage, (kernel, first, expansion, channels, repeats) in enumerate(_STAGES):
        outputs = _rounded(channels, shape.wider)
        for n in range(ceil(repeats * shape.deeper)):
            stride = first if n == 0 else 1
            yield BlockShape(inputs, outputs, kernel, stride, expansion, size, stage)
            inputs, size = outputs, ceil(size / stride)


def _rounded(channels: int, wider: float) -> int:
    """Return a widened number of channels as a multiple of 8, at most 10 % less."""
    exact = channels * wider
    nearest = max(8, int(exact + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * exact else nearest


class EfficientNetEncoder(nn.Module):
    """Features of an EfficientNet, (N, C, Y, X) to a list from half the size down.

    Attributes
    ----------
    widths : tuple of int
        Channels of the features.
    """

    def __init__(
        self, shape: EfficientNetShape, in_channels: int, depth: int = 5
    ) -> None:
        super().__init__()
        width, layers = stem_width(shape), blocks(shape)
        self.taken = (shape.taken or _ends(layers))[: depth - 1]
        self.widths = (width, *(layers[n].outputs for n in self.taken))
        self.pad = _padding(shape.size, 3, 2)
        self._conv_stem = nn.Conv2d(in_channels, width, 3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(width, eps=_EPS)
        self._blocks = nn.ModuleList(_Block(layer) for layer in layers)
        last = _rounded(1280, shape.wider)
        self._conv_head = nn.Conv2d(layers[-1].outputs, last, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(last, eps=_EPS)
        self._swish = nn.SiLU()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features, the finest first."""
        x = self._swish(self._bn0(self._conv_stem(self.pad(x))))
        features = [x]
        for n in range(self.taken[-1] + 1 if self.taken else 0):
            x = self._blocks[n](x)
            if n in self.taken:
                features.append(x)
        return features


def _ends(layers: list[BlockShape]) -> tuple[int, ...]:
    """Return the numbers of the last blocks of the stages that give features."""
    stages = [layer.stage for layer in layers]
    return tuple(len(stages) - 1 - stages[::-1].index(s) for s in _FEATURE_STAGES)


def _padding(size: int, kernel: int, stride: int) -> nn.ZeroPad2d:
    """Return what TensorFlow pads an image of this side before a convolution."""
    lacking = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
    before, after = lacking // 2, lacking - lacking // 2
    return nn.ZeroPad2d((before, after, before, after))


class _Block(nn.Module):
    """Widen, convolve each channel by itself, weigh the channels, narrow."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        middle = shape.inputs * shape.expansion
        self.widens = shape.expansion != 1
        self.adds = shape.stride == 1 and shape.inputs == shape.outputs
        if self.widens:
            self._expand_conv = nn.Conv2d(shape.inputs, middle, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(middle, eps=_EPS)
        kernel, stride = shape.kernel, shape.stride
        self.pad = _padding(shape.size, kernel, stride)
        self._depthwise_conv = nn.Conv2d(
            *(middle, middle, kernel, stride), groups=middle, bias=False
        )
        self._bn1 = nn.BatchNorm2d(middle, eps=_EPS)
        squeezed = max(1, shape.inputs // _SQUEEZE)
        self._se_reduce = nn.Conv2d(middle, squeezed, 1)
        self._se_expand = nn.Conv2d(squeezed, middle, 1)
        self._project_conv = nn.Conv2d(middle, shape.outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(shape.outputs, eps=_EPS)
        self._swish = nn.SiLU()
        self.mean = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = x
        if self.widens:
            features = self._swish(self._bn0(self._expand_conv(features)))
        features = self._swish(self._bn1(self._depthwise_conv(self.pad(features))))
        features = self._weighed(features)
        features = self._bn2(self._project_conv(features))
        return features + x if self.adds else features

    def _weighed(self, x: torch.Tensor) -> torch.Tensor:
        """Squeeze and excitation: each channel by what the whole image holds of it."""
        weight = self._se_expand(self._swish(self._se_reduce(self.mean(x))))
        return torch.sigmoid(weight) * x
