"""Border weights: where two objects meet, a pixel counts more.

The map of Ronneberger et al., U-Net (MICCAI 2015), equation 2, without its class
balance, which the loss has of its own:

    w(x) = 1 + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

with d1 the distance to the nearest object (0 inside it) and d2 that to the second
nearest. Of objects painted in part only the paint is known, so distances are at least
the true ones and weights at most the true ones: no border is made up.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

W0, SIGMA = 10.0, 5.0  # of the paper
_REACH = int(3 * SIGMA)  # beyond, the weight is 1 within 1 in 100


def border_weights(labels: np.ndarray) -> np.ndarray:
    """Weigh the pixels between objects.

    Parameters
    ----------
    labels : numpy.ndarray
        Object ids of 2 or 3 spatial axes, any integer dtype; 0 is no object.

    Returns
    -------
    numpy.ndarray
        float32 of the same shape, from 1 to 1 + w0.
    """
    far = np.float32(np.inf)
    nearest, second = np.full((2, *labels.shape), far, np.float32)
    values, index = np.unique(labels, return_inverse=True)
    compact = index.reshape(labels.shape).astype(np.int32) + int(values[0] != 0)
    for number, box in enumerate(ndimage.find_objects(compact), start=1):
        if box is None:
            continue
        around = tuple(slice(max(s.start - _REACH, 0), s.stop + _REACH) for s in box)
        distance = ndimage.distance_transform_edt(compact[around] != number)
        distance = distance.astype(np.float32)
        farther = np.maximum(nearest[around], distance)
        np.minimum(second[around], farther, out=second[around])
        np.minimum(nearest[around], distance, out=nearest[around])
    weights: np.ndarray = 1 + W0 * np.exp(-((nearest + second) ** 2) / (2 * SIGMA**2))
    return weights.astype(np.float32)
