"""The loop: paint where the predictions are wrong, learn, predict, score."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.finetuning.annotator import Annotator
from napari_unet.training.scores import evaluate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.finetuning.learners import Learner
    from benchmarks.finetuning.sets import Task


def rounds(
    task: Task,
    learners: dict[str, Learner],
    number: int,
    seed: int,
    strokes: list[np.ndarray],
) -> Iterator[dict[str, Any]]:
    """Go round by round; all learners get the same `strokes`, painted in place.

    A learner that starts from a checkpoint is scored before the first stroke, in round
    0. Whose errors a stroke corrects goes in turn, so that the strokes favour nobody.

    Yields
    ------
    dict
        A row of figures, one a learner and round.
    """
    hand = Annotator(np.random.default_rng(seed), task.radius, task.length)
    found: dict[str, list[np.ndarray]] = {}
    spent = dict.fromkeys(learners, 0.0)
    for name, learner in learners.items():
        if learner.knows:
            yield _row(task, seed, 0, name, strokes, 0.0, 0.0) | score(task, learner)
    for turn in range(1, number + 1):
        _paint(hand, task, strokes, list(found.values()))
        for name, learner in learners.items():
            start = time.perf_counter()
            learner.learn(task.painted, strokes)
            seconds = time.perf_counter() - start
            spent[name] += seconds
            if turn < number:
                found[name] = [learner.classes(p) for p in task.painted]
            row = _row(task, seed, turn, name, strokes, seconds, spent[name])
            yield row | score(task, learner)


def _row(
    task: Task,
    seed: int,
    turn: int,
    name: str,
    strokes: list[np.ndarray],
    seconds: float,
    spent: float,
) -> dict[str, Any]:
    return {
        "set": task.name, "seed": seed, "round": turn, "learner": name,
        "painted": sum(int((s > 0).sum()) for s in strokes),
        "seconds": round(seconds, 2), "all_seconds": round(spent, 2),
    }  # fmt: skip


def _paint(
    hand: Annotator,
    task: Task,
    strokes: list[np.ndarray],
    guides: list[list[np.ndarray]],
) -> None:
    """Paint the strokes of a round, classes and guides in turn."""
    truths = [pair.truth for pair in task.painted]
    for n in range(task.strokes):
        found = guides[n // task.classes % len(guides)] if guides else None
        hand.stroke(strokes, truths, found, n % task.classes)


def score(task: Task, learner: Learner) -> dict[str, float]:
    """Mean Dice over the images with its 95 % interval, and AP of the objects."""
    dice = np.array(
        [evaluate(learner.classes(p), p.truth)["dice"] for p in task.tested]
    )
    drawn = np.random.default_rng(0).integers(len(dice), size=(2000, len(dice)))
    low, high = np.quantile(dice[drawn].mean(1), (0.025, 0.975))
    row = {"dice": dice.mean(), "dice_low": low, "dice_high": high}
    if task.tested[0].objects is not None:
        row["ap50"] = _objects(task, learner)
    return {name: round(float(value), 4) for name, value in row.items()}


def _objects(task: Task, learner: Learner) -> float:
    """AP at IoU 0.5 over all objects of all images."""
    hit = missed = 0
    for pair in task.tested:
        scores = evaluate(learner.objects(pair), pair.objects, "instances")
        hit += scores["tp"]
        missed += scores["fp"] + scores["fn"]
    return hit / max(hit + missed, 1)
