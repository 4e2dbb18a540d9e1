"""Validation: whole strokes are held out, with a gap of one receptive field.

A pixel that trains the network must not lie where a held-out pixel is looked at, or the
score flatters. So all training paint within the receptive field of a held-out stroke is
left out too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from napari_unet.networks.receptive_field import Geometry

    Owner = tuple[int, int]

_TRIALS = 16
_LEAST_LEFT = 0.5  # share of every class that must stay for training


@dataclass(frozen=True)
class Split:
    """Targets for training and targets held out, one pair a block."""

    training: list[np.ndarray] = field(repr=False)
    held_out: list[np.ndarray] = field(repr=False)
    seen: bool = False
    """Whether an earlier round has trained on some that are held out now."""


def number_strokes(strokes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Give every stroke of a block a number, and every target pixel its stroke's.

    Parameters
    ----------
    strokes : numpy.ndarray
        Ids as painted, spatial axes. A stroke is a connected piece of one id.
    target : numpy.ndarray
        What is learned; background found around painted objects belongs to the nearest
        stroke.

    Returns
    -------
    numpy.ndarray
        int32, 0 where there is no target.
    """
    numbers = np.zeros(strokes.shape, np.int32)
    for value in np.unique(strokes[strokes > 0]):
        pieces, _ = ndimage.label(strokes == value, np.ones((3,) * strokes.ndim))
        numbers += np.where(pieces > 0, pieces + numbers.max(), 0).astype(np.int32)
    if (orphans := (target > 0) & (numbers == 0)).any():
        nearest = ndimage.distance_transform_edt(
            numbers == 0, return_distances=False, return_indices=True
        )
        numbers[orphans] = numbers[tuple(nearest)][orphans]
    return numbers


def hold_out(
    targets: Sequence[np.ndarray],
    numbers: Sequence[np.ndarray],
    kinds: Sequence[np.ndarray],
    share: float,
    reach: Geometry,
    seed: int,
    held: AbstractSet[Owner] = frozenset(),
    trained: AbstractSet[Owner] = frozenset(),
) -> Split | None:
    """Choose strokes to hold out.

    What earlier rounds held out stays so, and what they trained on is only taken where
    a class has nothing else; the round before would else be judged by what it learned.

    Parameters
    ----------
    targets, numbers : sequence of numpy.ndarray
        Targets and stroke numbers of each block.
    kinds : sequence of numpy.ndarray
        What each pixel counts as when strokes are shared out: the class, or 1 for any
        painted object; 0 is left alone.
    share : float
        Share of the strokes of each class to hold out, at least one.
    reach : Geometry
        Receptive field of the network, `before` and `after` a pixel.
    seed : int
        Seed of the choice.
    held, trained : set of (int, int)
        Strokes, as (block, number), that earlier rounds held out and trained on.

    Returns
    -------
    Split or None
        None if a class has a single stroke, or the gap would leave less than half of
        the paint of a class for training.
    """
    owners = _owners(numbers, kinds)
    if not owners or min(len(strokes) for strokes in owners.values()) < 2:
        return None
    choice = np.random.default_rng(seed)
    best, most = None, _LEAST_LEFT
    for _ in range(_TRIALS):
        chosen = _choose(owners, share, choice, held, trained)
        split = _part(targets, numbers, chosen, reach, bool(chosen & trained))
        if (left := _left(targets, split.training)) > most:
            best, most = split, left
    return best


def _owners(
    numbers: Sequence[np.ndarray], kinds: Sequence[np.ndarray]
) -> dict[int, list[Owner]]:
    """Strokes, as (block, number), of every kind."""
    owners: dict[int, list[Owner]] = {}
    for block, (number, kind) in enumerate(zip(numbers, kinds, strict=True)):
        for k in np.unique(kind[kind > 0]).tolist():
            mine = np.unique(number[kind == k]).tolist()
            owners.setdefault(k, []).extend((block, n) for n in mine)
    return owners


def _choose(
    owners: dict[int, list[Owner]],
    share: float,
    choice: np.random.Generator,
    held: AbstractSet[Owner],
    trained: AbstractSet[Owner],
) -> set[Owner]:
    """Draw strokes of every kind, never all of them."""
    chosen: set[Owner] = set()
    for strokes in owners.values():
        wanted = min(max(round(share * len(strokes)), 1), len(strokes) - 1)
        kept = [s for s in strokes if s in held][: len(strokes) - 1]
        fresh = [s for s in strokes if s not in held and s not in trained]
        if not kept and not fresh:
            fresh = strokes
        number = min(max(wanted - len(kept), 0), len(fresh), len(strokes) - 1)
        drawn = choice.permutation(len(fresh))[:number]
        chosen |= {*kept, *(fresh[n] for n in drawn)}
    return chosen


def _part(
    targets: Sequence[np.ndarray],
    numbers: Sequence[np.ndarray],
    chosen: set[Owner],
    reach: Geometry,
    seen: bool,
) -> Split:
    """Take the chosen strokes out of training, and the gap around them."""
    training, held_out = [], []
    for block, (target, number) in enumerate(zip(targets, numbers, strict=True)):
        mine = np.isin(number, [n for b, n in chosen if b == block]) & (target > 0)
        held_out.append(np.where(mine, target, 0).astype(target.dtype))
        training.append(clear_of(target, mine, reach))
    return Split(training, held_out, seen)


def clear_of(target: np.ndarray, held: np.ndarray, reach: Geometry) -> np.ndarray:
    """Target without what lies within the receptive field of held-out pixels."""
    cleared: np.ndarray = np.where(within(held, reach), 0, target).astype(target.dtype)
    return cleared


def within(mask: np.ndarray, reach: Geometry) -> np.ndarray:
    """Pixels that some pixel of `mask` looks at, itself included."""
    seen = mask.astype(np.uint8)
    for axis, (before, after) in enumerate(zip(reach.before, reach.after, strict=True)):
        size = before + after + 1
        # scipy's window starts size // 2 + origin before a pixel: `after` is wanted.
        seen = ndimage.maximum_filter1d(
            seen, size, axis=axis, mode="constant", origin=after - size // 2
        )
    return seen > 0


def _left(targets: Sequence[np.ndarray], training: Sequence[np.ndarray]) -> float:
    """Least share of any target that stays for training."""
    size = 1 + max(int(target.max()) for target in targets)
    whole, rest = (
        np.sum([np.bincount(t.ravel(), minlength=size) for t in each], axis=0)[1:]
        for each in (targets, training)
    )
    return float((rest[whole > 0] / whole[whole > 0]).min())
