"""Overlapping patches of a volume, and their weights, as nnU-Net has them."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter


def patch_starts(length: int, patch: int, overlap: float) -> list[int]:
    """Return the first pixel of each patch along an axis, evenly spread.

    As nnU-Net's `compute_steps_for_sliding_window`.
    """
    steps = math.ceil((length - patch) / (patch * (1 - overlap))) + 1
    if steps == 1:
        return [0]
    return [round((length - patch) / (steps - 1) * n) for n in range(steps)]


def window(patch: tuple[int, ...], *, rounded: bool = True) -> np.ndarray:
    """Gaussian weights of a patch, float32, 10 in the middle and never 0.

    As nnU-Net's `compute_gaussian`: a blurred point whose standard deviation is 1/8 of
    the patch.

    Parameters
    ----------
    patch : tuple of int
        Its shape.
    rounded : bool
        To the steps of half precision, as nnU-Net v2 has it and v1 has not.
    """
    point = np.zeros(patch)
    point[tuple(n // 2 for n in patch)] = 1
    blurred = gaussian_filter(point, [n / 8 for n in patch], mode="constant")
    kind = np.float16 if rounded else np.float32
    weights: np.ndarray = (blurred / (blurred.max() / 10)).astype(kind)
    weights[weights == 0] = weights[weights != 0].min()
    return weights.astype(np.float32)


def in_3d(patch: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a patch of a volume; one slice for a 2D network."""
    return (1,) * (3 - len(patch)) + patch


def sides(patch: int, length: int) -> tuple[int, int]:
    """Return how much is added before and after to fill a patch."""
    lack = max(patch - length, 0)
    return lack // 2, lack - lack // 2
