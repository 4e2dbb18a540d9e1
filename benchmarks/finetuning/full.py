"""Training on full labels: nuclei, EM membranes, hippocampus.

    python -m benchmarks.finetuning.full ../shared/data OUTPUT
        [--sets nuclei membranes hippocampus] [--seconds 1800] [--steps N] [--seed 0]
        [--validation 0.1]

Nuclei: the first 150 images by name, scored on the other 50, AP over IoU with its 95 %
interval (published on a comparable split: three-class U-Net .806, StarDist .864 at
IoU 0.5). Membranes: sections 0 to 15, scored on 16 to 19, Dice and pixel error.
Hippocampus: 48 volumes, scored on the last 12, Dice of both classes (nnU-Net 0.889).
Prints lines for docs/benchmarks.md and writes a picture of every set. With --steps the
networks take that many steps, however long they last.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from skimage import io

from benchmarks.finetuning import pictures
from benchmarks.finetuning.learners import Budget, Ours
from benchmarks.finetuning.sets import Task, pairs_of
from napari_unet.training.scores import THRESHOLDS, evaluate, wilson

SPLITS = {
    "nuclei": ("dsb2018_fluo", slice(0, 150), slice(150, 200), True),
    "membranes": ("isbi2012_em", slice(0, 16), slice(16, 20), False),
    "hippocampus": ("mri_hippocampus_3d", slice(0, 48), slice(48, 60), False),
}
"""Folder, images that teach, images that are scored, and whether they are objects."""

SCALES = {"hippocampus": dict.fromkeys("ZYX", 1.0)}
"""Length of a pixel, which these files do not tell."""


def main() -> None:
    """Do every set that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SPLITS, default=[*SPLITS])
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--images", type=int, help="teach with so many only")
    parser.add_argument("--validation", type=float, default=0.1, help="held-out share")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        _one(name, args)


def _one(name: str, args: argparse.Namespace) -> None:
    """Train on one set, score it and draw it."""
    folder, teaching, scored, instances = SPLITS[name]
    pairs = pairs_of(args.data / folder, instances, SCALES.get(name))
    task = Task(name, pairs[teaching][: args.images], pairs[scored])
    kind = "instances" if instances else "classes"
    settings = {
        "complete": True,
        "strokes": kind,
        "validation": args.validation,
        "ndim": pairs[0].image.ndim,
    }
    budget = Budget(args.seconds, args.steps, args.seed)
    learner = Ours(args.output / name, budget, settings=settings)
    start, used = time.perf_counter(), time.process_time()
    labels = [p.truth if p.objects is None else p.objects for p in task.painted]
    learner.learn(task.painted, labels)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    scores = _objects(task, learner) if instances else _classes(task, learner)
    told = f"{seconds:.0f} s, {used:.0f} s of a core"
    print(f"{name}: {told}, {json.dumps(scores)}", flush=True)
    shown = pictures.results(task, {"ours": learner})
    io.imsave(args.output / f"{name}.png", shown, check_contrast=False)


def _objects(task: Task, learner: Ours) -> dict[str, object]:
    """AP over all objects of all images, and as the mean over the images."""
    every = [evaluate(learner.objects(p), p.objects, "instances") for p in task.tested]
    rows = {}
    for threshold in map(str, THRESHOLDS[::2]):
        shares = [e["ap"][threshold] for e in every]
        # TP / (TP + FP + FN) turned back into counts, to pool the images.
        units = [e["true"] + e["predicted"] for e in every]
        hits = [a * n / (1 + a) for a, n in zip(shares, units, strict=True)]
        hit, total = round(sum(hits)), sum(units) - round(sum(hits))
        rows[threshold] = {
            "pooled": round(hit / total, 4),
            "interval": [round(v, 4) for v in wilson(hit, total)],
            "mean": round(float(np.mean(shares)), 4),
        }
    return rows


def _classes(task: Task, learner: Ours) -> dict[str, object]:
    """Dice of every class and its mean, boundary F1, and the share of wrong pixels."""
    every = [evaluate(learner.classes(p), p.truth) for p in task.tested]
    names = sorted({name for e in every for name in e["classes"]} - {"0"})
    found = {
        f"dice {name}": [e["classes"].get(name, {"dice": 0.0})["dice"] for e in every]
        for name in names
    }
    found["dice"] = [e["dice"] for e in every]
    found["boundary F1"] = [e["boundary_f1"] for e in every]
    found["pixel error"] = [1 - e["accuracy"] for e in every]
    return {name: round(float(np.mean(f)), 4) for name, f in found.items()}


if __name__ == "__main__":
    main()
