"""A fixed bank of filters: value, slope, curvature and shape at several scales.

What random forests on pixels are given (ilastik: Berg et al., Nature Methods 2019),
reduced to what does not change when the image is turned: the Gaussian, the length of
the gradient, the Laplacian, and the length of the rest of the Hessian, which tells
lines from blobs. All are linear filters but for the square roots, and normalised by
their scale (Lindeberg, IJCV 1998).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_unet.networks.leaves import Leaf
from napari_unet.networks.windows import Slide

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_unet.networks.windows import Window

    Maps = dict[tuple[int, ...], torch.Tensor]

_REACH = 3.0  # of a filter, in sigmas
_TINY = 1e-6  # keeps the square root smooth at 0
FEATURES = 4
"""Features of a channel at one scale."""


class FilterBank(Leaf):
    """Features of every channel: itself, then `FEATURES` at each scale.

    Parameters
    ----------
    sigmas : sequence of float
        Scales, in pixels.
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        super().__init__()
        self.sigmas = tuple(sigmas)

    @property
    def features(self) -> int:
        """Features of one channel."""
        return 1 + FEATURES * len(self.sigmas)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C * features, *spatial), edge pixels continued outwards."""
        # Not in the reduced precision of the layers: slopes are small differences.
        with torch.autocast(x.device.type, enabled=False):
            plane = x.reshape(-1, 1, *x.shape[2:]).contiguous()
            found = [plane, *(f for s in self.sigmas for f in _features(plane, s))]
            return torch.cat(found, 1).reshape(x.shape[0], -1, *x.shape[2:])

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """As far as the widest filter reaches."""
        reach = _radius(max(self.sigmas))
        return (Slide(2 * reach + 1, 1, 1, reach, reach),) * ndim


def _radius(sigma: float) -> int:
    return math.ceil(_REACH * sigma)


def _features(x: torch.Tensor, sigma: float) -> list[torch.Tensor]:
    """Gaussian, slope, Laplacian and the rest of the Hessian, (N, 1, *spatial) each."""
    maps, ndim = _derivatives(x, sigma), x.ndim - 2
    unit = torch.eye(ndim, dtype=torch.int).tolist()
    slopes = [maps[tuple(e)] for e in unit]
    second = {
        (a, b): maps[tuple(m + n for m, n in zip(unit[a], unit[b], strict=True))]
        for a, b in itertools.combinations_with_replacement(range(ndim), 2)
    }
    laplacian = sum((second[a, a] for a in range(ndim)), torch.zeros_like(x))
    # Frobenius norm of the Hessian without its mean curvature.
    rest = sum(
        (
            (second[a, b] - (laplacian / ndim if a == b else 0)) ** 2 * (1 + (a != b))
            for a, b in second
        ),
        torch.zeros_like(x),
    )
    slope = sum((s**2 for s in slopes), torch.zeros_like(x))
    roots = [torch.sqrt(v + _TINY) for v in (slope, rest)]
    return [maps[(0,) * ndim], roots[0], laplacian, roots[1]]


def _derivatives(x: torch.Tensor, sigma: float) -> Maps:
    """Gaussian derivatives up to the second order, by their order along each axis."""
    kernels = _kernels(sigma, x)
    maps: Maps = {(): x}
    for axis in range(x.ndim - 2):
        maps = {
            (*orders, n): made
            for orders, part in maps.items()
            for n, made in enumerate(_along(part, kernels[: 3 - sum(orders)], axis))
        }
    return maps


def _along(x: torch.Tensor, kernels: torch.Tensor, axis: int) -> Iterable[torch.Tensor]:
    """Filter (N, 1, *spatial) along one axis with each of the kernels (K, taps)."""
    ndim, reach = x.ndim - 2, kernels.shape[1] // 2
    sides = [0] * (2 * ndim)
    sides[2 * (ndim - 1 - axis)] = sides[2 * (ndim - 1 - axis) + 1] = reach
    shape = [1] * ndim
    shape[axis] = -1
    conv = F.conv2d if ndim == 2 else F.conv3d
    padded = F.pad(x, sides, mode="replicate")
    return conv(padded, kernels.reshape(len(kernels), 1, *shape)).tensor_split(
        len(kernels), 1
    )


def _kernels(sigma: float, like: torch.Tensor) -> torch.Tensor:
    """Gaussian and its first two derivatives on the scale of sigma, (3, taps)."""
    reach = _radius(sigma)
    x = torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma
    gauss = torch.exp(-(x**2) / 2)
    gauss = gauss / gauss.sum()
    second = (x**2 - 1) * gauss
    # What a flat image gives must be nothing, although the filter is cut off.
    second = second - second.sum() * gauss
    return torch.stack([gauss, x * gauss, second]).to(like)
