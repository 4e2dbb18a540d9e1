"""From stroke ids to what a pixel may be: one small number a pixel.

Target 0 is unknown and costs nothing. Instance networks learn background, interior and
boundary; where a stroke does not say which of the two last a pixel is, the target is
`OBJECT` and the loss takes their sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_unet.errors import StrokesError

UNKNOWN, BACKGROUND, INTERIOR, BOUNDARY, OBJECT = range(5)

_RIM = 2  # width of the boundary in pixels, as far as a stroke tells it
_REACH = (3, 24)  # how far from a stroke background is looked for, in pixels
_MOST_STEPS = 32  # strokes that far background is compared with
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


def boxed_target(ids: np.ndarray) -> np.ndarray:
    """Target of objects in images where some background is known.

    Parameters
    ----------
    ids : numpy.ndarray
        Spatial axes; 0 is unknown, 1 background, 2 the first object.

    Returns
    -------
    numpy.ndarray
        uint8 as from `instance_target`: that of complete labels where all pixels within
        2 are known, and that of incomplete ones elsewhere.
    """
    target = _dense(np.maximum(ids - 1, 0))
    unsure = ndimage.binary_dilation(ids == 0, _square(ids.ndim), _RIM)
    target = np.where(unsure, _partial(ids), target)
    target[ids == 1] = BACKGROUND
    return target


def background_near(strokes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Unpainted pixels that are certainly no object like the painted ones.

    Around each stroke, out to its own radius, the pixels are projected on the direction
    in channel space that parts the stroke from its surroundings. Those on the far third
    towards the surroundings are background. A stroke that lies within a larger object
    has surroundings like itself and names none; a dark and a bright background are
    both found; a neighbouring object looks like the stroke and stays unknown. Farther
    away, pixels are background where nothing near them varies by an eighth of the step
    between any stroke and its background.

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
    steps = []
    compact, boxes = _compact(strokes)
    for number, box in enumerate(boxes, start=1):
        if box is None:
            continue
        around = _around(box, strokes.shape)
        inside = compact[around] == number
        distance = ndimage.distance_transform_edt(~inside)
        ring = (strokes[around] == 0) & (distance <= _reach(inside))
        near = smooth[(slice(None), *around)]
        if (step := _step(near, inside, ring)) is not None:
            found[around] |= ring & (step.level(near) < step.limit)
            steps.append(step)
    found |= _flat(smooth, steps[:_MOST_STEPS]) & (strokes == 0)
    return found


@dataclass(frozen=True)
class _Step:
    """The step in value between a stroke and its background."""

    direction: np.ndarray
    near: float
    far: float

    def level(self, image: np.ndarray) -> np.ndarray:
        """Project (C, *spatial) on the direction from background to stroke."""
        level: np.ndarray = np.tensordot(self.direction, image, axes=1)
        return level

    @property
    def limit(self) -> float:
        """Level below which a pixel is background."""
        return self.far + (self.near - self.far) / 3


def _step(image: np.ndarray, inside: np.ndarray, ring: np.ndarray) -> _Step | None:
    """Find the step around one stroke, None where there is no clear one."""
    if not ring.any():
        return None
    stroke, other = image[:, inside], image[:, ring]
    spread = stroke.std(axis=1) + other.std(axis=1) + 1e-6
    direction = (stroke.mean(axis=1) - other.mean(axis=1)) / spread**2
    within, beside = direction @ stroke, direction @ other
    near, far = float(np.median(within)), float(np.quantile(beside, 0.1))
    # Noise alone puts the quantile at 1.3 deviations, two kinds of pixels at 2 or so.
    if near - far < _CONTRAST * max(within.std(), beside.std()):
        return None
    return _Step(direction, near, far)


def _flat(image: np.ndarray, steps: list[_Step]) -> np.ndarray:
    """Pixels on the side of the background with nothing but noise around them."""
    smooth = np.stack([ndimage.gaussian_filter(c, 2.0) for c in image])
    flat = np.full(image.shape[1:], bool(steps))
    for step in steps:
        level = step.level(smooth)
        size = 2 * _REACH[0] + 7
        high = ndimage.maximum_filter(level, size, mode="nearest")
        varies = high - ndimage.minimum_filter(level, size, mode="nearest")
        flat &= (level < step.limit) & (varies < (step.near - step.far) / 8)
    return flat


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
    # Filters compute in float64, which does not hold the largest ids.
    labels, _ = _compact(labels)
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
