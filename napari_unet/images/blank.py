"""An array of zeros that takes no memory: stands for an image where none is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Blank:
    """Zeros of any shape, small enough to be sent to another process.

    Attributes
    ----------
    shape : tuple of int
        Size of each axis.
    dtype : numpy.dtype
        Type of the pixels.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read a region."""
        zeros: np.ndarray = np.broadcast_to(np.zeros((), self.dtype), self.shape)[index]
        return zeros
