"""Features of single pixels: intensity, edge and texture at four scales."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIGMAS = (1.0, 2.0, 4.0, 8.0)  # standard deviations of the filters, in pixels
_THIRD = 2 * np.pi / 3


def features_of(image: np.ndarray) -> np.ndarray:
    """Intensity, edge and texture of every pixel at four scales.

    These are Gaussian, Sobel magnitude and eigenvalues of the Hessian, largest first,
    as in scikit-image's `multiscale_basic_features`, whose values they have; that one
    takes about five times as long in volumes. Scales are counted in pixels along every
    axis.

    Parameters
    ----------
    image : numpy.ndarray
        float32, (C, *spatial).

    Returns
    -------
    numpy.ndarray
        float32, (*spatial, features), by scale and channel: 4 each in planes, 5 in
        volumes.
    """
    wide = [(0, 0), *((0, n == 1) for n in image.shape[1:])]  # slopes need two pixels
    padded = np.pad(image, wide, mode="edge")
    inner = tuple(map(slice, image.shape[1:]))
    each = 1 + image.ndim
    kinds = list(itertools.product(_SIGMAS, padded))
    found = np.empty((*image.shape[1:], each * len(kinds)), np.float32)

    def fill(n: int) -> None:
        for k, feature in enumerate(_at_scale(*kinds[n])):
            found[..., each * n + k] = feature[inner]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(fill, range(len(kinds))))
    return found


def _at_scale(sigma: float, channel: np.ndarray) -> list[np.ndarray]:
    """Features of one channel (*spatial) at one scale."""
    from skimage import filters

    smooth = filters.gaussian(channel, sigma=sigma, preserve_range=True)
    slopes = np.gradient(smooth)
    axes = itertools.combinations_with_replacement(range(channel.ndim), 2)
    hessian = [np.gradient(slopes[i], axis=j) for i, j in axes]
    return [smooth, filters.sobel(smooth), *eigenvalues(hessian)]


def eigenvalues(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Eigenvalues of many symmetric matrices of 2 or 3 rows, largest first.

    Parameters
    ----------
    parts : sequence of numpy.ndarray
        Entries of the upper triangle, row by row: 3 or 6 arrays of one shape.

    References
    ----------
    Smith, "Eigenvalues of a symmetric 3 x 3 matrix", Communications of the ACM 4, 1961.
    """
    if len(parts) == 3:
        a, b, d = parts
        middle, apart = (a + d) / 2, np.hypot(b, (a - d) / 2)
        return [middle + apart, middle - apart]
    a, b, c, d, e, f = parts
    middle = (a + d + f) / 3
    a, d, f = a - middle, d - middle, f - middle
    size = np.sqrt((a * a + d * d + f * f + 2 * (b * b + c * c + e * e)) / 6)
    determinant = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = determinant / (2 * size**3)
    turn = np.arccos(np.clip(np.nan_to_num(turn), -1, 1)) / 3
    first, last = 2 * size * np.cos(turn), 2 * size * np.cos(turn + _THIRD)
    return [middle + first, middle - first - last, middle + last]
