"""The inputs of ``make_nnunet_steps.py``, made anew from raw random bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

STORED = Path(__file__).parent / "stored" / "nnunet_steps.npz"


def noise(channels: int, shape: Sequence[int]) -> np.ndarray:
    """Values between -1 and 1, (C, *shape), float64; the same on every machine."""
    bits = np.random.PCG64(7).random_raw(channels * int(np.prod(shape)))
    values = (bits >> np.uint64(11)) * 2.0**-52 - 1
    return values.reshape(channels, *shape)


def volume() -> np.ndarray:
    """Two channels amid zeros, a closed and an open hole, (C, Z, Y, X), uint8."""
    pixels = np.round(50 + 45 * noise(2, (9, 11, 10))).astype(np.uint8)
    pixels[:, :2] = 0
    pixels[:, :, -3:] = 0
    pixels[:, :, :, 0] = 0
    pixels[:, 4:6, 3:5, 4:6] = 0
    pixels[:, 2:4, 2:4, 6:8] = 0
    pixels[0, -1] = 0
    return pixels
