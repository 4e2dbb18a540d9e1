"""Score a network on held-out strokes, looking at no more than lies around them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.training.losses import painted
from napari_unet.training.scores import scores_of_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_unet.networks.receptive_field import Geometry
    from napari_unet.training.coding import Coding

    Window = tuple[torch.Tensor, torch.Tensor]

_CORE = 128
_LOOSE = 32  # context where the receptive field is not known


class HeldOut:
    """Held-out strokes with the image around them.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        float32, (C, *spatial), one a block.
    targets : sequence of numpy.ndarray
        Held-out targets of each block, 0 elsewhere.
    geometry : Geometry
        Of the network.
    coding : Coding
        What the targets stand for.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        geometry: Geometry,
        coding: Coding,
    ) -> None:
        self._coding = coding
        self._windows = [
            window
            for image, target in zip(images, targets, strict=True)
            for window in _windows(image, target, geometry)
        ]

    def score(
        self, forward: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, object]:
        """Scores of a network on the held-out pixels.

        Parameters
        ----------
        forward : callable
            From images (N, C, *spatial) to logits.

        Returns
        -------
        dict
            As from `napari_unet.training.scores.scores_of_table`.
        """
        number = len(self._coding.verdict)
        table = np.zeros((number, number), np.int64)
        truth_of = np.array(self._coding.truth)
        for image, target in self._windows:
            vectors, wanted = painted(forward(image[None]).cpu(), target[None])
            decided = self._coding.decide(vectors).numpy()
            np.add.at(table, (truth_of[wanted.numpy() - 1], decided), 1)
        return scores_of_table(table)


def _windows(
    image: np.ndarray, target: np.ndarray, geometry: Geometry
) -> Iterator[Window]:
    """Cut what is needed to judge the held-out pixels of one block."""
    shape = target.shape
    corners = [range(0, n, _CORE) for n in shape]
    for corner in itertools.product(*corners):
        core = tuple(
            slice(c, min(c + _CORE, n)) for c, n in zip(corner, shape, strict=True)
        )
        if target[core].any():
            yield _window(image, target, core, geometry)


def _window(
    image: np.ndarray,
    target: np.ndarray,
    core: tuple[slice, ...],
    geometry: Geometry,
) -> Window:
    """Cut one window with its context, mirrored where the block ends."""
    known = np.zeros_like(target)
    known[core] = target[core]
    seen, wanted = [], []
    for axis, (part, size) in enumerate(zip(core, target.shape, strict=True)):
        margin, stride = geometry.margin[axis], geometry.stride[axis]
        reach = max(geometry.before[axis], geometry.after[axis]) or _LOOSE
        context = max(reach - margin, 0)
        start = max(part.start - context, 0) // stride * stride
        stop = min(part.stop + context, size)
        stop += (geometry.remainder[axis] - (stop - start)) % stride
        wanted.append(np.arange(start, stop))
        seen.append(_mirrored(np.arange(start - margin, stop + margin), size))
    every = np.arange(len(image))
    cut = image[np.ix_(every, *seen)]
    covered = known[tuple(slice(n[0], n[-1] + 1) for n in wanted)]
    beyond = [(0, len(n) - m) for n, m in zip(wanted, covered.shape, strict=True)]
    truth = np.pad(covered, beyond)
    return torch.from_numpy(cut), torch.from_numpy(truth.astype(np.int64))


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Positions reflected at the ends of an axis of `size`."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * (size - 1))
    mirrored: np.ndarray = np.minimum(folded, 2 * (size - 1) - folded)
    return mirrored
