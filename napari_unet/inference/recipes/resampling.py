"""Resampling between pixel sizes as nnU-Net does it (nnunetv2 2.8.1, Apache-2.0).

A volume whose slices are over three times as far apart as its pixels is resampled
within the slices, and between them by the nearest slice; others in all axes at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import map_coordinates
from skimage.transform import resize

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANISOTROPIC = 3.0
_BORDER = 24
"""Pixels that scipy adds along an axis before it fits splines."""


def separate_axis(
    old: Sequence[float], new: Sequence[float], wish: bool | None
) -> int | None:
    """Return the axis that is resampled apart, None if there is none.

    Parameters
    ----------
    old, new : sequence of float
        Pixel sizes before and after.
    wish : bool, optional
        Whether one axis is; by the anisotropy when None.
    """
    for spacing in (old, new):
        if wish or (wish is None and max(spacing) / min(spacing) > _ANISOTROPIC):
            (widest,) = np.nonzero(np.asarray(spacing) == max(spacing))
            return int(widest[0]) if len(widest) == 1 else None
    return None


def resample(
    volume: np.ndarray,
    shape: Sequence[int],
    *,
    order: int,
    axis: int | None = None,
    order_z: int = 0,
) -> np.ndarray:
    """Resample each channel to a shape.

    Parameters
    ----------
    volume : numpy.ndarray, shape (C, *spatial)
        Float pixels.
    shape : sequence of int
        Wanted spatial shape.
    order : int
        Of the splines.
    axis : int, optional
        Spatial axis that is resampled apart, with splines of `order_z`.

    Returns
    -------
    numpy.ndarray of float32, shape (C, *shape)
    """
    if tuple(volume.shape[1:]) == tuple(shape):
        return volume.astype(np.float32, copy=False)
    out = np.empty((len(volume), *shape), np.float32)
    for channel, pixels in enumerate(volume):
        wide = pixels.astype(np.float64)
        out[channel] = (
            _resized(wide, shape, order)
            if axis is None
            else _by_slices(wide, shape, order, axis, order_z)
        )
    return out


def working_bytes(old: Sequence[int], new: Sequence[int], order: int) -> int:
    """Estimate the memory of `resample` besides its input and its answer.

    Parameters
    ----------
    old, new : sequence of int
        Spatial shapes before and after; one channel after another is resampled.
    order : int
        Of the splines.
    """
    if tuple(old) == tuple(new):
        return 0
    fitted = math.prod(n + _BORDER for n in old) if order > 1 else 0
    return 16 * (math.prod(old) + math.prod(new) + fitted)


def _resized(pixels: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    resized: np.ndarray = resize(
        pixels, shape, order, mode="edge", anti_aliasing=False, clip=True
    )
    return resized


def _by_slices(
    pixels: np.ndarray, shape: Sequence[int], order: int, axis: int, order_z: int
) -> np.ndarray:
    """Resample within the slices, then between them."""
    within = [n for i, n in enumerate(shape) if i != axis]
    slices = [_resized(p, within, order) for p in np.moveaxis(pixels, axis, 0)]
    stack = np.stack(slices, axis)
    if stack.shape[axis] == shape[axis]:
        return stack
    factor = stack.shape[axis] / shape[axis]
    at = (np.arange(shape[axis]) + 0.5) * factor - 0.5
    if order_z == 0:
        nearest = np.floor(at + 0.5).astype(int)  # halves go up, as in scipy
        chosen: np.ndarray = stack.take(nearest.clip(0, stack.shape[axis] - 1), axis)
        return chosen
    ranges = [np.arange(n, dtype=float) for n in shape]
    ranges[axis] = at
    grid = np.meshgrid(*ranges, indexing="ij")
    return np.asarray(map_coordinates(stack, grid, order=order_z, mode="nearest"))
