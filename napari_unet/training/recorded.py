"""Recorded strokes: the painted pixels as tensors, and strokes made from these again.

A training that strokes may join keeps them in its state, so that it can go on to the
same weights although the layer that they came from was painted on since.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.training.annotations import painted_planes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.images.stack import ImageStack
    from napari_unet.training.annotations import Example

    Tensors = Mapping[str, torch.Tensor]


class Sparse:
    """A label image of which only the painted pixels are kept.

    Parameters
    ----------
    rows : numpy.ndarray
        int64, (pixels, axes + 1): position and id, sorted along the first axis.
    shape : tuple of int
        Shape of the image.
    """

    dtype = np.dtype(np.int64)

    def __init__(self, rows: np.ndarray, shape: tuple[int, ...]) -> None:
        self._rows, self.shape = rows, shape

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read a region given by a slice with step 1 for each axis."""
        low, high = np.array([(part.start, part.stop) for part in index]).T
        first, stop = np.searchsorted(self._rows[:, 0], (low[0], high[0]))
        rows = self._rows[first:stop]
        at = rows[:, :-1]
        rows = rows[((at >= low) & (at < high)).all(1)]
        region = np.zeros(high - low, self.dtype)
        region[tuple((rows[:, :-1] - low).T)] = rows[:, -1]
        return region


def record(examples: Sequence[Example], prefix: str) -> dict[str, torch.Tensor]:
    """Keep the painted pixels of each image, as int64 (pixels, axes + 1).

    Parameters
    ----------
    examples : sequence of Example
        What is painted, before complete boxes are filled.
    prefix : str
        Begins the names of the tensors.
    """
    recorded = {f"{prefix}.{n}": _rows(e.strokes) for n, e in enumerate(examples)}
    return {name: torch.from_numpy(rows) for name, rows in recorded.items()}


def _rows(strokes: ImageStack) -> np.ndarray:
    """Positions and ids of one image."""
    rows = [np.zeros((0, len(strokes.axes) + 1), np.int64)]
    for index, ids in painted_planes(strokes, None):
        at = dict(zip("YX", np.nonzero(ids), strict=True))
        columns = [at.get(a, index.get(a, 0)) for a in strokes.axes]
        painted = np.broadcast_arrays(*columns, ids[ids != 0])
        rows.append(np.stack(painted, 1).astype(np.int64))
    return np.concatenate(rows)


def restore(
    examples: Sequence[Example], tensors: Tensors, prefix: str
) -> list[Example]:
    """Put recorded strokes in place of those of the examples."""
    return [
        dataclasses.replace(
            example, strokes=_strokes(example, tensors[f"{prefix}.{number}"])
        )
        for number, example in enumerate(examples)
    ]


def _strokes(example: Example, tensor: torch.Tensor) -> ImageStack:
    """Strokes of one image; sorting them makes reading a plane quick."""
    shape, rows = example.strokes.shape, tensor.numpy()
    rows = rows[np.lexsort(rows[:, :-1].T[::-1])]
    return dataclasses.replace(
        example.strokes, array=Sparse(rows, shape), source="", _close=None
    )
