"""Arrays made of kept probabilities, only where they are looked at."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.gui import geometry

if TYPE_CHECKING:
    from napari_unet.tasks.decisions import Decision


class Derived(ABC):
    """What napari needs of an array, computed from probabilities on each look.

    Parameters
    ----------
    values : numpy.ndarray
        (C, *shape) float32, in memory or mapped.
    decision : Decision
        How they are read.
    dtype : numpy.dtype
        Of what is made of them.
    """

    def __init__(
        self, values: np.ndarray, decision: Decision, dtype: np.dtype[Any]
    ) -> None:
        self.values = values
        self.decision = decision
        self.dtype = dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis, C left out."""
        return self.values.shape[1:]

    @property
    def ndim(self) -> int:
        """Number of axes, C left out."""
        return self.values.ndim - 1

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes it would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        index = index if isinstance(index, tuple) else (index,)
        return self._of(np.asarray(self.values[(slice(None), *index)]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found: np.ndarray = self[...]
        return found if dtype is None else found.astype(dtype, copy=False)

    @abstractmethod
    def _of(self, values: np.ndarray) -> np.ndarray:
        """Make what is shown of some of the probabilities; C is first in `values`."""


class Classes(Derived):
    """Class ids for a threshold that can be changed.

    Parameters
    ----------
    values, decision
        See `Derived`.
    threshold : float
        Probability from which a pixel is foreground.
    """

    def __init__(
        self, values: np.ndarray, decision: Decision, threshold: float
    ) -> None:
        super().__init__(values, decision, decision.dtype)
        self.threshold = threshold

    def _of(self, values: np.ndarray) -> np.ndarray:
        return self.decision.labels(values, self.threshold)


class DoubtMap(Derived):
    """How near the two best classes are."""

    def __init__(self, values: np.ndarray, decision: Decision) -> None:
        super().__init__(values, decision, np.dtype(np.float32))

    def _of(self, values: np.ndarray) -> np.ndarray:
        return self.decision.doubt(values)


def laid_out(values: np.ndarray, axes: str, ndim: int) -> np.ndarray:
    """Put probabilities in the order of their image's axes, classes first.

    Parameters
    ----------
    values : numpy.ndarray
        Axes as the core returns them: frames, Z, C, Y, X.
    axes : str
        Axes of the image.
    ndim : int
        Number of dimensions of the image layer.

    Returns
    -------
    numpy.ndarray
        (C, *layer), a view; along C of the image, if any, one entry.
    """
    ours = geometry.result_axes(axes, values.shape)
    rest = ours.replace("C", "")
    order = [a for a in axes[:ndim] if a != "C"]
    first = np.moveaxis(values, ours.index("C"), 0)
    moved = first.transpose([0, *(1 + rest.index(a) for a in order)])
    if "C" in axes[:ndim]:
        moved = np.expand_dims(moved, 1 + axes.index("C"))
    return moved
