"""What the long-running generators say, and how they are asked to stop.

`predict`, `finetune` and `run_batch` are generators of these small frozen picklable
values. The last event is `Finished` or `Cancelled`; an error is raised, never yielded.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """Work begins; `total` counts units of work and is None where unknown."""

    title: str
    total: int | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """`done` of `total` units are finished."""

    done: float
    total: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Preview(Event):
    """A finished part of the output.

    Attributes
    ----------
    region : tuple of slice
        Where `data` lies in the output, one slice per output axis.
    data : numpy.ndarray
        The values of that region.
    """

    region: tuple[slice, ...]
    data: np.ndarray = field(repr=False)


@dataclass(frozen=True, slots=True)
class Written(Event):
    """A finished part of the output is in its file.

    Attributes
    ----------
    region : tuple of slice
        Where it lies, one slice per output axis.
    """

    region: tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Metric(Event):
    """One number of a training run: `name` at `step`."""

    name: str
    value: float
    step: int


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something the user should know; the work goes on."""

    message: str


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The work is done; `result` is picklable."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Cancelled(Event):
    """The work stopped because it was asked to."""

    note: str = ""


class CancelToken:
    """What a generator hears from outside between units of work: stop, or news."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._told: deque[Any] = deque()

    def set(self) -> None:
        """Ask the work to stop after the current unit."""
        self._flag.set()

    def is_set(self) -> bool:
        """Whether the work was asked to stop."""
        return self._flag.is_set()

    def tell(self, message: Any) -> None:
        """Tell the work something; one that does not listen never hears it."""
        self._told.append(message)

    def heard(self) -> list[Any]:
        """Take what was told since the last call, the oldest first."""
        return [self._told.popleft() for _ in range(len(self._told))]


class Stopped(Exception):
    """Raised by `drain` when the work was cancelled."""


def drain(
    events: Iterable[Event], on_event: Callable[[Event], None] | None = None
) -> Any:
    """Run a generator of events to its end and return its result.

    Parameters
    ----------
    events : iterable of Event
        What `iter_predict` and its siblings return.
    on_event : callable, optional
        Called with every event.

    Returns
    -------
    object
        `Finished.result`.

    Raises
    ------
    Stopped
        If the last event was `Cancelled`.
    """
    result = None
    for event in events:
        if on_event is not None:
            on_event(event)
        if isinstance(event, Cancelled):
            raise Stopped(event.note)
        if isinstance(event, Finished):
            result = event.result
    return result
