"""Overlapping patches along one axis, and windows that sum to 1.

Everything is per axis. Windows are divided by their sum along the axis, so their
products over several axes sum to 1 too, and no map counts what covers a pixel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.config import Window
    from napari_unet.inference.tiling import Grid, Range, Span


def bell(kind: Window, length: int) -> np.ndarray:
    """Weights along a patch before they are normalised: large inside, never 0.

    Parameters
    ----------
    kind : {"gaussian", "hann", "linear"}
        A Gaussian with a standard deviation of 1/8 patch, as in nnU-Net 2
        (`compute_gaussian`); one period of a raised cosine; or a triangle.
    length : int
        Pixels of the patch.

    Returns
    -------
    numpy.ndarray
        float64, symmetric.
    """
    middle = np.arange(length) + 0.5
    weights: np.ndarray = np.minimum(middle, length - middle)
    if kind == "gaussian":
        weights = np.exp(-0.5 * ((middle - length / 2) / (length / 8)) ** 2)
    if kind == "hann":
        weights = np.sin(np.pi * middle / length) ** 2
    return weights


def patch_length(grid: Grid, size: int, tile: int) -> int:
    """Length a patch of about `tile` gets: allowed, at least a stride, or all."""
    return min(grid.fit(max(tile, grid.stride)), grid.fit(size))


def patch_origins(grid: Grid, size: int, tile: int, overlap: float) -> list[int]:
    """Evenly spread patch origins on the stride's grid, from 0 to the padded end."""
    free = grid.fit(size) - tile
    step = max(grid.stride, int(tile * (1 - overlap)) // grid.stride * grid.stride)
    gaps = math.ceil(free / step)
    strides = free // grid.stride
    return [round(n * strides / max(gaps, 1)) * grid.stride for n in range(gaps + 1)]


def other_origins(grid: Grid, size: int, tile: int, overlap: float) -> list[int]:
    """Patch origins as far as can be from those of `patch_origins`: half a step on."""
    origins = patch_origins(grid, size, tile, overlap)
    if len(origins) == 1:
        return origins
    half = grid.down((origins[1] - origins[0]) // 2)
    return [origins[0], *(o + half for o in origins[:-1]), origins[-1]]


def patch_spans(
    grid: Grid,
    size: int,
    tile: int,
    overlap: float,
    target: Range | None = None,
    window: Window = "gaussian",
    place: Callable[[Grid, int, int, float], list[int]] = patch_origins,
) -> tuple[tuple[Span, ...], tuple[np.ndarray, ...]]:
    """Overlapping patches and their windows, which sum to 1 at every position.

    Parameters
    ----------
    grid, size, tile, target
        As in `napari_unet.inference.tiling.exact_spans`.
    overlap : float
        Share of a patch that overlaps the next one, 0 to 0.9.
    window : {"gaussian", "hann", "linear"}
        See `bell`.
    place : callable
        Gives the origins of all patches of the axis.

    Returns
    -------
    spans : tuple of Span
        The patches of the whole axis that touch `target`.
    windows : tuple of numpy.ndarray
        float32 weights of what each patch writes.
    """
    begin, stop = target or (0, size)
    tile = patch_length(grid, size, tile)
    origins = place(grid, size, tile, overlap)
    weights = bell(window, tile)
    total = np.zeros(grid.fit(size))
    for origin in origins:
        total[origin : origin + tile] += weights
    spans = [
        grid.span(o, tile, (max(o, begin), min(o + tile, stop)))
        for o in origins
        if o < stop and o + tile > begin
    ]
    windows = [weights[s.crop] / total[slice(*s.write)] for s in spans]
    return tuple(spans), tuple(w.astype(np.float32) for w in windows)
