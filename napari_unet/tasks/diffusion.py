"""The flows that a cell's shape makes, and how far others are from them.

Heat is put into the middle of each cell and spreads inside it; the flows are the
directions of its slope (Stringer et al., Nature Methods 18, 2021, methods; cellpose
3.1.1, dynamics).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


def flow_errors(cells: np.ndarray, flows: np.ndarray) -> np.ndarray:
    """Return how far flows are from those of the cells' shapes.

    Parameters
    ----------
    cells : numpy.ndarray
        (Y, X) integer; 0 and cell numbers 1, 2 ... without gaps.
    flows : numpy.ndarray
        (2, Y, X), of length 1.

    Returns
    -------
    numpy.ndarray
        (number of cells + 1,) mean square of the difference in each cell; 0 for the
        background.
    """
    place = np.nonzero(cells)
    squares = ((flows_of(cells) - flows) ** 2).sum(0)[place]
    numbers = cells[place]
    size = int(cells.max()) + 1
    total = np.bincount(numbers, squares, size)
    errors: np.ndarray = total / np.maximum(np.bincount(numbers, minlength=size), 1)
    return errors


def flows_of(cells: np.ndarray) -> np.ndarray:
    """Return the flows (2, Y, X) of length 1 that the shapes of cells make.

    Parameters
    ----------
    cells : numpy.ndarray
        (Y, X) integer; 0 and cell numbers 1, 2 ... without gaps.
    """
    padded = np.pad(cells, 1)
    y, x = np.nonzero(padded)
    order = np.full(padded.shape, len(y), np.int64)
    order[y, x] = np.arange(len(y))
    inside = {n: _neighbours(padded, order, y, x, n) for n in _NEIGHBOURS}
    heat = np.append(_heat(padded, y, x, list(inside.values())), 0.0)
    slopes = [
        heat[inside[1, 0]] - heat[inside[-1, 0]],
        heat[inside[0, 1]] - heat[inside[0, -1]],
    ]
    flows = np.zeros((2, *cells.shape))
    flows[:, y - 1, x - 1] = slopes / (1e-60 + np.hypot(*slopes))
    return flows


def _neighbours(
    padded: np.ndarray,
    order: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    step: tuple[int, int],
) -> np.ndarray:
    """Return the place of each neighbour; outside the cell one past the last."""
    there = y + step[0], x + step[1]
    is_same = padded[there] == padded[y, x]
    found: np.ndarray = np.where(is_same, order[there], len(y))
    return found


def _heat(
    padded: np.ndarray, y: np.ndarray, x: np.ndarray, neighbours: list[np.ndarray]
) -> np.ndarray:
    """Spread heat from the middle of each cell, longer in larger ones."""
    number = len(y)
    rows = np.tile(np.arange(number), len(neighbours))
    columns = np.concatenate(neighbours)
    known = columns < number
    ninths = np.full(int(known.sum()), 1 / 9)
    spread = sparse.csr_array(
        (ninths, (rows[known], columns[known])), shape=(number, number)
    )
    middles, times = zip(*_middles(padded, y, x), strict=True)
    cell_times = np.array((0, *times))[padded[y, x]]
    heat, done = np.zeros(number), np.zeros(number)
    for time in range(1, max(times) + 1):
        heat[list(middles)] += 1
        heat = spread @ heat
        if time in times:
            is_over = cell_times == time
            done[is_over] = heat[is_over]
    return done


def _middles(
    padded: np.ndarray, y: np.ndarray, x: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Yield for each cell the place of its middle pixel and how long to spread."""
    numbers = padded[y, x]
    by_cell = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers))
    for number, window in enumerate(ndimage.find_objects(padded), 1):
        own = by_cell[ends[number - 1] : ends[number]]
        far = (y[own] - y[own].mean()) ** 2 + (x[own] - x[own].mean()) ** 2
        time = 2 * sum(side.stop - side.start + 2 for side in window)
        yield int(own[far.argmin()]), time
