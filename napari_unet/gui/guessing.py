"""Whether painted ids look like classes or objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.images.stack import ImageStack

if TYPE_CHECKING:
    from napari_unet.projects.schema import Kind

_AXES = "ABDEFGHIJKLMN"


def guess(strokes: np.ndarray) -> tuple[Kind, str]:
    """Look at all strokes as training does.

    Parameters
    ----------
    strokes : numpy.ndarray, shape (..., Y, X)
        Painted ids.

    Returns
    -------
    kind : {"classes", "instances"}
    reason : str
        In a few words.

    Raises
    ------
    StrokesError
        If nothing is painted.
    """
    from napari_unet.training.annotations import AnnotationSet, Example

    axes = f"{_AXES[: strokes.ndim - 2]}YX"
    image = ImageStack(np.broadcast_to(np.uint8(0), strokes.shape), axes)
    painted = ImageStack(strokes, axes, name="strokes")
    found = AnnotationSet.gather([Example(image, painted)])
    found.require_paint()
    return found.guess_kind()
