"""Pictures: the curves, the strokes, and what was found on an image never painted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from skimage import segmentation

from benchmarks.finetuning.learners import Learner, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.finetuning.sets import Task

PALETTE = np.array([(0.9, 0.6, 0), (0.35, 0.7, 0.9), (0, 0.6, 0.5), (0.8, 0.5, 0.7)])


def curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Dice against painted pixels (above) and against seconds (below)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["set"] for row in rows))
    shape = (2, len(names))
    figure, axes = plt.subplots(*shape, figsize=(4 * len(names), 7), squeeze=False)
    for column, name in enumerate(names):
        for line, key in enumerate(("painted", "all_seconds")):
            _curve(axes[line][column], [r for r in rows if r["set"] == name], key)
        axes[0][column].set_title(name)
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _curve(axis: Any, rows: list[dict[str, Any]], key: str) -> None:
    for learner in dict.fromkeys(row["learner"] for row in rows):
        mine = [row for row in rows if row["learner"] == learner]
        turns = sorted({row["round"] for row in mine})
        mean = [
            np.mean([(r[key], r["dice"]) for r in mine if r["round"] == t], axis=0)
            for t in turns
        ]
        axis.plot(*np.transpose(mean), marker="o", label=learner)
    axis.set_xlabel({"painted": "painted pixels"}.get(key, "seconds of training"))
    axis.set_ylabel("Dice on images never painted")
    axis.grid(alpha=0.3)


def painted(task: Task, strokes: list[np.ndarray]) -> np.ndarray:
    """Most painted plane of each of up to four images, side by side, uint8 RGB."""
    panels = []
    for pair, paint in zip(task.painted[:4], strokes, strict=False):
        plane = _busiest(paint)
        panel = _grey(pair.image[plane])
        mask = paint[plane] > 0
        panel[mask] = PALETTE[(paint[plane][mask] - 1) % 4]
        panels.append(panel)
    return _row(panels)


def results(task: Task, learners: dict[str, Learner]) -> np.ndarray:
    """Image, truth and every learner's classes on the first tested image."""
    pair = task.tested[0]
    plane = _busiest(pair.truth)
    found = [pair.truth, *(learner.classes(pair) for learner in learners.values())]
    grey = _grey(pair.image[plane])
    return _row([grey, *(outlined(grey, labels[plane]) for labels in found)])


def beside(image: np.ndarray, strokes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Image, strokes and outlined labels of one plane, side by side, uint8 RGB."""
    grey = _grey(image)
    marked, mask = grey.copy(), strokes > 0
    marked[mask] = PALETTE[(strokes[mask] - 1) % 4]
    return _row([grey, marked, outlined(grey, labels)])


def outlined(grey: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Lay labels over a grey RGB image (rows, columns, 3)."""
    shown, mask = grey.copy(), labels > 0
    shown[mask] = 0.6 * shown[mask] + 0.4 * PALETTE[labels[mask] % 4]
    return segmentation.mark_boundaries(shown, labels, color=(1, 1, 0))


def _busiest(labels: np.ndarray) -> tuple[int, ...]:
    return () if labels.ndim == 2 else (int((labels > 0).sum((1, 2)).argmax()),)


def _grey(image: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(scaled(image), 0, 1)[..., None], 3, -1)


def _row(panels: list[np.ndarray]) -> np.ndarray:
    """Panels side by side, padded below to the same height, as uint8."""
    high = max(len(panel) for panel in panels)
    even = [np.pad(p, [(0, high - len(p)), (0, 4), (0, 0)]) for p in panels]
    return (255 * np.concatenate(even, 1)).astype(np.uint8)
