"""From stroke ids to what a pixel may be: one small number a pixel.

Target 0 is unknown and costs nothing. Instance networks learn background, interior and
boundary; where a stroke does not say which of the two last a pixel is, the target is
`OBJECT` and the loss takes their sum.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_unet.errors import StrokesError

UNKNOWN, BACKGROUND, INTERIOR, BOUNDARY, OBJECT = range(5)

_RIM = 2  # width of the boundary in pixels, as far as a stroke tells it
_REACH = (3, 24)  # how far from a stroke background is looked for, in pixels
_CONTRAST = 1.8  # least step between stroke and background, in deviations


def instance_target(labels: np.ndarray, complete: bool) -> np.ndarray:
    """Tell background, interior and boundary of numbered objects apart.

    Parameters
    ----------
    labels : numpy.ndarray
        Object ids of 2 or 3 spatial axes, any integer dtype; 0 is no object.
    complete : bool
        Whether every object is labelled in full, so that 0 is background. Otherwise 0
        is unknown and objects may be painted in part: a pixel is interior where all
        pixels within 2 of it have its id, boundary where another id is within 2, and
        `OBJECT` (either) elsewhere.

    Returns
    -------
    numpy.ndarray
        uint8 of the same shape: 0 unknown, 1 background, 2 interior, 3 boundary (object
        pixels within 2 of background or another object) and 4 interior or boundary,
        which only occurs in incomplete labels. An object too thin for both keeps its
        innermost pixels as interior.

    Raises
    ------
    StrokesError
        If `labels` are no integers.
    """
    if labels.dtype.kind not in "iu":
        raise StrokesError("Labels are whole numbers", found=str(labels.dtype))
    return _dense(labels) if complete else _partial(labels)


def stroke_target(strokes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Target of painted objects where nobody painted background.

    Only what is certain is used. Painted pixels are object. Background is looked for
    around each stroke, where the image differs clearly from what was painted, see
    `background_near`; painted pixels beside it are boundary. All else is unknown.

    Parameters
    ----------
    strokes : numpy.ndarray
        Object ids, spatial axes; 0 is not painted.
    image : numpy.ndarray
        float32, (C, *spatial), normalised.

    Returns
    -------
    numpy.ndarray
        uint8 as from `instance_target`.
    """
    target = instance_target(strokes, complete=False)
    background = background_near(strokes, image)
    target[background] = BACKGROUND
    beside = ndimage.binary_dilation(background, _square(strokes.ndim), _RIM)
    target[beside & (target == OBJECT)] = BOUNDARY
    return target


def background_near(strokes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Unpainted pixels near a stroke that are certainly none of its object.

    Around each stroke, out to its own radius, the pixels are projected on the direction
    in channel space that parts the stroke from its surroundings. Those on the far third
    towards the surroundings are background. A stroke that lies within a larger object
    has surroundings like itself and names none; a dark and a bright background are
    both found; a neighbouring object looks like the stroke and stays unknown.

    Parameters
    ----------
    strokes : numpy.ndarray
        Object ids, spatial axes.
    image : numpy.ndarray
        float32, (C, *spatial), normalised.

    Returns
    -------
    numpy.ndarray
        bool, shape of `strokes`.
    """
    smooth = np.stack([ndimage.gaussian_filter(c, 1.0) for c in image])
    found = np.zeros(strokes.shape, bool)
    compact, boxes = _compact(strokes)
    for number, box in enumerate(boxes, start=1):
        if box is not None:
            around = _around(box, strokes.shape)
            inside = compact[around] == number
            empty = strokes[around] == 0
            found[around] |= _contrasting(smooth[(slice(None), *around)], inside, empty)
    return found


def _compact(strokes: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, ...] | None]]:
    """Ids renumbered from 1 without holes, and the box of each."""
    values, index = np.unique(strokes, return_inverse=True)
    compact = index.reshape(strokes.shape).astype(np.int32) + int(values[0] != 0)
    return compact, ndimage.find_objects(compact)


def _around(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Widen a box by the farthest reach, within the image."""
    wide = _REACH[1]
    return tuple(
        slice(max(s.start - wide, 0), min(s.stop + wide, n))
        for s, n in zip(box, shape, strict=True)
    )


def _contrasting(
    image: np.ndarray, inside: np.ndarray, empty: np.ndarray
) -> np.ndarray:
    """Pixels around one stroke that look like its surroundings and not like it."""
    distance = ndimage.distance_transform_edt(~inside)
    ring = empty & (distance <= _reach(inside))
    stroke = image[:, inside]
    if not ring.any():
        return np.zeros_like(empty)
    spread = stroke.std(axis=1) + image[:, ring].std(axis=1) + 1e-6
    direction = (stroke.mean(axis=1) - image[:, ring].mean(axis=1)) / spread
    level = np.tensordot(direction / spread, image, axes=1)
    near, far = np.median(level[inside]), np.quantile(level[ring], 0.1)
    # Noise alone puts the quantile at 1.3 deviations, two kinds of pixels at 2 or so.
    if near - far < _CONTRAST * max(level[inside].std(), level[ring].std()):
        return np.zeros_like(ring)
    found: np.ndarray = ring & (level < far + (near - far) / 3)
    return found


def _reach(inside: np.ndarray) -> float:
    """Radius of the disc or ball as large as the stroke, within limits."""
    area = np.count_nonzero(inside)
    radius = (area / 3.14) ** 0.5 if inside.ndim == 2 else (area / 4.19) ** (1 / 3)
    return float(min(max(radius, _REACH[0]), _REACH[1]))


def _dense(labels: np.ndarray) -> np.ndarray:
    """Targets of complete labels: two layers are peeled off every object."""
    square = _square(labels.ndim)
    target = np.where(labels > 0, INTERIOR, BACKGROUND).astype(np.uint8)
    outer = _differs(labels, 1) & (labels > 0)
    second = ndimage.binary_dilation(outer, square) & (labels > 0) & ~outer
    for layer in (outer, second):
        deeper = np.unique(labels[(target == INTERIOR) & ~layer])
        target[layer & np.isin(labels, deeper)] = BOUNDARY
    return target


def _partial(labels: np.ndarray) -> np.ndarray:
    """Targets of objects painted whole or in part, where 0 is unknown."""
    painted = labels > 0
    size = 2 * _RIM + 1
    high = ndimage.maximum_filter(labels, size, mode="nearest")
    filled = np.where(painted, labels, np.iinfo(labels.dtype).max)
    low = ndimage.minimum_filter(filled, size, mode="nearest")
    target = np.where(painted, OBJECT, UNKNOWN).astype(np.uint8)
    target[painted & (high != low)] = BOUNDARY
    target[painted & ~_differs(labels, _RIM)] = INTERIOR
    return target


def _differs(labels: np.ndarray, reach: int) -> np.ndarray:
    """Where another value lies within `reach` pixels along every axis."""
    size = 2 * reach + 1
    high = ndimage.maximum_filter(labels, size, mode="nearest")
    low = ndimage.minimum_filter(labels, size, mode="nearest")
    differs: np.ndarray = high != low
    return differs


def _square(ndim: int) -> np.ndarray:
    return np.ones((3,) * ndim, bool)
