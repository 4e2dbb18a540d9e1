"""Clock: how much of its time a training has had."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_READING = 0.75  # most of the time that reading may take from the steps


class Clock:
    """Counts the seconds of a training, without those in which others had their turn.

    Attributes
    ----------
    limit : float
        Seconds that the training has, reading included.
    after : float
        Seconds of them, half at most, for what comes after the last step.

    Parameters
    ----------
    begun : float
        When the work began, on the monotonic clock. Reading that took long must not
        leave the network untaught, so a quarter of the limit is left for steps.
    limit : float
        Seconds that the training has.
    """

    def __init__(self, begun: float, limit: float) -> None:
        self.limit, self.after = limit, 0.0
        self._begun, self._start = begun, time.monotonic()
        self._budget = limit - min(self._start - begun, _READING * limit)

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._begun

    @property
    def training(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self._start

    @property
    def share(self) -> float:
        """How much of the time for steps is gone, 1 or more when all is."""
        return self.training / max(self._budget - self.after, self._budget / 2)

    def add(self, seconds: float) -> None:
        """Count seconds of training of an earlier run, or take some off."""
        self._start -= seconds
        self._begun -= seconds

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Leave out what passes meanwhile."""
        left = time.monotonic()
        yield
        self.add(left - time.monotonic())
