"""Statistics of pixel values that are seen block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DIGIT = 16


@dataclass
class Moments:
    """Count, mean, spread and range, merged from blocks.

    The merging is that of Chan, Golub and LeVeque (1979), "Updating formulae and a
    pairwise algorithm for computing sample variances", in float64.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    def add(self, values: np.ndarray) -> None:
        """Take in a block of finite values, float64 of any shape."""
        mean = float(values.mean())
        spread = values - mean
        self.merge(
            Moments(
                values.size,
                mean,
                float(np.vdot(spread, spread)),
                float(values.min()),
                float(values.max()),
            )
        )

    def merge(self, other: Moments) -> None:
        """Take in the moments of other values."""
        if not other.count:
            return
        total = self.count + other.count
        step = other.mean - self.mean
        share = other.count / total
        self.squares += other.squares + step * step * self.count * share
        self.mean += step * share
        self.count = total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0


class Selection:
    """Exact order statistics of values that are seen several times over.

    A most-significant-digit radix selection: values are mapped to unsigned integers of
    the same order, and every pass counts the next 16 bits of those that share the
    digits found so far. Types of up to 16 bits need one pass, 32 bits two, 64 bits
    four; memory is one table of 65,536 counts for each rank asked for.

    Parameters
    ----------
    dtype : numpy.dtype
        Type of the values.
    count : int
        How many values a pass will see.
    percentiles : sequence of float
        What is asked for, in percent.
    """

    def __init__(
        self, dtype: np.dtype[Any], count: int, percentiles: Sequence[float]
    ) -> None:
        self._dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        self._bits = 8 * self._dtype.itemsize
        self.passes = max(1, self._bits // _DIGIT)
        self._places = [p / 100 * (count - 1) for p in percentiles]
        ranks = {int(at) + i for at in self._places for i in (0, 1)}
        self._left = {rank: min(rank, count - 1) for rank in ranks}
        self._prefix = dict.fromkeys(ranks, 0)
        self._done = 0
        self._tables: dict[int, np.ndarray] = {}

    def add(self, values: np.ndarray) -> None:
        """Count a block of finite values in this pass."""
        keys = _ordered(values.ravel(), self._dtype)
        digit = min(self._bits, _DIGIT)
        shift = self._bits - digit * (self._done + 1)
        number = keys.dtype.type
        high = keys >> number(shift + digit) if self._done else None
        for prefix in set(self._prefix.values()):
            chosen = keys if high is None else keys[high == number(prefix)]
            digits = (chosen >> number(shift)) & number((1 << digit) - 1)
            counted = np.bincount(digits, minlength=1 << digit)
            self._tables[prefix] = self._tables.get(prefix, 0) + counted

    def end_pass(self) -> None:
        """Settle the digit that was counted."""
        digit = min(self._bits, _DIGIT)
        for rank, left in self._left.items():
            below = np.cumsum(self._tables[self._prefix[rank]])
            found = int(np.searchsorted(below, left, side="right"))
            self._left[rank] = left - (int(below[found - 1]) if found else 0)
            self._prefix[rank] = (self._prefix[rank] << digit) | found
        self._tables = {}
        self._done += 1

    def percentiles(self) -> list[float]:
        """Percentiles as `numpy.percentile` gives them with method "linear"."""
        found = []
        for at in self._places:
            low, high = (self._value(int(at) + i) for i in (0, 1))
            found.append(low + (high - low) * (at - int(at)))
        return found

    def _value(self, rank: int) -> float:
        """Value of a rank, back from its key."""
        return _unordered(self._prefix[rank], self._dtype)


def merged(parts: Iterable[Moments]) -> Moments:
    """Moments of all values together."""
    total = Moments()
    for part in parts:
        total.merge(part)
    return total


def _ordered(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Unsigned keys of the same width in the order of the values."""
    bits = 8 * dtype.itemsize
    raw = np.ascontiguousarray(values, dtype).view(f"u{dtype.itemsize}")
    sign = raw.dtype.type(1 << (bits - 1))
    if dtype.kind == "i":
        raw = raw ^ sign
    elif dtype.kind == "f":
        raw = np.where(raw & sign, ~raw, raw ^ sign)
    return raw


def _unordered(key: int, dtype: np.dtype[Any]) -> float:
    """Value of a key."""
    bits = 8 * dtype.itemsize
    sign = 1 << (bits - 1)
    if dtype.kind == "i":
        key ^= sign
    elif dtype.kind == "f":
        key = key ^ sign if key & sign else key ^ ((1 << bits) - 1)
    raw = np.array([key], f"u{dtype.itemsize}")
    return float(raw.view(dtype)[0])
