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

    def skip(self, number: int) -> None:
        """Image `number` needs no work."""
        self._left -= self._weights[number]

    def finish(self, number: int) -> None:
        """Image `number` is done."""
        self._left -= self._weights[number]
        self._done += self._weights[number]

    def seconds_left(self, position: float) -> float | None:
        """Estimate the seconds left; None while nothing can be said.

        Parameters
        ----------
        position : float
            Images behind us and the share of the one under way.
        """
        elapsed = self._now() - self._begin
        number = min(int(position), len(self._weights) - 1)
        inside = self._weights[number] * (position - number)
        done = self._done + inside
        if elapsed < _SURE_AFTER or done <= 0:
            return None
        return max(self._left - inside, 0.0) * elapsed / done

    def note(self, name: str, position: float) -> str:
        """Say which image is under way and how long the rest will take."""
        seconds = self.seconds_left(position)
        return name if seconds is None else f"{name}, about {in_words(seconds)} left"


def in_words(seconds: float) -> str:
    """Write a span of time as a person would say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
