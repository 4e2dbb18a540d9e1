"""Real strokes: held-out accuracy beside a random forest, and painted objects found.

    python -m benchmarks.finetuning.real ../shared/data/brush_labels OUTPUT
        [--seconds 60] [--steps N] [--folds 5] [--seed 0]

Sets with painted classes: cross-validated by whole strokes (cut in pieces where a class
has fewer than folds), both learners on the same folds; the share of held-out painted
pixels told right, as the mean over the classes.
Sets of painted objects without background: trained on all strokes; an object counts as
found and separated where one predicted object covers half of its paint and is no other
painted object's. Where there is a dense reference the Dice of the objects is printed
too, after all strokes. Writes a picture of every set.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from scipy.cluster.vq import kmeans2
from skimage import io
from skimage.measure import label

from benchmarks.finetuning import pictures
from benchmarks.finetuning.learners import Budget, Forest, Ours
from benchmarks.finetuning.sets import Pair

if TYPE_CHECKING:
    from benchmarks.finetuning.learners import Learner

CLASSES = ("blobs", "maize_clsm")


def folds(strokes: np.ndarray, number: int, seed: int) -> list[np.ndarray]:
    """Masks of what is held out in each fold: whole strokes, shared out by class.

    A class with fewer strokes than folds has its strokes cut, into as many compact
    pieces as there are folds.
    """
    random = np.random.default_rng(seed)
    masks = [np.zeros(strokes.shape, bool) for _ in range(number)]
    for value in np.unique(strokes[strokes > 0]):
        pieces, count = label(strokes == value, connectivity=2, return_num=True)
        if count < number:
            pieces, count = _cut(strokes == value, number, seed), number
        for n, piece in enumerate(random.permutation(count) + 1):
            masks[n % number] |= pieces == piece
    return masks


def _cut(mask: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Cut a class into compact pieces 1 ... number (k-means of the places)."""
    places = np.argwhere(mask)
    _, owner = kmeans2(places.astype(float), number, minit="++", seed=seed)
    pieces = np.zeros(mask.shape, int)
    pieces[mask] = owner + 1
    return pieces


def held_out_accuracy(
    pair: Pair, strokes: np.ndarray, learner: Learner, masks: list[np.ndarray]
) -> float:
    """Mean over the classes of the share of held-out pixels told right."""
    right, total = np.zeros(strokes.max() + 1), np.zeros(strokes.max() + 1)
    for mask in masks:
        learner.learn([pair], [np.where(mask, 0, strokes)])
        judged = mask & (strokes > 0)
        wanted, found = strokes[judged], learner.classes(pair)[judged] + 1
        total += np.bincount(wanted, minlength=len(total))
        right += np.bincount(wanted[wanted == found], minlength=len(total))
    return float((right[total > 0] / total[total > 0]).mean())


def found_and_separated(strokes: np.ndarray, objects: np.ndarray) -> tuple[int, int]:
    """How many painted objects have a predicted object of their own, and of how many.

    A prediction has each of its objects lie on the paint of one id alone: it covers
    half of that paint, and less than half of any other.
    """
    ids = np.unique(strokes[strokes > 0])
    owners = []
    for value in ids:
        covered = objects[strokes == value]
        names, counts = np.unique(covered[covered > 0], return_counts=True)
        enough = names[counts >= 0.5 * len(covered)]
        owners.append(int(enough[0]) if len(enough) else 0)
    return sum(o > 0 and owners.count(o) == 1 for o in owners), len(ids)


def main() -> None:
    """Do every set of strokes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for path in sorted((args.data / "scribbles").glob("*.tif")):
        if not args.only or path.stem in args.only:
            _one(path, args)


def _one(path: Path, args: argparse.Namespace) -> None:
    """Do one set and print its lines."""
    image, strokes = (
        tifffile.imread(args.data / "images" / path.name),
        tifffile.imread(path).astype(np.int32),
    )
    pair = Pair(path.stem, image, strokes)
    budget = Budget(args.seconds, args.steps, args.seed)
    kind = "classes" if path.stem in CLASSES else "instances"
    # Every stroke given may teach: the folds hold out what is judged.
    settings = {"strokes": kind, "validation": 0}
    ours = Ours(args.output / path.stem, budget, settings=settings)
    if kind == "classes":
        reference = args.data / "reference" / path.name
        labels = _compare(pair, strokes, ours, reference, args)
    else:
        ours.learn([pair], [strokes])
        labels = ours.objects(pair)
        found, total = found_and_separated(strokes, labels)
        print(f"{path.stem}: {found} of {total} painted objects", flush=True)
    shown = pictures.beside(image, strokes, labels)
    io.imsave(args.output / f"{path.stem}.png", shown, check_contrast=False)


def _compare(
    pair: Pair,
    strokes: np.ndarray,
    ours: Ours,
    reference: Path,
    args: argparse.Namespace,
) -> np.ndarray:
    """Print both learners' figures, and return our labels."""
    learners = {"U-Net": ours, "random forest": Forest(args.seed)}
    masks = folds(strokes, args.folds, args.seed)
    for name, learner in learners.items():
        accuracy = held_out_accuracy(pair, strokes, learner, masks)
        line = f"{pair.name}, {name}: held-out accuracy {accuracy:.4f}"
        learner.learn([pair], [strokes])
        truth = tifffile.imread(reference) > 0 if reference.exists() else None
        if truth is not None and not truth.all():
            found = learner.classes(pair) > 0
            dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
            line += f", Dice {dice:.4f}"
        print(f"{line} ({len(masks)} folds)", flush=True)
    return ours.classes(pair)


if __name__ == "__main__":
    main()
