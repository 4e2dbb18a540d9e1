"""Label images: where one names no axes, it has those of the image it belongs to."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_unet.errors import ImageError, UsageError
from napari_unet.images.readers import open_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from napari_unet.images.source import ImageSource
    from napari_unet.images.stack import ImageStack

    Labels = str | Path | np.ndarray | ImageStack | ImageSource


@contextmanager
def opened_pair(
    first: Labels, second: Labels
) -> Iterator[tuple[ImageStack, ImageStack]]:
    """Open two label images, and close those that did not come open.

    Parameters
    ----------
    first, second : path-like, numpy.ndarray, ImageStack or ImageSource
        Where a file names no axes it has those of the other.

    Yields
    ------
    tuple of ImageStack

    Raises
    ------
    ImageError
        If one cannot be read.
    """
    with (
        opened_labels(first, _axes_of(second)) as one,
        opened_labels(second, one.axes) as other,
    ):
        yield one, other


@contextmanager
def opened_labels(image: Labels, axes: str) -> Iterator[ImageStack]:
    """Open a label image, and close it unless it came open.

    Parameters
    ----------
    image : path-like, numpy.ndarray, ImageStack or ImageSource
        The labels.
    axes : str
        Taken where the image names none.

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    try:
        stack = open_image(image)
    except ImageError as error:
        try:
            stack = open_image(image, axes=axes)
        except UsageError:
            raise error from None
    try:
        yield stack
    finally:
        if stack is not image:
            stack.close()


def _axes_of(image: Labels) -> str:
    """Axes that a file names, empty where it names none."""
    try:
        stack = open_image(image)
    except ImageError:
        return ""
    try:
        return stack.axes
    finally:
        if stack is not image:
            stack.close()
