"""Scores of a label image against the truth."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, sparse

from napari_unet.errors import UsageError
from napari_unet.images.stack import ImageStack
from napari_unet.training.boundaries import Outlines

if TYPE_CHECKING:
    from collections.abc import Iterator

THRESHOLDS = tuple(round(0.5 + 0.05 * n, 2) for n in range(10))
_MOST_CLASSES = 1024


def evaluate(
    prediction: np.ndarray | ImageStack,
    truth: np.ndarray | ImageStack,
    task: str = "semantic",
) -> dict[str, Any]:
    """Score a label image.

    Parameters
    ----------
    prediction, truth : numpy.ndarray or ImageStack
        Integer labels of the same shape. Semantic labels are read plane by plane.
    task : {"semantic", "instances"}
        Whether labels are classes (0 is a class too) or objects (0 is no object). All
        frames of objects are numbered on their own: one id on two frames is two
        objects.

    Returns
    -------
    dict
        JSON-able. Semantic: see `scores_of_table`; each class has its
        ``boundary_f1`` too, see `napari_unet.training.boundaries`. Instances: see
        `scores_of_objects`.

    Raises
    ------
    UsageError
        If the shapes differ, the labels are no integers, or the task is unknown.
    """
    pair = _named(prediction, "prediction"), _named(truth, "truth")
    _check(*pair)
    if task == "semantic":
        return _semantic(*pair)
    if task == "instances":
        return scores_of_objects(_overlaps(*pair))
    raise UsageError(
        "The task is not known", found=repr(task), expected="semantic or instances"
    )


def _semantic(prediction: ImageStack, truth: ImageStack) -> dict[str, Any]:
    """Scores of classes, with those of their outlines."""
    outlines = Outlines()
    scores = scores_of_table(_table(prediction, truth, outlines))
    for name, f1 in outlines.f1().items():
        scores["classes"][str(name)]["boundary_f1"] = f1
    named = [c for name, c in scores["classes"].items() if name != "0"]
    if known := [c["boundary_f1"] for c in named if "boundary_f1" in c]:
        scores["boundary_f1"] = _mean(known)
    return scores


def scores_of_table(table: np.ndarray) -> dict[str, Any]:
    """Scores of a table of counts.

    Parameters
    ----------
    table : numpy.ndarray
        Integers (true classes, predicted classes).

    Returns
    -------
    dict
        ``accuracy`` of the pixels, ``dice`` and ``iou`` as means over the classes that
        occur except the first (background) and over it too if it is alone, and
        ``classes``: for each class that occurs its ``dice``, ``iou``, ``precision``,
        ``recall`` and ``pixels`` of truth.
    """
    right = np.diag(table).astype(float)
    true, found = table.sum(1).astype(float), table.sum(0).astype(float)
    classes = {
        str(k): _class_scores(right[k], true[k], found[k])
        for k in range(len(table))
        if true[k] or found[k]
    }
    named = [scores for k, scores in classes.items() if k != "0"] or list(
        classes.values()
    )
    total = float(table.sum())
    return {
        "task": "semantic",
        "accuracy": float(right.sum()) / total if total else 0.0,
        "dice": _mean([s["dice"] for s in named]),
        "iou": _mean([s["iou"] for s in named]),
        "classes": classes,
    }


def scores_of_objects(frames: list[sparse.csr_array]) -> dict[str, Any]:
    """Scores of objects matched by their intersection over union (IoU).

    Parameters
    ----------
    frames : list of scipy.sparse.csr_array
        IoU between true (rows) and predicted objects, one a frame.

    Returns
    -------
    dict
        ``ap`` at each threshold of 0.50 ... 0.95, defined as TP / (TP + FP + FN) (as
        `stardist.matching`, Schmidt et al., MICCAI 2018), ``mean_ap`` over them, and at
        0.5 ``precision``, ``recall``, ``f1``, ``mean_matched_iou``, ``tp``, ``fp`` and
        ``fn``; ``true`` and ``predicted`` are numbers of objects. ``ap_interval`` is
        the 95 % interval of each ``ap``, see `wilson`.
    """
    true = sum(frame.shape[0] for frame in frames)
    predicted = sum(frame.shape[1] for frame in frames)
    matched = {t: [v for f in frames for v in _match(f, t)] for t in THRESHOLDS}
    ap = {str(t): _ap(len(m), true, predicted) for t, m in matched.items()}
    intervals = {
        str(t): wilson(len(m), true + predicted - len(m)) for t, m in matched.items()
    }
    hits = matched[THRESHOLDS[0]]
    tp = len(hits)
    return {
        "task": "instances",
        "ap": ap,
        "ap_interval": intervals,
        "mean_ap": _mean(list(ap.values())),
        "precision": tp / predicted if predicted else float(not true),
        "recall": tp / true if true else float(not predicted),
        "f1": 2 * tp / (true + predicted) if true + predicted else 1.0,
        "mean_matched_iou": _mean(hits),
        "tp": tp,
        "fp": predicted - tp,
        "fn": true - tp,
        "true": true,
        "predicted": predicted,
    }


def wilson(hits: int, total: int) -> list[float] | None:
    """95 % interval of a share (Wilson, JASA 1927), None of nothing.

    AP is a share: of all objects, true or predicted, with pairs counted once, those in
    pairs. Objects count as independent, so errors that a whole image shares make the
    true interval wider.
    """
    if not total:
        return None
    share, z = hits / total, 1.96
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    spread = (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5
    half = z * spread / (1 + z**2 / total)
    return [max(middle - half, 0.0), min(middle + half, 1.0)]


def _class_scores(right: float, true: float, found: float) -> dict[str, float]:
    return {
        "dice": 2 * right / (true + found),
        "iou": right / (true + found - right),
        "precision": right / found if found else 0.0,
        "recall": right / true if true else 0.0,
        "pixels": int(true),
    }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _ap(tp: int, true: int, predicted: int) -> float:
    return tp / (true + predicted - tp) if true + predicted else 1.0


def _match(overlap: sparse.csr_array, threshold: float) -> list[float]:
    """IoU of the pairs of the best one-to-one matching at a threshold."""
    kept = overlap.tocoo()
    good = kept.data >= threshold
    if threshold > 0.5 or not good.any():
        # Above one half an object has one partner at most.
        return [float(v) for v in kept.data[good]]
    rows, row = np.unique(kept.row[good], return_inverse=True)
    columns, column = np.unique(kept.col[good], return_inverse=True)
    small = np.zeros((len(rows), len(columns)))
    # As in stardist: as many pairs as possible, then the greatest IoU.
    small[row, column] = 1 + kept.data[good] / (2 * len(rows))
    pairs = optimize.linear_sum_assignment(small, maximize=True)
    return [
        float(overlap[rows[r], columns[c]])
        for r, c in zip(*pairs, strict=True)
        if small[r, c] > 0
    ]


def _named(labels: np.ndarray | ImageStack, name: str) -> ImageStack:
    """Give an array axes from the end; leading ones are frames."""
    if isinstance(labels, ImageStack):
        return labels
    axes = "PQRTZYX"[-labels.ndim :] if labels.ndim else ""
    return ImageStack(labels, axes, name=name)


def _check(prediction: ImageStack, truth: ImageStack) -> None:
    """Refuse what cannot be compared."""
    shapes = [[n for n in stack.shape if n != 1] for stack in (prediction, truth)]
    if shapes[0] != shapes[1] or prediction.axes != truth.axes:
        raise UsageError(
            "The prediction does not fit the truth",
            found=f"{prediction.axes} {prediction.shape}",
            expected=f"{truth.axes} {truth.shape}",
        )
    for stack in (prediction, truth):
        if stack.dtype.kind not in "iub":
            raise UsageError(
                f"The labels {stack.name} cannot be scored",
                found=str(stack.dtype),
                expected="whole numbers",
            )


def _frames(
    prediction: ImageStack, truth: ImageStack, inner: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of frames with the axes `inner`."""
    loop = [a for a in truth.axes if a not in inner]
    for at in itertools.product(*(range(truth.sizes[a]) for a in loop)):
        index = dict(zip(loop, at, strict=True))
        pair = [
            stack.read(index, inner).astype(np.int64) for stack in (prediction, truth)
        ]
        yield pair[0], pair[1]


def _table(prediction: ImageStack, truth: ImageStack, outlines: Outlines) -> np.ndarray:
    """Count pixels by true and predicted class, a plane at a time."""
    table = np.zeros((1, 1), np.int64)
    for found, true in _frames(prediction, truth, "YX"):
        if not found.size:
            continue
        top = int(max(found.max(), true.max())) + 1
        if top > _MOST_CLASSES or min(found.min(), true.min()) < 0:
            raise UsageError(
                "The labels are no classes",
                found=f"a label of {top - 1}",
                expected=f"0 to {_MOST_CLASSES - 1}",
                hint="Use the task instances for numbered objects.",
            )
        if top > len(table):
            table = np.pad(table, (0, top - len(table)))
        size = len(table)
        both = (true * size + found).ravel()
        table += np.bincount(both, minlength=size**2).reshape(size, -1)
        outlines.add(found, true)
    return table


def _overlaps(prediction: ImageStack, truth: ImageStack) -> list[sparse.csr_array]:
    """IoU of the objects of every frame; a volume is one frame."""
    return [overlap(f, t) for f, t in _frames(prediction, truth, "ZYX")]


def overlap(found: np.ndarray, true: np.ndarray) -> sparse.csr_array:
    """IoU between the objects of two label images, (true, predicted).

    Parameters
    ----------
    found, true : numpy.ndarray
        Object ids of the same shape, integers; 0 is no object.
    """
    found, true = found.ravel(), true.ravel()
    ids, column, area = np.unique(found, return_inverse=True, return_counts=True)
    names, row, size = np.unique(true, return_inverse=True, return_counts=True)
    shape = (len(names), len(ids))
    ones = np.ones(len(row))
    shared = sparse.coo_array((ones, (row, column)), shape).tocsr().tocoo()
    union = size[shared.row] + area[shared.col] - shared.data
    iou = sparse.coo_array((shared.data / union, (shared.row, shared.col)), shape)
    return iou.tocsr()[np.flatnonzero(names)][:, np.flatnonzero(ids)]
