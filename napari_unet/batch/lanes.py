"""Several images under way at once, in one thread: they take turns, event by event.

So the ledger, the names and the counts have one writer, however many compute.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from napari_unet.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """There is nothing to tell yet, others may go ahead; never leaves a batch."""


class Lanes(Protocol):
    """Says how much may be under way."""

    @property
    def lanes(self) -> int:
        """How many may be under way at once, 0 while nobody is there."""
        ...


class Crew(Lanes, Protocol):
    """Those who compute elsewhere, see `napari_unet.batch.crew.Crew`."""

    def tend(self) -> Iterator[Event]:
        """Look after who came and who went, and tell it; raise if it is over."""
        ...

    def rest(self) -> None:
        """Wait a moment, until something may have happened."""
        ...


class Alone:
    """One image after the other, here."""

    lanes = 1

    def tend(self) -> Iterator[Event]:
        """Nobody comes or goes."""
        return iter(())

    def rest(self) -> None:
        """Nothing is waited for."""


def interleave(
    works: Iterable[Iterator[Event]], crew: Lanes, stopped: Callable[[], bool]
) -> Iterator[Event]:
    """Run generators by turns, as many at once as the crew has lanes.

    Parameters
    ----------
    works : iterable of iterators of Event
        The next is taken when a lane is free.
    crew : Lanes
        How many there are.
    stopped : callable
        Whether no other is to be begun.

    Yields
    ------
    Event
        `Waiting` where all of them have nothing to tell. When this ends early all that
        are under way are closed.
    """
    under_way: list[Iterator[Event]] = []
    coming, more = iter(works), True
    try:
        while more or under_way:
            more = more and not stopped()
            while more and len(under_way) < crew.lanes:
                work = next(coming, None)
                more = work is not None
                under_way += [work] if work is not None else []
            quiet = True
            for work in list(under_way):
                event = next(work, None)
                if event is None:
                    under_way.remove(work)
                elif not isinstance(event, Waiting):
                    yield event
                quiet &= isinstance(event, Waiting)
            if quiet and (more or under_way):
                yield Waiting()
    finally:
        with contextlib.ExitStack() as ends:
            for work in under_way:
                ends.callback(work.close)  # type: ignore[attr-defined]
