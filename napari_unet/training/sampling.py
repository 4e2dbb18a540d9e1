"""Sampling: where the patches of a training step are taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_unet.training.augmentation import (
    Augmentation,
    blend,
    points,
    relight,
    warp,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Stroke:
    """The pixels of one connected piece of one target in one block."""

    block: int
    target: int
    pixels: np.ndarray = field(repr=False)
    """int32, (pixels, axes)."""


def find_strokes(targets: Sequence[np.ndarray]) -> list[Stroke]:
    """Find the connected pieces of every target in every block, 0 left out.

    Parameters
    ----------
    targets : sequence of numpy.ndarray
        Integer targets of each block, spatial axes.
    """
    return [
        Stroke(number, int(value), pixels)
        for number, target in enumerate(targets)
        for value in np.unique(target[target > 0])
        for pixels in _pieces(target == value)
    ]


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    """Pixels of each connected piece."""
    labels, number = ndimage.label(mask, np.ones((3,) * mask.ndim))
    pixels = np.argwhere(labels).astype(np.int32)
    owner = labels[tuple(pixels.T)]
    order = np.argsort(owner, kind="stable")
    ends = np.searchsorted(owner[order], np.arange(2, number + 1))
    return np.split(pixels[order], ends)


class PatchSampler:
    """Draws patches so that no class and no stroke is starved.

    A class is drawn evenly, then one of its strokes by the root of its size, then one
    of its pixels; the patch lies about it by chance.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        float32, (C, *spatial), one a block.
    targets : sequence of numpy.ndarray
        Integers on the spatial axes, one a block; 0 is unknown.
    patch : tuple of int
        Size of the patches.
    how : Augmentation
        What happens to them.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        patch: tuple[int, ...],
        how: Augmentation,
    ) -> None:
        self.strokes = find_strokes(targets)
        self.classes = sorted({stroke.target for stroke in self.strokes})
        self._images = [torch.from_numpy(image) for image in images]
        self._targets = [torch.from_numpy(t.astype(np.float32)) for t in targets]
        self._patch = patch
        self._how = how

    def draw(
        self, size: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a batch.

        Returns
        -------
        tuple of torch.Tensor
            Images float32 (size, C, *patch) and targets int64 (size, *patch).
        """
        drawn = [self._one(generator) for _ in range(size)]
        images, targets = zip(*drawn, strict=True)
        batch = torch.stack(images)
        if self._how.light:
            batch = blend(batch, generator)
        return batch, torch.stack(targets)

    def _one(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a single patch."""
        stroke = self._stroke(generator)
        pixel = stroke.pixels[_index(len(stroke.pixels), generator)]
        jitter = (torch.rand(len(pixel), generator=generator) - 0.5).tolist()
        target = self._targets[stroke.block]
        centre = tuple(
            _centre(int(p) + round(j * 0.6 * n), n, size)
            for p, j, n, size in zip(
                pixel, jitter, self._patch, target.shape, strict=True
            )
        )
        where = points(self._patch, centre, self._how, generator)
        image, known = warp(self._images[stroke.block], target, where)
        return (relight(image, generator) if self._how.light else image), known

    def _stroke(self, generator: torch.Generator) -> Stroke:
        """Draw a stroke of a class drawn evenly."""
        wanted = self.classes[_index(len(self.classes), generator)]
        mine = [stroke for stroke in self.strokes if stroke.target == wanted]
        weights = torch.tensor([len(s.pixels) ** 0.5 for s in mine])
        return mine[int(torch.multinomial(weights, 1, generator=generator))]


def _index(number: int, generator: torch.Generator) -> int:
    return int(torch.randint(number, (1,), generator=generator))


def _centre(wanted: int, patch: int, size: int) -> float:
    """Centre of a patch on whole pixels, inside the block if that is large enough."""
    first = min(max(wanted - patch // 2, 0), max(size - patch, 0))
    return first + (patch - 1) / 2
