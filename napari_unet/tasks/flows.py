"""Instances from flows: pixels of one cell meet where its flows lead.

The method of Stringer et al., "Cellpose: a generalist algorithm for cellular
segmentation", Nature Methods 18, 2021 (doi:10.1038/s41592-020-01018-x), with the
numbers of cellpose 3.1.1: each pixel of a cell moves along the flows for 200 steps;
where many end, a cell begins. A test compares the cells with cellpose's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_unet.errors import ModelError
from napari_unet.tasks.diffusion import flow_errors

if TYPE_CHECKING:
    from napari_unet.networks.spec import ModelSpec

_SCALE = 5.0
"""Networks learn flows of this length; pixels move by 1."""
_STEPS = 200
_FEWEST = 10
"""Pixels that end in one place, above which a cell begins there."""
_REACH = 5
_LARGEST = 0.4
"""Part of the frame that no cell exceeds."""
_MOST_ERROR = 0.4
_SMALLEST = 15
_CHUNK = 1 << 18


class Flows:
    """A network with the channels flow along Y, flow along X and logit of a cell.

    Parameters
    ----------
    spec : ModelSpec
        Of the network.

    Raises
    ------
    ModelError
        If it is not of two dimensions and three channels.
    """

    falls_apart = False

    def __init__(self, spec: ModelSpec) -> None:
        if spec.out_channels != 3 or spec.ndim != 2:
            raise ModelError(
                f"The model {spec.name} gives no flows that can be followed",
                found=f"{spec.out_channels} output channels in {spec.ndim}-D",
                expected="2-D, flow along Y, flow along X and cell",
            )

    def check(self, kind: str) -> None:
        """Allow all kinds; probabilities and logits are the channels as they are."""

    def classes(self) -> int:
        """Return 1: the label is cell."""
        return 1

    def labels(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """1 where the probability of a cell is over the threshold."""
        return (logits[2] > _logit(threshold)).to(torch.uint8)

    def evidence(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Return all channels, (3, *spatial)."""
        return logits

    def evidence_bytes(self) -> int:
        """Bytes of `evidence` per pixel, and of the matrix that spreads heat."""
        return 12 + 9 * 16

    def foreground(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Where the probability of a cell is over the threshold."""
        found: np.ndarray = evidence[2] > _logit(threshold)
        return found

    def separate(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Gather pixels into cells.

        Cells whose shape does not fit the flows, over 0.4 of the frame or under 15
        pixels are left out, holes are filled.

        Parameters
        ----------
        evidence : numpy.ndarray
            (3, Y, X) float32, see `evidence`.
        threshold : float
            Probability over which a pixel belongs to a cell.

        Returns
        -------
        numpy.ndarray
            (Y, X) int32, 0 and 1, 2 ... without gaps.
        """
        flows = np.asarray(evidence[:2], np.float32)
        inside = evidence[2] > _logit(threshold)
        cells = np.zeros(inside.shape, np.int32)
        if inside.any():
            start = np.stack(np.nonzero(inside))
            end = follow(flows * inside / _SCALE, start)
            cells[tuple(start)] = _gathered(end, inside.shape)
        sizes = np.bincount(cells.ravel())
        cells = _without(cells, sizes > _LARGEST * cells.size)
        if cells.any():
            cells = _without(cells, flow_errors(cells, flows / _SCALE) > _MOST_ERROR)
        return _tidy(cells)


def follow(flows: np.ndarray, start: np.ndarray, steps: int = _STEPS) -> np.ndarray:
    """Move points along flows, which are interpolated linearly.

    Parameters
    ----------
    flows : numpy.ndarray
        (2, Y, X) float32, in pixels a step.
    start : numpy.ndarray
        (2, N), where the points begin.
    steps : int
        Number of steps.

    Returns
    -------
    numpy.ndarray
        (2, N) int64, the pixels where they end.
    """
    field = torch.from_numpy(np.ascontiguousarray(flows)).flatten(1)
    height, width = flows.shape[1:]
    ends = []
    for begin in range(0, start.shape[1], _CHUNK):
        y, x = torch.from_numpy(start[:, begin : begin + _CHUNK]).float()
        for _ in range(steps):
            dy, dx = _interpolated(field, y, x, height, width)
            y.add_(dy).clamp_(0, height - 1)
            x.add_(dx).clamp_(0, width - 1)
        ends.append(torch.stack([y, x]).long())
    return torch.cat(ends, 1).numpy()


def _interpolated(
    field: torch.Tensor, y: torch.Tensor, x: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Return the flows (2, N) between four pixels each."""
    top, left = y.long(), x.long()
    low, right = (top + 1).clamp_(max=height - 1), (left + 1).clamp_(max=width - 1)
    v, u = y - top, x - left
    upper = field[:, top * width + left] * (1 - u) + field[:, top * width + right] * u
    lower = field[:, low * width + left] * (1 - u) + field[:, low * width + right] * u
    return upper * (1 - v) + lower * v


def _gathered(end: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the number of the cell that each point has come to, 0 for none."""
    pad = 2 * _REACH
    height, width = (n + 2 * pad for n in shape)
    places = (end[0] + pad) * width + end[1] + pad
    counts = np.bincount(places, minlength=height * width).reshape(height, width)
    highest = ndimage.maximum_filter(counts, 2 * 2 + 1, mode="constant")
    peaks = np.argwhere((counts == highest) & (counts > _FEWEST))
    numbers = np.zeros(counts.shape, np.int32)
    by_count = np.argsort(counts[tuple(peaks.T)], kind="stable")
    for number, peak in enumerate(peaks[by_count], 1):  # the largest are painted last
        window = tuple(slice(n - _REACH, n + _REACH + 1) for n in peak)
        numbers[window][_grown(counts[window] > 2)] = number
    found: np.ndarray = numbers.ravel()[places]
    return found


def _grown(allowed: np.ndarray) -> np.ndarray:
    """Grow the middle pixel over what is allowed, to all eight neighbours each time."""
    seed = np.zeros(allowed.shape, bool)
    seed[_REACH, _REACH] = True
    eight = np.ones((3, 3), bool)
    grown: np.ndarray = ndimage.binary_dilation(seed, eight, _REACH, mask=allowed)
    return grown


def _without(cells: np.ndarray, unwanted: np.ndarray) -> np.ndarray:
    """Take out the numbers that are marked, and close the gaps."""
    wanted = ~unwanted
    wanted[0] = False
    kept = np.isin(np.arange(len(wanted)), cells) & wanted
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    renumbered: np.ndarray = numbers[cells]
    return renumbered


def _tidy(cells: np.ndarray) -> np.ndarray:
    """Fill holes and take out the smallest cells."""
    done = np.zeros_like(cells)
    last = 0
    for number, window in enumerate(ndimage.find_objects(cells), 1):
        if window is None:
            continue
        cell = cells[window] == number
        if cell.sum() >= _SMALLEST:
            last += 1
            done[window][ndimage.binary_fill_holes(cell)] = last
    return done


def _logit(threshold: float) -> float:
    """Return the logit of a probability."""
    inside = min(max(threshold, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))
