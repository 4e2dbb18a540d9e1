"""Boundary F1: how well the outlines of classes agree.

Csurka et al., What is a good evaluation measure for semantic segmentation? (BMVC 2013):
precision is the share of the predicted outline that lies near the true one, recall the
share of the true outline that lies near the predicted one.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy import ndimage

TOLERANCE = 2.0  # pixels that an outline may be off


class Outlines:
    """Counts outline pixels plane by plane."""

    def __init__(self) -> None:
        self._counts: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(4, np.int64))

    def add(self, found: np.ndarray, true: np.ndarray) -> None:
        """Compare the classes of one plane, both integers (rows, columns)."""
        for value in np.union1d(found, true).tolist():
            edges = outline(found == value), outline(true == value)
            self._counts[value] += [
                n for a, b in (edges, edges[::-1]) for n in _near(a, b)
            ]

    def f1(self) -> dict[int, float]:
        """Boundary F1 by class; a class without any outline has none."""
        return {
            value: float(_f1(*counts))
            for value, counts in sorted(self._counts.items())
            if counts[1] or counts[3]
        }


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask (rows, columns) that touch a pixel outside it by an edge.

    The edge of the image is no outline.
    """
    inner = ndimage.binary_erosion(mask, border_value=1)
    edge: np.ndarray = mask & ~inner
    return edge


def _near(edge: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """How many pixels of an outline lie near the other one, and how many it has."""
    total = int(edge.sum())
    if not total or not other.any():
        return 0, total
    distance = ndimage.distance_transform_edt(~other)
    return int((distance[edge] <= TOLERANCE).sum()), total


def _f1(near: int, found: int, reached: int, true: int) -> float:
    precision, recall = near / max(found, 1), reached / max(true, 1)
    return 2 * precision * recall / max(precision + recall, 1e-12)
