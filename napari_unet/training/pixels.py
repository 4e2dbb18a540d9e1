"""First teacher of a new network: a classifier of single pixels, quick with strokes.

A new network takes few steps in a minute, and its strokes tell it little about the
pixels between them. Trees on multiscale features, as interactive tools have them
(Sommer et al., ISBI 2011; Arganda-Carreras et al., Bioinformatics 2017), learn the same
strokes in a second. What they say there is learned along with the strokes
(distillation, Hinton et al., 2015). They are extremely randomised (Geurts et al.,
Machine Learning 63, 2006) with broad leaves, which generalised better from few strokes
than a random forest, see docs/benchmarks.md.

In volumes a trainee that sees few patches took over specks of the trees, which see
one pixel; there what they say is smoothed. In planes that cost thin membranes.

Where pixels are less like the painted ones than these are like each other, the trees
only guess, and strokes alone teach: a probability there is that of no painted pixel.
What they say of painted pixels that a tree did not see (out of bag, Breiman, 2001)
tells how sure they must be.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

from napari_unet.training.features import features_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.training.coding import Coding

_TREES, _LEAF = 100, 5  # trees, and painted pixels that a leaf has at least
_UNSURE = 0.1  # share of the painted pixels of which trees are less sure
_SURE = 0.95  # probability that is always enough
_MOST_TAUGHT = 4096  # pixels of each class that teach it
_MOST_PIXELS = 3_000_000  # of all channels, judged in all: 5 s and 300 MB a million
_CHUNK = 1 << 17  # pixels judged at once


def soft_targets(
    images: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    classes: int,
    seed: int,
    smooth: Sequence[float] = (),
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
    seed : int
        Of the trees.
    smooth : sequence of float
        Standard deviations in pixels, along each axis, of the Gaussian that smooths
        what they say; not at all when empty.

    Returns
    -------
    list of numpy.ndarray
        float32, (classes, *spatial), one a block. 0 where the trees only guess, and
        in blocks beyond three million pixels of all channels in all, the smallest
        coming first: there strokes alone teach.
    """
    chosen = _within_limit(images)
    features = {n: features_of(images[n]) for n in chosen}
    soft = [np.zeros((classes, *t.shape), np.float32) for t in targets]
    seen = [features[n][targets[n] > 0] for n in chosen]
    wanted = [targets[n][targets[n] > 0] for n in chosen]
    if not wanted or not np.concatenate(wanted).size:
        return soft
    trees = _fit(np.concatenate(seen), np.concatenate(wanted), seed)
    least = _least_sure(trees)
    for n in chosen:
        found = _judged(trees, features.pop(n))
        is_sure = found.max(0) >= least
        if smooth:
            found = ndimage.gaussian_filter(found, (0, *smooth))
        soft[n][trees.classes_ - 1] = np.where(is_sure, found, 0)
    return soft


def _within_limit(images: Sequence[np.ndarray]) -> list[int]:
    """Blocks, smallest first, as long as they have few pixels in all; then in order."""
    order = sorted(range(len(images)), key=lambda n: images[n].size)
    total = np.cumsum([images[n].size for n in order])
    return sorted(n for n, t in zip(order, total, strict=True) if t <= _MOST_PIXELS)


def _fit(seen: np.ndarray, wanted: np.ndarray, seed: int) -> Any:
    """Teach the trees some pixels of every class."""
    from sklearn.ensemble import ExtraTreesClassifier

    kept = np.concatenate([_some(wanted == c) for c in np.unique(wanted)])
    trees = ExtraTreesClassifier(
        _TREES,
        min_samples_leaf=_LEAF,
        bootstrap=True,
        oob_score=True,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # Of very few pixels every tree may have seen all.
        warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
        return trees.fit(seen[kept], wanted[kept])


def _least_sure(trees: Any) -> float:
    """How sure the trees are of nine in ten painted pixels that they did not see."""
    sure = np.nan_to_num(trees.oob_decision_function_).max(1)
    return min(float(np.quantile(sure, _UNSURE)), _SURE)


def _some(mask: np.ndarray) -> np.ndarray:
    """Positions in a mask, evenly chosen where they are many."""
    at = np.flatnonzero(mask)
    return at[:: -(-len(at) // _MOST_TAUGHT)]


def _judged(trees: Any, features: np.ndarray) -> np.ndarray:
    """Probability of the classes that the trees know, (classes, *spatial).

    Each chunk is added up by one thread, so that the last bits do not depend on which
    is first.
    """
    pixels = features.reshape(-1, features.shape[-1])
    starts = range(0, len(pixels), _CHUNK)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        parts = pool.map(lambda n: trees.predict_proba(pixels[n : n + _CHUNK]), starts)
        found = np.concatenate([part.astype(np.float32) for part in parts])
    return np.moveaxis(found.reshape(*features.shape[:-1], -1), -1, 0)


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
