"""First teacher of a volume: a classifier of single pixels, soon taught by few strokes.

A new 3D network takes few steps in a minute, and its strokes tell it little about the
pixels between them. Small networks on a multiscale filter bank, as the random forests
of interactive tools have it (Sommer et al., ISBI 2011; Arganda-Carreras et al.,
Bioinformatics 2017), learn the same strokes in a second, and what they say there is
learned along with the strokes (distillation, Hinton et al., 2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.training.coding import Coding

_SIGMAS = (1.0, 2.0, 4.0, 8.0)  # of the filters, in pixels along X
_HIDDEN, _MEMBERS = 32, 5
_STEPS, _RATE, _DECAY, _DROPPED = 150, 1e-2, 0.3, 0.3
_MOST_TAUGHT = 4096  # pixels of each class that teach it
_MOST_PIXELS = 3_000_000  # that are filtered in all: about 2 s and 250 MB a million
_CHUNK = 1 << 17  # pixels judged at once


def soft_targets(
    images: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    classes: int,
    units: Sequence[float],
    seed: int,
) -> list[np.ndarray]:
    """Learn the painted pixels, and tell how likely each class is at all others.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        float32, (C, *spatial), normalised, one a block.
    targets : sequence of numpy.ndarray
        Classes from 1 that are painted, one a block; 0 is unknown.
    classes : int
        How many there are.
    units : sequence of float
        Length of a pixel along each spatial axis, in lengths along the last.
    seed : int
        Of the first weights and of what is dropped.

    Returns
    -------
    list of numpy.ndarray
        float32, (classes, *spatial), one a block. All 0 in blocks beyond three million
        pixels in all, the smallest coming first: there strokes alone teach.
    """
    chosen = _within_limit(targets)
    banks = {n: filter_bank(images[n], units) for n in chosen}
    soft = [np.zeros((classes, *t.shape), np.float32) for t in targets]
    seen = [banks[n][:, targets[n] > 0].T for n in chosen]
    wanted = [targets[n][targets[n] > 0] for n in chosen]
    if not wanted or not np.concatenate(wanted).size:
        return soft
    teacher = _Teacher(np.concatenate(seen), np.concatenate(wanted), classes, seed)
    for n in chosen:
        soft[n] = teacher.probability(banks.pop(n))
    return soft


def _within_limit(targets: Sequence[np.ndarray]) -> list[int]:
    """Blocks, smallest first, as long as they have few pixels in all; then in order."""
    order = sorted(range(len(targets)), key=lambda n: targets[n].size)
    total = np.cumsum([targets[n].size for n in order])
    return sorted(n for n, t in zip(order, total, strict=True) if t <= _MOST_PIXELS)


def filter_bank(image: np.ndarray, units: Sequence[float]) -> np.ndarray:
    """Intensity, edge, blob and texture of every pixel at four scales.

    These are Gaussian, magnitude of its gradient, and trace and norm of its Hessian,
    none of which change when the image is turned.

    Parameters
    ----------
    image : numpy.ndarray
        float32, (C, *spatial).
    units : sequence of float
        Length of a pixel along each spatial axis, in lengths along the last.

    Returns
    -------
    numpy.ndarray
        float32, (16 C, *spatial).
    """
    return np.concatenate([_filtered(c, s, units) for c in image for s in _SIGMAS])


def _filtered(image: np.ndarray, sigma: float, units: Sequence[float]) -> np.ndarray:
    """Filter one channel at one scale."""
    smooth = ndimage.gaussian_filter(image, [sigma / u for u in units], truncate=3)
    first = [_slope(smooth, axis, u) for axis, u in enumerate(units)]
    trace, norm = np.zeros_like(smooth), np.zeros_like(smooth)
    for a, slope in enumerate(first):
        for b in range(a, len(units)):
            second = _slope(slope, b, units[b])
            norm += second**2 * (1 if a == b else 2)
            if a == b:
                trace += second
    edge = np.sqrt(sum(slope**2 for slope in first))
    # Filters fall with the scale; this makes them comparable (Lindeberg, IJCV 1998).
    return np.stack([smooth, sigma * edge, sigma**2 * trace, sigma**2 * np.sqrt(norm)])


def _slope(values: np.ndarray, axis: int, unit: float) -> np.ndarray:
    """Take the derivative along an axis, 0 along one of a single pixel."""
    if values.shape[axis] == 1:
        return np.zeros_like(values)
    slope: np.ndarray = np.gradient(values, np.float32(unit), axis=axis)
    return slope


class _Teacher:
    """Small networks whose probabilities are averaged.

    Parameters
    ----------
    seen : numpy.ndarray
        float32, (pixels, features).
    wanted : numpy.ndarray
        Classes from 1, (pixels,).
    classes, seed : int
        As for `soft_targets`.
    """

    def __init__(
        self, seen: np.ndarray, wanted: np.ndarray, classes: int, seed: int
    ) -> None:
        self._mean, self._scale = seen.mean(0), seen.std(0) + 1e-6
        kept = np.concatenate([_some(wanted == c) for c in np.unique(wanted)])
        inputs = self._scaled(seen[kept])
        targets = torch.from_numpy(wanted[kept].astype(np.int64) - 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._members = [_fit(inputs, targets, classes) for _ in range(_MEMBERS)]

    @torch.no_grad()
    def probability(self, bank: np.ndarray) -> np.ndarray:
        """Probability of every class, (classes, *spatial), of a filtered block."""
        pixels = bank.reshape(len(bank), -1).T
        parts = [
            torch.stack([m(self._scaled(part)).softmax(1) for m in self._members])
            for part in np.split(pixels, range(_CHUNK, len(pixels), _CHUNK))
        ]
        mean = torch.cat([part.mean(0) for part in parts]).T.numpy()
        return np.ascontiguousarray(mean).reshape(-1, *bank.shape[1:])

    def _scaled(self, features: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((features - self._mean) / self._scale)


def _some(mask: np.ndarray) -> np.ndarray:
    """Positions in a mask, evenly chosen where they are many."""
    at = np.flatnonzero(mask)
    return at[:: -(-len(at) // _MOST_TAUGHT)]


def _fit(inputs: torch.Tensor, targets: torch.Tensor, classes: int) -> nn.Module:
    """Teach one small network, all classes counting the same."""
    counts = torch.bincount(targets, minlength=classes).float()
    weights = torch.where(counts > 0, 1 / counts.clamp(min=1), torch.zeros(()))
    member = nn.Sequential(
        nn.Dropout(_DROPPED), nn.Linear(inputs.shape[1], _HIDDEN), nn.LeakyReLU(0.1),
        nn.Linear(_HIDDEN, _HIDDEN), nn.LeakyReLU(0.1), nn.Linear(_HIDDEN, classes),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(member.parameters(), _RATE, weight_decay=_DECAY)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        loss = functional.cross_entropy(member(inputs), targets, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return member.eval()


def soft_loss(
    logits: torch.Tensor, soft: torch.Tensor, target: torch.Tensor, coding: Coding
) -> torch.Tensor:
    """Cross-entropy with soft targets at unpainted pixels.

    Parameters
    ----------
    logits : torch.Tensor
        (N, C, *spatial).
    soft : torch.Tensor
        float32 (N, targets, *spatial) from `soft_targets`; 0 where nothing is known.
    target : torch.Tensor
        Integers (N, *spatial); 0 is not painted.
    coding : Coding
        What the targets stand for.

    Returns
    -------
    torch.Tensor
        float32 scalar, the mean over all pixels, painted ones counting nothing.
    """
    known = (target == 0) & (soft.sum(1) > 0)
    log = coding.log_probability(logits.movedim(1, -1)[known].float())
    costs = -(soft.movedim(1, -1)[known] * log).sum(1)
    return costs.sum() / target.numel()
