"""Score a network on held-out strokes, looking at no more than lies around them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

from napari_unet.training.losses import painted
from napari_unet.training.scores import scores_of_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_unet.networks.receptive_field import Geometry
    from napari_unet.training.coding import Coding

    Window = tuple[torch.Tensor, torch.Tensor]

_CORE = 128
_LOOSE = 32  # context where the receptive field is not known
_DRAWS = 1000
_MOST_WINDOWS = 24
LEAST_STROKES = 4  # fewer make no interval


class HeldOut:
    """Held-out strokes with the image around them.

    Parameters
    ----------
    windows : sequence of (torch.Tensor, torch.Tensor)
        From `windows_of`. Of more than 24 as many are looked at, spread evenly, so that
        a look at complete labels takes no longer than the training between two looks.
    coding : Coding
        What the targets stand for.
    """

    def __init__(self, windows: Sequence[Window], coding: Coding) -> None:
        self._coding = coding
        self.windows = windows = spread(windows, _MOST_WINDOWS)
        self._pieces = [(i, t, torch.from_numpy(_pieces(t))) for i, t in windows]

    def score(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
        """Scores of a network on the held-out pixels.

        Parameters
        ----------
        forward : callable
            From images (N, C, *spatial) to logits.

        Returns
        -------
        dict
            As from `napari_unet.training.scores.scores_of_table`, with the number of
            ``strokes`` and the ``dice_interval``, see `dice_interval`.
        """
        tables = np.concatenate([self._tables(forward, *w) for w in self._pieces])
        return {
            **scores_of_table(tables.sum(0)),
            "strokes": len(tables),
            "dice_interval": dice_interval(tables),
        }

    def _tables(
        self,
        forward: Callable[[torch.Tensor], torch.Tensor],
        image: torch.Tensor,
        target: torch.Tensor,
        pieces: torch.Tensor,
    ) -> np.ndarray:
        """Count truth against decision, a table for each stroke of one window."""
        vectors, wanted = painted(forward(image[None]).cpu(), target[None])
        decided = self._coding.decide(vectors).numpy()
        truth = np.array(self._coding.truth)[wanted.numpy() - 1]
        piece = pieces[target > 0].numpy() - 1
        size = len(self._coding.verdict)
        tables = np.zeros((int(piece.max()) + 1, size, size), np.int64)
        np.add.at(tables, (piece, truth, decided), 1)
        return tables


def spread(windows: Sequence[Window], most: int) -> list[Window]:
    """Take as many windows at most, evenly from all of them."""
    every = np.linspace(0, len(windows) - 1, min(len(windows), most))
    return [windows[int(n)] for n in every]


def windows_of(
    images: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    geometry: Geometry,
    core: int = _CORE,
) -> list[Window]:
    """Cut out what is needed to judge a network on targets.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        float32, (C, *spatial), one a block.
    targets : sequence of numpy.ndarray
        Targets to judge by of each block, 0 elsewhere.
    geometry : Geometry
        Of the network.
    core : int
        Side of the part of a window that is judged.
    """
    return [
        window
        for image, target in zip(images, targets, strict=True)
        for window in _windows(image, target, geometry, core)
    ]


def dice_interval(tables: np.ndarray) -> list[float] | None:
    """95 % interval of the mean Dice, by drawing whole strokes anew (bootstrap).

    Pixels of one stroke are alike, so strokes are what is drawn. It tells how much the
    score would change with other strokes of the same kind, None for fewer than four.

    Parameters
    ----------
    tables : numpy.ndarray
        Integers (strokes, true classes, predicted classes).
    """
    number = len(tables)
    if number < LEAST_STROKES:
        return None
    draws = np.random.default_rng(0).multinomial(
        number, np.full(number, 1 / number), _DRAWS
    )
    sums = np.tensordot(draws, tables, axes=1).astype(float)
    right = np.diagonal(sums, axis1=1, axis2=2)
    total = sums.sum(1) + sums.sum(2)
    with np.errstate(invalid="ignore"):
        dice = (2 * right / total)[:, 1:]
    known = dice[np.isfinite(dice).any(1)]
    if not len(known):
        return None
    low, high = np.quantile(np.nanmean(known, 1), (0.025, 0.975))
    return [float(low), float(high)]


def _pieces(target: torch.Tensor) -> np.ndarray:
    """Give the strokes of one window numbers from 1."""
    known = target.numpy() > 0
    pieces: np.ndarray = ndimage.label(known, np.ones((3,) * known.ndim))[0]
    return pieces


def _windows(
    image: np.ndarray, target: np.ndarray, geometry: Geometry, side: int
) -> Iterator[Window]:
    """Cut what is needed to judge the held-out pixels of one block."""
    shape = target.shape
    corners = [range(0, n, side) for n in shape]
    for corner in itertools.product(*corners):
        core = tuple(
            slice(c, min(c + side, n)) for c, n in zip(corner, shape, strict=True)
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
