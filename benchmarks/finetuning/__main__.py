"""A simulated annotator teaches this package and the baselines with the same strokes.

    python -m benchmarks.finetuning ../shared/data OUTPUT [--sets nuclei membranes]
        [--rounds 5] [--seconds 60] [--steps N] [--seeds 0] [--learners ours forest]

Prints the table for docs/benchmarks.md and writes OUTPUT/curves.csv and
OUTPUT/curves.png: Dice on images that were never painted, against painted pixels and
against seconds of training. Needs scikit-learn and matplotlib; monai is left out where
it is not installed. --steps limits the networks' steps, so that results do not depend
on how busy the machine is. `benchmarks.finetuning.real` has the real strokes,
`benchmarks.finetuning.full` the training on full labels.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from skimage import io

from benchmarks.finetuning import loop, pictures, sets
from benchmarks.finetuning.learners import Budget, Forest, Learner, Monai, Ours

LEARNERS = ("ours", "shipped", "forest", "monai")


def main() -> None:
    """Do every set."""
    args = _arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    print("| set | seed | round | learner | painted | seconds | Dice | 95 % | AP 0.5 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in args.sets:
        for seed in args.seeds:
            task = sets.load(name, args.data)
            learners = _learners(task, args, seed)
            strokes = [np.zeros(p.image.shape, np.uint8) for p in task.painted]
            for row in loop.rounds(task, learners, args.rounds, seed, strokes):
                rows.append(row)
                _print(row)
                _write(rows, args.output / "curves.csv")
            seen = pictures.painted(task, strokes)
            path = args.output / f"{name}-{seed}-strokes.png"
            io.imsave(path, seen, check_contrast=False)
            shown = pictures.results(task, learners)
            io.imsave(args.output / f"{name}-{seed}.png", shown, check_contrast=False)
    pictures.curves(rows, args.output / "curves.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sets", nargs="+", choices=sets.NAMES, default=[*sets.NAMES])
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=LEARNERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args()


def _learners(
    task: sets.Task, args: argparse.Namespace, seed: int
) -> dict[str, Learner]:
    """Make those that were asked for and can be had."""
    budget = Budget(args.seconds, args.steps, seed)
    made: dict[str, Learner] = {}
    settings = {"orientation": "fixed" if task.upright else "any"}
    for name in args.learners:
        folder = args.output / f"{task.name}-{seed}-{name}"
        if name == "forest":
            made[name] = Forest(seed)
        elif name == "ours":
            made[name] = Ours(folder, budget, settings=settings)
        elif name == "monai" and importlib.util.find_spec("monai"):
            ndim = task.painted[0].image.ndim
            made[name] = Monai(task.classes, ndim, budget, flips=not task.upright)
        elif name in task.starts:
            made[name] = Ours(folder, budget, task.starts[name], settings)
    return made


def _print(row: dict[str, Any]) -> None:
    interval = f"{row['dice_low']:.3f} to {row['dice_high']:.3f}"
    ap = f"{row['ap50']:.3f}" if "ap50" in row else ""
    print(
        f"| {row['set']} | {row['seed']} | {row['round']} | {row['learner']} | "
        f"{row['painted']} | {row['seconds']:.0f} | {row['dice']:.3f} | {interval} | "
        f"{ap} |",
        flush=True,
    )


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
