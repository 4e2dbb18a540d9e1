"""Sampling: where the patches of a training step are taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import ndimage

from napari_unet.networks.device import free_memory
from napari_unet.training.augmentation import (
    Augmentation,
    blend,
    by_chance,
    points,
    relight,
    warp,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


_MOST_PIXELS = 4096  # of a piece that patches are drawn around
_SHARE = 0.25  # of a GPU's free memory that images may take


@dataclass(frozen=True)
class Stroke:
    """The pixels of one connected piece of one target in one block."""

    block: int
    target: int
    pixels: np.ndarray = field(repr=False)
    """int32, (pixels, axes); evenly chosen ones of a large piece."""


class Patches(NamedTuple):
    """A batch."""

    images: torch.Tensor
    """float32, (N, C, *patch)."""
    targets: torch.Tensor
    """int64, (N, *patch)."""
    weights: torch.Tensor | None
    """float32, (N, *patch), or None where all pixels count the same."""
    soft: torch.Tensor | None = None
    """float32, (N, targets, *patch), or None where no first teacher has its say."""


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
    pieces = np.split(pixels[order], ends)
    return [piece[:: -(-len(piece) // _MOST_PIXELS)] for piece in pieces]


class PatchSampler:
    """Draws patches so that no class and no stroke is starved.

    A class is drawn evenly, then one of its strokes by the root of its size, then one
    of its pixels; the patch lies about it by chance. Complete labels would let crowded
    images have all the patches, so there an image is drawn first, by the root of its
    size.

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
    weights : sequence of numpy.ndarray, optional
        How much each pixel counts, float32 as the targets; all the same when not given.
    by_image : bool
        Whether an image (block) is drawn first.
    soft : sequence of numpy.ndarray, optional
        From `napari_unet.training.pixels.soft_targets`.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        patch: tuple[int, ...],
        how: Augmentation,
        weights: Sequence[np.ndarray] | None = None,
        *,
        by_image: bool = False,
        soft: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.strokes = find_strokes(targets)
        self.classes = sorted({stroke.target for stroke in self.strokes})
        self._images = [torch.from_numpy(image) for image in images]
        maps = zip(targets, *([] if weights is None else [weights]), strict=True)
        self._maps = [
            torch.from_numpy(np.stack([m.astype(np.float32) for m in each]))
            for each in maps
        ]
        self._plain = 1 + (weights is not None)
        if soft is not None:
            every = zip(self._maps, soft, strict=True)
            self._maps = [torch.cat([m, torch.from_numpy(s)]) for m, s in every]
        self._patch = patch
        self._how = how
        self._groups = [_Group.of(self.strokes)]
        if by_image:
            blocks = sorted({stroke.block for stroke in self.strokes})
            self._groups = [
                _Group.of([s for s in self.strokes if s.block == b], targets[b].size)
                for b in blocks
            ]
        self._sizes = torch.tensor([group.size**0.5 for group in self._groups])

    def to(self, device: torch.device) -> None:
        """Make the patches on the CPU or on a CUDA device, unless that gets crowded.

        Other devices lack some of the operations; for them nothing changes.
        """
        if device.type not in ("cpu", "cuda"):
            return
        taken = sum(tensor.nbytes for tensor in (*self._images, *self._maps))
        if device.type == "cuda" and taken > _SHARE * free_memory(device):
            return
        self._images = [image.to(device) for image in self._images]
        self._maps = [maps.to(device) for maps in self._maps]

    def draw(self, size: int, generator: torch.Generator) -> Patches:
        """Draw a batch."""
        drawn = [self._one(generator) for _ in range(size)]
        images, maps = (torch.stack(part) for part in zip(*drawn, strict=True))
        if self._is_mixed(generator):
            images, maps = blend(images, maps, generator)
        weights = maps[:, 1] if self._plain > 1 else None
        soft = maps[:, self._plain :] if maps.shape[1] > self._plain else None
        return Patches(images, maps[:, 0].round().long(), weights, soft)

    def _is_mixed(self, generator: torch.Generator) -> bool:
        """Draw whether a batch is mixed, where that is open."""
        share = self._how.mixed if self._how.light else 0.0
        return share == 1 or (share > 0 and by_chance(share, generator))

    def _one(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a single patch."""
        stroke = self._stroke(generator)
        pixel = stroke.pixels[_index(len(stroke.pixels), generator)]
        jitter = (torch.rand(len(pixel), generator=generator) - 0.5).tolist()
        maps = self._maps[stroke.block]
        centre = tuple(
            _centre(int(p) + round(j * 0.6 * n), n, size)
            for p, j, n, size in zip(
                pixel, jitter, self._patch, maps.shape[1:], strict=True
            )
        )
        where = points(self._patch, centre, self._how, generator, maps.device)
        image, known = warp(self._images[stroke.block], maps, where)
        return (relight(image, generator) if self._how.light else image), known

    def _stroke(self, generator: torch.Generator) -> Stroke:
        """Draw a stroke of a class drawn evenly."""
        group = self._groups[0]
        if len(self._groups) > 1:
            group = self._groups[_weighted(self._sizes, generator)]
        mine, weights = group.classes[_index(len(group.classes), generator)]
        return mine[_weighted(weights, generator)]


@dataclass(frozen=True)
class _Group:
    """Strokes by class, with how often each is drawn."""

    classes: list[tuple[list[Stroke], torch.Tensor]]
    size: int

    @classmethod
    def of(cls, strokes: Sequence[Stroke], size: int = 1) -> _Group:
        """Sort strokes into their classes."""
        classes = []
        for target in sorted({stroke.target for stroke in strokes}):
            mine = [stroke for stroke in strokes if stroke.target == target]
            weights = torch.tensor([len(s.pixels) ** 0.5 for s in mine])
            classes.append((mine, weights))
        return cls(classes, size)


def _weighted(weights: torch.Tensor, generator: torch.Generator) -> int:
    return int(torch.multinomial(weights, 1, generator=generator))


def _index(number: int, generator: torch.Generator) -> int:
    return int(torch.randint(number, (1,), generator=generator))


def _centre(wanted: int, patch: int, size: int) -> float:
    """Centre of a patch on whole pixels, inside the block if that is large enough."""
    first = min(max(wanted - patch // 2, 0), max(size - patch, 0))
    return first + (patch - 1) / 2
