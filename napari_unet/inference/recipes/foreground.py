"""Crop a volume to what is not zero, and scale its channels there.

As nnU-Net v2 does (nnunetv2 2.8.1, crop_to_nonzero and default_normalization_schemes),
and v1 (nnunet 1.7.1, ImageCropper and GenericPreprocessor).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_fill_holes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.images.intensity import Normalization

_LEAST = 1e-8
"""Smallest divisor."""


def crop(
    pixels: np.ndarray, *, to_nonzero: bool
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Find the box of what is not zero in any channel.

    Parameters
    ----------
    pixels : numpy.ndarray, shape (C, Z, Y, X)
        Before any scaling.
    to_nonzero : bool
        False for the box of the whole volume.

    Returns
    -------
    box : tuple of slice
        One per spatial axis; the whole volume where all of it is zero.
    mask : numpy.ndarray of bool
        What is not zero inside the box, holes filled.
    """
    mask = (pixels != 0).any(0)
    filled: np.ndarray = binary_fill_holes(mask)
    whole = (slice(None),) * filled.ndim
    if not to_nonzero or not filled.any():
        return whole, filled
    box = tuple(_extent(filled, axis) for axis in range(filled.ndim))
    return box, filled[box]


def normalise(
    pixels: np.ndarray, norms: Sequence[Normalization], mask: np.ndarray
) -> None:
    """Scale a volume in place, with its own statistics.

    Parameters
    ----------
    pixels : numpy.ndarray of float32, shape (C, Z, Y, X)
        Cropped.
    norms : sequence of Normalization
        One for all channels, or one for each.
    mask : numpy.ndarray of bool, shape (Z, Y, X)
        Where masked statistics are taken.
    """
    rules = list(norms) * (len(pixels) if len(norms) == 1 else 1)
    for channel, rule in zip(pixels, rules, strict=True):
        _scale(channel, rule, mask)


def _extent(mask: np.ndarray, axis: int) -> slice:
    """From the first to the last True along an axis."""
    others = tuple(a for a in range(mask.ndim) if a != axis)
    places = np.flatnonzero(mask.any(others))
    return slice(int(places[0]), int(places[-1]) + 1)


def _scale(channel: np.ndarray, rule: Normalization, mask: np.ndarray) -> None:
    """Scale one channel in place."""
    if rule.kind == "ct":
        mean, std = _of_ct(channel, rule)
        channel.clip(rule.clip_low, rule.clip_high, out=channel)
        _shift(channel, mean, std)
        if rule.masked:
            channel[~mask] = 0
    elif rule.kind == "zscore" and rule.masked:
        if mask.any():
            inside = channel[mask]
            _shift(inside, inside.mean(), inside.std())
            channel[mask] = inside
        channel[~mask] = 0
    elif rule.kind == "zscore":
        _shift(channel, channel.mean(), channel.std())
    elif rule.kind == "minmax":
        _shift(channel, channel.min(), np.ptp(channel))
    elif rule.kind == "linear":
        channel *= rule.gain
        channel += rule.offset
    elif rule.kind == "percentile":
        low, high = np.percentile(channel, [rule.low, rule.high])
        _shift(channel, low, high - low)
    if rule.clip and rule.kind in ("minmax", "percentile"):
        channel.clip(0.0, 1.0, out=channel)


def _of_ct(channel: np.ndarray, rule: Normalization) -> tuple[float, float]:
    """Return mean and std: the training's, or of what lies between the bounds."""
    if not rule.own:
        return rule.mean, rule.std
    between = channel[(channel > rule.clip_low) & (channel < rule.clip_high)]
    return (between.mean(), between.std()) if between.size else (0.0, 1.0)


def _shift(values: np.ndarray, zero: float, width: float) -> None:
    """(values - zero) / width in place."""
    values -= zero
    values /= max(width, _LEAST)
