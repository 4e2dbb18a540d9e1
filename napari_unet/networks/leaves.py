"""Layers of our own that tell their view themselves.

`napari_unet.networks.graph` does not look inside them; each says which input pixels an
output pixel depends on.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from napari_unet.networks.windows import STILL, Enlarge, Slide, Window

if TYPE_CHECKING:
    from collections.abc import Sequence


class Leaf(nn.Module):
    """A layer with a known view."""

    @abstractmethod
    def windows(self, ndim: int) -> tuple[Window, ...]:
        """Return the view along each spatial axis."""


class Interleave(Leaf):
    """Concatenate two tensors group by group: a0 b0 a1 b1 ...

    Parameters
    ----------
    groups : int
        Into which the channels of both are cut; with 1 it is a plain concatenation.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Return (N, C of a + C of b, *spatial)."""
        pairs = zip(a.chunk(self.groups, 1), b.chunk(self.groups, 1), strict=True)
        return torch.cat([part for pair in pairs for part in pair], 1)

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel."""
        return (STILL,) * ndim


class Blur(Leaf):
    """Down-sampling by 2 with a binomial kernel of 3 (Zhang, ICML 2019)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *spatial / 2), zeros assumed around."""
        ndim, kernel = x.ndim - 2, x.new_tensor([0.25, 0.5, 0.25])
        weight = kernel
        for _ in range(ndim - 1):
            weight = weight[..., None] * kernel
        weight = weight.expand(x.shape[1], 1, *weight.shape)
        conv = F.conv2d if ndim == 2 else F.conv3d
        return conv(x, weight, stride=2, padding=1, groups=x.shape[1])

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """Three pixels, every other one."""
        return (Slide(3, 2, 1, 1, 1),) * ndim


class Affine(Leaf):
    """Bring channels to another scale: gain * x + offset.

    Parameters
    ----------
    gain, offset : sequence of float
        One for each channel.
    """

    def __init__(self, gain: Sequence[float], offset: Sequence[float]) -> None:
        super().__init__()
        self.gain, self.offset = tuple(gain), tuple(offset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *spatial)."""
        shape = (1, -1, *[1] * (x.ndim - 2))
        gain = x.new_tensor(self.gain).view(shape)
        return x * gain + x.new_tensor(self.offset).view(shape)

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel."""
        return (STILL,) * ndim


class TurnAxes(Leaf):
    """Reverse the order of the spatial axes; what follows has its windows reversed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *spatial reversed)."""
        return x.permute(0, 1, *range(x.ndim - 1, 1, -1))

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel."""
        return (STILL,) * ndim


class ChannelsToSpace(Leaf):
    """Move channels into space: (N, C * 2**ndim, *spatial) to twice the size.

    The sub-pixel step of Shi et al. 2016, arXiv:1609.05158, in 2-D and 3-D; in 2-D it
    is torch's `torch.nn.PixelShuffle`.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *spatial doubled)."""
        n = x.ndim - 2
        x = x.reshape(x.shape[0], -1, *(2,) * n, *x.shape[2:])
        x = x.permute(0, 1, *(axis for k in range(n) for axis in (2 + n + k, 2 + k)))
        for axis in range(2, 2 + n):
            x = x.flatten(axis, axis + 1)
        return x

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """Return the pixel that a block of outputs comes from."""
        return (Enlarge(2, False),) * ndim
