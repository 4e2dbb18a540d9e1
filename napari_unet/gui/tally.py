"""Number of objects and share of foreground of what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer

LARGEST = 16 << 20
"""Pixels that are counted; of larger results the plane in view is."""


def region(viewer: ViewerModel, layer: Layer, size: int) -> tuple[Any, ...] | None:
    """Choose what of a layer's pixels is counted.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Showing the layer.
    layer : napari.layers.Layer
        The result.
    size : int
        Pixels of the result.

    Returns
    -------
    tuple of slice or None
        The plane in view, with all axes; None for everything.
    """
    if size <= LARGEST:
        return None
    point = layer.world_to_data(viewer.dims.point)
    seen = viewer.dims.displayed[-2:]
    return tuple(
        slice(None) if axis in seen else slice(n, n + 1)
        for axis, n in enumerate(round(float(p)) for p in point)
    )


def sentence(
    labels: Any, where: tuple[Any, ...] | None, spatial: Sequence[int], *, ids: bool
) -> str:
    """Count, and say it; for another thread.

    Parameters
    ----------
    labels : array-like
        Classes, or ids of objects.
    where : tuple of slice or None
        See `region`.
    spatial : sequence of int
        Axes along which parts of an object hang together.
    ids : bool
        Whether the numbers are ids of objects, and not classes.

    Returns
    -------
    str
        Such as ``"214 objects · 31 % foreground"``.
    """
    pixels = np.asarray(labels[... if where is None else where])
    count = _ids(pixels) if ids else _components(pixels, spatial)
    share = float((pixels > 0).mean()) if pixels.size else 0.0
    shown = f"{100 * share:.0f}" if share >= 0.01 or not share else f"{100 * share:.1g}"
    there = "" if where is None else " in this plane"
    return f"{words.count(count, 'object')} · {shown} % foreground{there}"


def _ids(pixels: np.ndarray) -> int:
    """Count the ids."""
    found = np.unique(pixels)
    return int((found > 0).sum())


def _components(pixels: np.ndarray, spatial: Sequence[int]) -> int:
    """Count the connected parts of each class; corners connect, frames do not."""
    from scipy import ndimage

    last = range(-len(spatial), 0)
    frames = np.moveaxis(pixels, list(spatial), list(last))
    frames = frames.reshape(-1, *frames.shape[frames.ndim - len(spatial) :])
    eight = np.ones((3,) * len(spatial))
    return sum(
        ndimage.label(frame == number, eight)[1]
        for frame in frames
        for number in np.unique(frame)
        if number > 0
    )
