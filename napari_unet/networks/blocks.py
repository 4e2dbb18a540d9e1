"""Small parts that the U-Nets of several sources share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from napari_unet.networks.unet import CropTo


def layer(kind: str, ndim: int) -> Any:
    """Return torch's class of a kind of layer, such as `torch.nn.Conv3d`.

    Parameters
    ----------
    kind : str
        Name without the dimension: Conv, ConvTranspose, BatchNorm, InstanceNorm,
        MaxPool or AvgPool.
    ndim : int
        Number of spatial axes.
    """
    return getattr(nn, f"{kind}{ndim}d")


def linear(ndim: int) -> str:
    """Return torch's name of linear interpolation."""
    return "bilinear" if ndim == 2 else "trilinear"


def doubled(first: int, levels: int) -> list[int]:
    """Return `levels` widths, each twice the one before."""
    return [first * 2**n for n in range(levels)]


def double_conv(inputs: int, outputs: int, bias: bool, ndim: int = 2) -> nn.Sequential:
    """Convolution of size 3, batch norm and ReLU, twice; convolutions at 0 and 3."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [
            layer("Conv", ndim)(width, outputs, 3, padding=1, bias=bias),
            layer("BatchNorm", ndim)(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class Named(nn.Module):
    """One child under a name of the source's, and nothing else."""

    def __init__(self, name: str, child: nn.Module) -> None:
        super().__init__()
        self.add_module(name, child)
        self.child_name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the child returns."""
        features: torch.Tensor = self.get_submodule(self.child_name)(x)
        return features


class ResizeTo(CropTo):
    """Resize `x` to the spatial size of `like`, which is `factor` times its own.

    Where `like` is smaller by a pixel or two, as after a pooling of odd sizes, nearest
    neighbours are those of enlarging by the factor and cutting off the end.
    """

    def __init__(self, factor: int = 2, mode: str = "nearest") -> None:
        super().__init__()
        self.factor = float(factor)
        self.mode = mode

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return `x` with the spatial size of `like`."""
        return F.interpolate(x, size=like.shape[2:], mode=self.mode)

    @staticmethod
    def offset(length: int, wanted: int) -> int:
        """Return the pixel that becomes the first: the first."""
        del length, wanted
        return 0


class LinearTo(CropTo):
    """Interpolate `x` linearly to the spatial size of `like`, if they differ."""

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return `x` with the spatial size of `like`."""
        if x.shape[2:] == like.shape[2:]:
            return x
        return F.interpolate(x, _size(like), mode=linear(x.ndim - 2))

    @staticmethod
    def moves(length: int, wanted: int) -> bool:
        """Whether pixels are only moved: where nothing changes."""
        return length == wanted


class ReflectTo(CropTo):
    """Add reflected pixels at the end of each axis where `x` is too short."""

    outside = "reflect"

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return `x` with the spatial size of `like`."""
        lacking = [n - m for n, m in zip(_size(like), _size(x), strict=True)]
        sides = [s for n in reversed(lacking) for s in (0, n)]
        return F.pad(x, sides, "reflect") if any(sides) else x

    @staticmethod
    def offset(length: int, wanted: int) -> int:
        """Return the pixel of `length` that becomes the first of the `wanted` ones."""
        del length, wanted
        return 0


class NearestTo(CropTo):
    """Bring what was doubled in size to the size of `like` instead.

    `x` is nearest-neighbour interpolation by 2; if that is not the size of `like`, the
    pixels before it, every second one, are interpolated anew.
    """

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return `x` with the spatial size of `like`."""
        if x.shape[2:] == like.shape[2:]:
            return x
        for axis in range(2, x.ndim):
            x = x.index_select(axis, torch.arange(0, x.shape[axis], 2, device=x.device))
        return F.interpolate(x, _size(like), mode="nearest")

    @staticmethod
    def moves(length: int, wanted: int) -> bool:
        """Whether pixels are only moved: where nothing changes."""
        return length == wanted


class StartTo(CropTo):
    """Keep the start of each axis of `x`, as long as that of `like`.

    Pooling that rounds up makes the features on the way up one pixel too long.
    """

    @staticmethod
    def offset(length: int, wanted: int) -> int:
        """Return the pixel of `length` that becomes the first of the `wanted` ones."""
        del length, wanted
        return 0


class CentreTo(CropTo):
    """Crop `x` centrally to the size of `like`, or one less to stay in the centre."""

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return the centre of `x`."""
        for axis in range(2, x.ndim):
            wanted = like.shape[axis] - (x.shape[axis] - like.shape[axis]) % 2
            x = x.narrow(axis, (x.shape[axis] - wanted) // 2, wanted)
        return x

    @staticmethod
    def moves(length: int, wanted: int) -> bool:
        """Whether it has the length of `like`."""
        return (length - wanted) % 2 == 0


def _size(x: torch.Tensor) -> list[int]:
    return [int(n) for n in x.shape[2:]]
