"""A simulated annotator: short strokes where a prediction is wrong.

As a person would, it looks for what is misjudged over a breadth, puts the brush into
the middle of one such spot, keeps off the edges of what it paints, wanders on while the
class goes on, mostly over what is wrong, and lifts the brush after a few dozen pixels.
Volumes are painted plane by plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass
class Annotator:
    """Paints.

    Parameters
    ----------
    random : numpy.random.Generator
        Source of all choices.
    radius : int
        Of the brush, in pixels.
    length : int
        Most steps of a stroke, in pixels.
    """

    random: np.random.Generator
    radius: int
    length: int

    def stroke(
        self,
        strokes: list[np.ndarray],
        truths: list[np.ndarray],
        found: list[np.ndarray] | None,
        wanted: int,
    ) -> int:
        """Paint one stroke of the class `wanted` (from 0) as id `wanted` + 1.

        Without a prediction everything counts as wrong. Returns the pixels painted,
        0 where none of that class is wrong and unpainted.
        """
        wrong = [
            (truth == wanted)
            & (paint == 0)
            & (True if found is None else found[n] != truth)
            for n, (truth, paint) in enumerate(zip(truths, strokes, strict=True))
        ]
        counts = np.array([w.sum() for w in wrong], float)
        if not counts.sum():
            return 0
        image = int(self.random.choice(len(counts), p=counts / counts.sum()))
        plane = self._plane(wrong[image])
        line = self._line(truths[image][plane] == wanted, wrong[image][plane])
        fresh = line & (strokes[image][plane] == 0)
        strokes[image][plane][fresh] = wanted + 1
        return int(fresh.sum())

    def _plane(self, wrong: np.ndarray) -> tuple[int, ...]:
        """Choose a plane by how much is wrong on it."""
        if wrong.ndim == 2:
            return ()
        counts = wrong.sum(axis=(1, 2)).astype(float)
        return (int(self.random.choice(len(counts), p=counts / counts.sum())),)

    def _line(self, mine: np.ndarray, wrong: np.ndarray) -> np.ndarray:
        """Draw one stroke within a class (rows, columns)."""
        inner = ndimage.distance_transform_edt(np.pad(mine, 1))[1:-1, 1:-1]
        free = inner > self.radius + 1
        # What is wrong over a breadth is seen first, hardly what is a pixel off.
        depth = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1] ** 2
        seen = int(self.random.choice(depth.size, p=depth.ravel() / depth.sum()))
        parts, _ = ndimage.label(wrong, np.ones((3, 3)))
        # The middle of the spot, as far from the edges of the class as it gets.
        spot = np.where(parts == parts.flat[seen], inner, 0)
        best = np.argwhere(spot >= 0.8 * spot.max())
        at = best[self.random.integers(len(best))].astype(float)
        points = [at]
        angle = self.random.uniform(0, 2 * math.pi)
        for _ in range(self.length):
            step = self._step(at, angle, free, inner, wrong)
            if step is None:
                break
            at, angle = step
            points.append(at)
        return self._brush(points, mine, inner)

    def _step(
        self,
        at: np.ndarray,
        angle: float,
        free: np.ndarray,
        inner: np.ndarray,
        wrong: np.ndarray,
    ) -> tuple[np.ndarray, float] | None:
        """Go on by a pixel, turning a little; along the middle where it is narrow."""
        turns = angle + self.random.normal(0, 0.35, 8)
        ends = at + np.stack([np.sin(turns), np.cos(turns)], 1)
        pixel = np.round(ends).astype(int)
        inside = ((pixel >= 0) & (pixel < inner.shape)).all(1)
        pixel = np.where(inside[:, None], pixel, 0)
        y, x = pixel.T
        worth = np.minimum(inner[y, x], self.radius + 1) + free[y, x] + wrong[y, x]
        worth[~inside | (inner[y, x] < 1)] = -1
        if worth.max() < 0:
            return None
        n = int(worth.argmax())
        return ends[n], float(turns[n])

    def _brush(
        self, points: list[np.ndarray], mine: np.ndarray, inner: np.ndarray
    ) -> np.ndarray:
        """Widen a line to the brush, within the class and off its edge if it can be."""
        line = np.zeros(mine.shape, bool)
        rows, columns = np.round(points).astype(int).T
        line[rows, columns] = True
        near = ndimage.distance_transform_edt(~line) <= self.radius
        return line | (near & (inner > 1))
