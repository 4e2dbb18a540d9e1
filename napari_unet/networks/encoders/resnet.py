"""ResNet and ResNeXt without their classifier, with the key names of torchvision 0.28.

He et al., arXiv:1512.03385; Xie et al., arXiv:1611.05431.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXPANSION = 4
_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class ResNetShape:
    """What tells one ResNet from another.

    Attributes
    ----------
    blocks : tuple of int
        Residual blocks in each of the four stages.
    bottleneck : bool
        Blocks of 1x1, 3x3, 1x1 convolutions instead of two 3x3 ones.
    groups, group_width : int
        Of the 3x3 convolution: ResNeXt has 32 groups, of 4 channels in the first stage.
    """

    blocks: tuple[int, ...]
    bottleneck: bool = True
    groups: int = 1
    group_width: int = 64


RESNETS: Mapping[str, ResNetShape] = {
    "resnet18": ResNetShape((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNetShape((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNetShape((3, 4, 6, 3)),
    "resnet101": ResNetShape((3, 4, 23, 3)),
    "resnet152": ResNetShape((3, 8, 36, 3)),
    "resnext50_32x4d": ResNetShape((3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x4d": ResNetShape((3, 4, 23, 3), groups=32, group_width=4),
    "resnext101_32x8d": ResNetShape((3, 4, 23, 3), groups=32, group_width=8),
    "resnext101_32x16d": ResNetShape((3, 4, 23, 3), groups=32, group_width=16),
    "resnext101_32x32d": ResNetShape((3, 4, 23, 3), groups=32, group_width=32),
    "resnext101_32x48d": ResNetShape((3, 4, 23, 3), groups=32, group_width=48),
}


class ResNetEncoder(nn.Module):
    """Features of a ResNet, (N, C, Y, X) to a list from half the size down.

    Attributes
    ----------
    widths : tuple of int
        Channels of the features.
    """

    def __init__(self, shape: ResNetShape, in_channels: int, depth: int = 5) -> None:
        super().__init__()
        grow = _EXPANSION if shape.bottleneck else 1
        outputs = (64, *(grow * width for width in _WIDTHS))
        self.widths = outputs[:depth]
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for n, width in enumerate(_WIDTHS):
            stage = _stage(shape, outputs[n], width, n)
            self.add_module(f"layer{n + 1}", stage)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features, the finest first."""
        x = self.relu(self.bn1(self.conv1(x)))
        features = [x]
        for n in range(1, len(self.widths)):
            x = self.get_submodule(f"layer{n}")(self.maxpool(x) if n == 1 else x)
            features.append(x)
        return features


def _stage(shape: ResNetShape, inputs: int, width: int, number: int) -> nn.Sequential:
    """Make residual blocks, of which the first halves the size but in stage 0."""
    block = _Bottleneck if shape.bottleneck else _BasicBlock
    first = block(shape, inputs, width, stride=2 if number else 1)
    rest = (block(shape, first.outputs, width) for _ in range(shape.blocks[number] - 1))
    return nn.Sequential(first, *rest)


class _Residual(nn.Module):
    """What both kinds of block share: the way around the convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        around = x if self.downsample is None else self.downsample(x)
        features: torch.Tensor = self.relu(self.convolve(x) + around)
        return features

    @abstractmethod
    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        """Return what is added to the way around, before the activation."""


class _BasicBlock(_Residual):
    def __init__(
        self, shape: ResNetShape, inputs: int, width: int, stride: int = 1
    ) -> None:
        del shape  # without groups
        super().__init__(inputs, width, stride)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.relu(self.bn1(self.conv1(x)))
        features = self.bn2(self.conv2(features))
        return features


class _Bottleneck(_Residual):
    def __init__(
        self, shape: ResNetShape, inputs: int, width: int, stride: int = 1
    ) -> None:
        outputs = _EXPANSION * width
        super().__init__(inputs, outputs, stride)
        middle = width * shape.group_width // 64 * shape.groups
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(
            *(middle, middle, 3, stride), padding=1, groups=shape.groups, bias=False
        )
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)

    def convolve(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.relu(self.bn1(self.conv1(x)))
        features = self.relu(self.bn2(self.conv2(features)))
        features = self.bn3(self.conv3(features))
        return features
