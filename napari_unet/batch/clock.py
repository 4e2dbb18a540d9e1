"""How long a batch will still take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OVERHEAD = 100_000  # bytes an image counts for beyond its own: opening and closing it
_SURE_AFTER = 2.0  # seconds of work before a figure is given


class Clock:
    """Estimates the time left from the bytes done and to do.

    Parameters
    ----------
    sizes : sequence of int
        Bytes of each image.
    now : callable
        Gives the time in seconds.
    """

    def __init__(
        self, sizes: Sequence[int], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._weights = [size + _OVERHEAD for size in sizes]
        self._now = now
        self._begin = now()
        self._left = float(sum(self._weights))
        self._done = 0.0
        self._shares: dict[int, float] = {}

    def at(self, number: int, share: float) -> None:
        """Take note of the share of image `number` that is done."""
        self._shares[number] = share

    def skip(self, number: int) -> None:
        """Image `number` needs no work."""
        self._left -= self._weights[number]
        self._shares.pop(number, None)

    def finish(self, number: int) -> None:
        """Image `number` is done."""
        self.skip(number)
        self._done += self._weights[number]

    @property
    def shares(self) -> float:
        """Shares of the images under way, added up."""
        return sum(self._shares.values())

    def seconds_left(self) -> float | None:
        """Estimate the seconds left; None while nothing can be said."""
        elapsed = self._now() - self._begin
        inside = sum(self._weights[n] * share for n, share in self._shares.items())
        done = self._done + inside
        if elapsed < _SURE_AFTER or done <= 0:
            return None
        return max(self._left - inside, 0.0) * elapsed / done

    def note(self, name: str) -> str:
        """Say which image is under way and how long the rest will take."""
        seconds = self.seconds_left()
        return name if seconds is None else f"{name}, about {in_words(seconds)} left"


def in_words(seconds: float) -> str:
    """Write a span of time as a person would say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
