"""What a click or a point becomes: pixels for the strokes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

REACH = 512
"""Pixels around a click in which the rest of an object is looked for."""


def object_at(plane: Any, at: Sequence[int]) -> tuple[np.ndarray, int]:
    """Find the connected pixels of equal value around one.

    Parameters
    ----------
    plane : array-like, shape (Y, X)
        A prediction; only what lies within `REACH` of `at` is read.
    at : (int, int)
        The pixel.

    Returns
    -------
    pixels : numpy.ndarray, shape (n, 2)
        Their rows and columns, connected by edges or corners.
    value : int
        What is predicted there.
    """
    from scipy import ndimage

    window = [
        slice(max(0, c - REACH), min(n, c + REACH + 1))
        for c, n in zip(at, plane.shape, strict=True)
    ]
    near = np.asarray(plane[tuple(window)])
    corner = [part.start for part in window]
    place = tuple(c - first for c, first in zip(at, corner, strict=True))
    value = near[place]
    pieces, _ = ndimage.label(near == value, np.ones((3, 3)))
    return np.argwhere(pieces == pieces[place]) + corner, int(value)


def disc(centre: Sequence[float], radius: float) -> np.ndarray:
    """List the pixels of a disc, the middle one at least.

    Parameters
    ----------
    centre : (float, float)
        Row and column.
    radius : float
        In pixels.

    Returns
    -------
    numpy.ndarray, shape (n, 2)
    """
    middle = np.round(centre).astype(int)
    reach = int(np.ceil(radius))
    side = 2 * reach + 1
    grid = np.argwhere(np.ones((side, side), bool)) - reach
    pixels = grid + middle
    inside = ((pixels - np.asarray(centre)) ** 2).sum(1) <= radius**2
    inside |= (grid == 0).all(1)
    return np.asarray(pixels[inside])
