"""Where things lie: the visible part of a layer, and layers made from a part of it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer


def visible_region(viewer: ViewerModel, layer: Layer, axes: str) -> dict[str, slice]:
    """Find the part of a layer that the canvas shows.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Showing planes.
    layer : napari.layers.Layer
        The image.
    axes : str
        Axes of the layer; channels are never cut and colours (C last) not counted.

    Returns
    -------
    dict of str to slice
        In voxels, one slice an axis, without C.

    Raises
    ------
    ImageError
        If nothing of the layer is in view.
    """
    corners = np.array([layer.world_to_data(w) for w in _corners(viewer)])
    low = np.floor(corners.min(axis=0) + 0.5).astype(int)
    high = np.floor(corners.max(axis=0) + 0.5).astype(int) + 1
    shape = _shape(layer)
    start, stop = np.clip(low, 0, shape), np.clip(high, 0, shape)
    region = {
        axis: slice(int(a), int(b))
        for axis, a, b in zip(axes, start, stop, strict=False)
        if axis != "C"
    }
    if any(part.start >= part.stop for part in region.values()):
        raise ImageError(
            f"Nothing of {layer.name} is in view", hint="Move the image into the view."
        )
    return region


def looked_at(viewer: ViewerModel, layer: Layer, axes: str) -> dict[str, slice]:
    """Find what a person looks at: in 3D the whole volume that the sliders choose.

    Parameters, result and errors are those of `visible_region`, but for axes that are
    seen whole, which are not named.
    """
    dims = viewer.dims
    if dims.ndisplay == 2:
        return visible_region(viewer, layer, axes)
    first = dims.ndim - layer.ndim
    here = np.floor(np.asarray(layer.world_to_data(dims.point)) + 0.5).astype(int)
    return {
        axis: slice(int(n), int(n) + 1)
        for number, (axis, n) in enumerate(zip(axes, here, strict=False), first)
        if number not in dims.displayed and axis != "C"
    }


def _corners(viewer: ViewerModel) -> list[list[float]]:
    """List the corners of the canvas in world coordinates."""
    camera = viewer.scene.camera
    half = np.array(viewer.canvas.size) / 2 / camera.zoom
    center = np.array(camera.center[-2:])
    corners = []
    for signs in itertools.product((-1, 1), repeat=2):
        world = list(viewer.dims.point)
        for axis, value in zip(
            viewer.dims.displayed, center + half * signs, strict=True
        ):
            world[axis] = float(value)
        corners.append(world)
    return corners


def _shape(layer: Layer) -> tuple[int, ...]:
    """Shape of a layer's data at full resolution, without colours."""
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return tuple(data.shape[: layer.ndim])


def placement(
    layer: Layer, axes: str, start: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Place a result on the image it was made from.

    The result has the axes of the layer; along C it has one entry, stretched over all
    channels so that it is seen whichever channel is shown.

    Parameters
    ----------
    layer : napari.layers.Layer
        The image.
    axes : str
        Its axes.
    start : mapping of str to int, optional
        First voxel of the result along each axis.

    Returns
    -------
    dict
        Arguments for a new layer: scale, translate, rotate, shear, affine, units and
        axis_labels.
    """
    from napari.utils.transforms import Affine

    origin = np.array([(start or {}).get(a, 0) for a in axes[: layer.ndim]], float)
    scale = np.array(layer.scale, float)
    if "C" in axes[: layer.ndim]:
        c = axes.index("C")
        channels = _shape(layer)[c]
        origin[c] = (channels - 1) / 2
        scale[c] *= max(channels, 1)
    shared = {"rotate": layer.rotate, "shear": layer.shear}
    move = Affine(scale=layer.scale, translate=layer.translate, **shared)
    return {
        "scale": scale,
        "translate": move(origin),
        **shared,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def fit(result: np.ndarray, axes: str, layer_axes: str, ndim: int) -> np.ndarray:
    """Put a result in the order of its image's axes, C (if any) as one entry.

    Parameters
    ----------
    result : numpy.ndarray
        Without channels.
    axes : str
        Axes of the result.
    layer_axes : str
        Axes of the image.
    ndim : int
        Number of dimensions of the image layer, which does not count colours.

    Returns
    -------
    numpy.ndarray
        A view with `ndim` dimensions.
    """
    order = [a for a in layer_axes[:ndim] if a != "C"]
    moved = result.transpose([axes.index(a) for a in order])
    if "C" in layer_axes[:ndim]:
        moved = np.expand_dims(moved, layer_axes.index("C"))
    return moved


def fit_region(region: tuple[slice, ...], axes: str, ndim: int) -> tuple[slice, ...]:
    """Put a region of a result in the order of its image's axes, as `fit` does.

    Parameters
    ----------
    region : tuple of slice
        On the axes of the result.
    axes : str
        Axes of the image.
    ndim : int
        Number of dimensions of the image layer.
    """
    ours = result_axes(axes, region)
    whole = slice(0, 1)
    return tuple(
        whole if axis == "C" else region[ours.index(axis)] for axis in axes[:ndim]
    )


def result_axes(axes: str, shape: Sequence[object]) -> str:
    """Axes of what the core returns: frames in their order, Z, C if there, Y, X.

    Parameters
    ----------
    axes : str
        Axes of the image.
    shape : sequence
        Shape of the result, or anything with an entry for each axis.

    Returns
    -------
    str
        One letter for each entry of `shape`.
    """
    frames = "".join(a for a in axes if a not in "ZCYX")
    depth = "Z" if "Z" in axes else ""
    without = f"{frames}{depth}YX"
    if len(shape) == len(without):
        return without
    return f"{frames}{depth}CYX"
