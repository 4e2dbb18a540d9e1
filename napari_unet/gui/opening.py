"""Images of a project that are opened from their files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ImageError, UNetError

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_unet.images.stack import ImageStack
    from napari_unet.projects.schema import Picture

_IN_MEMORY = 256 << 20


def is_file_of(path: Path, axes: str, shape: tuple[int, ...]) -> bool:
    """Whether a file, read with the axes of a layer, has the layer's pixels."""
    from napari_unet.images.readers import open_image

    try:
        with open_image(path, axes=axes) as stack:
            return stack.axes == axes and stack.shape == shape
    except UNetError:
        return False


def open_picture(viewer: ViewerModel, picture: Picture, path: Path) -> str:
    """Add the image of a project to a viewer, and return its name there.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Gets an image layer; up to 256 MB are read into memory, larger ones are lazy.
    picture : Picture
        What the image is.
    path : pathlib.Path
        Where it is.

    Raises
    ------
    ImageError
        If it cannot be read, or has another size.
    """
    from napari_unet.images.readers import open_image

    stack = open_image(path, axes=picture.axes, series=picture.series)
    if stack.shape != picture.shape:
        raise ImageError(
            f"{path.name} is not the image {picture.name}",
            found=str(stack.shape), expected=str(picture.shape),
        )  # fmt: skip
    axes = picture.axes[:-1] if picture.rgb else picture.axes
    layer = viewer.add_image(
        pixels_for(stack),
        name=picture.name,
        rgb=picture.rgb,
        scale=[picture.scale.get(axis, 1.0) for axis in axes],
        units=[picture.units.get(axis, "pixel") for axis in axes],
        axis_labels=list(axes.lower()),
    )
    return str(layer.name)


def pixels_for(stack: ImageStack) -> Any:
    """Give pixels to napari: up to 256 MB in memory, larger ones plane by plane.

    Parameters
    ----------
    stack : ImageStack
        Closed where its pixels are in memory; else the pixels need it.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        With the axes of the stack.
    """
    if math.prod(stack.shape) * stack.dtype.itemsize <= _IN_MEMORY:
        with stack:
            return stack.read({}, stack.axes)
    import dask.array

    chunks = tuple(1 if axis not in "YX" else -1 for axis in stack.axes)
    return dask.array.from_array(stack.array, chunks=chunks, asarray=True)
