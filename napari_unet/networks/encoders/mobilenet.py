"""MobileNetV2 without its classifier (Sandler et al., arXiv:1801.04381).

It has the key names of torchvision 0.28.
"""

from __future__ import annotations

import torch
from torch import nn

_STAGES = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
"""Expansion, channels, blocks and first stride of each stage."""
_TAKEN = (1, 3, 6, 13, 18)
_WIDTHS = (16, 24, 32, 96, 1280)
"""Layers whose output is a feature, and its channels."""


class MobileNetV2Encoder(nn.Module):
    """Features of MobileNetV2, (N, C, Y, X) to a list from half the size down.

    Attributes
    ----------
    widths : tuple of int
        Channels of the features.
    """

    def __init__(self, in_channels: int, depth: int = 5) -> None:
        super().__init__()
        self.widths = _WIDTHS[:depth]
        layers: list[nn.Module] = [_convolution(in_channels, 32, 3, stride=2)]
        inputs = 32
        for expansion, outputs, blocks, first in _STAGES:
            for n in range(blocks):
                stride = first if n == 0 else 1
                layers.append(_InvertedResidual(inputs, outputs, expansion, stride))
                inputs = outputs
        self.features = nn.Sequential(*layers, _convolution(inputs, 1280, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features, the finest first."""
        taken = _TAKEN[: len(self.widths)]
        features = []
        for n in range(taken[-1] + 1):
            x = self.features[n](x)
            if n in taken:
                features.append(x)
        return features


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(
            *(inputs, outputs, kernel, stride),
            padding=kernel // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class _InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow without an activation."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        self.adds = stride == 1 and inputs == outputs
        middle = inputs * expansion
        widen = [] if expansion == 1 else [_convolution(inputs, middle, 1)]
        self.conv = nn.Sequential(
            *widen,
            _convolution(middle, middle, 3, stride, groups=middle),
            nn.Conv2d(middle, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.conv(x)
        return x + features if self.adds else features
