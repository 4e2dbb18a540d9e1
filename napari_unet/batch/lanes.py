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


class Crew(Protocol):
    """Those who compute elsewhere, see `napari_unet.batch.crew.Crew`."""

    @property
    def lanes(self) -> int:
        """How many images may be under way at once, 0 while nobody is there."""
        ...

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
    images: Iterable[Iterator[Event]], crew: Crew, stopped: Callable[[], bool]
) -> Iterator[Event]:
    """Run generators by turns, as many at once as the crew has lanes.

    Parameters
    ----------
    images : iterable of iterators of Event
        One an image; the next is taken when a lane is free.
    crew : Crew
        Who computes.
    stopped : callable
        Whether no other image is to be begun.

    Yields
    ------
    Event
        All but `Waiting`. When this ends early all that are under way are closed.
    """
    under_way: list[Iterator[Event]] = []
    coming, more = iter(images), True
    try:
        while more or under_way:
            yield from crew.tend()
            more = more and not stopped()
            while more and len(under_way) < crew.lanes:
                image = next(coming, None)
                more = image is not None
                under_way += [image] if image is not None else []
            quiet = True
            for image in list(under_way):
                event = next(image, None)
                if event is None:
                    under_way.remove(image)
                elif not isinstance(event, Waiting):
                    yield event
                quiet &= isinstance(event, Waiting)
            if quiet and (more or under_way):
                crew.rest()
    finally:
        with contextlib.ExitStack() as ends:
            for image in under_way:
                ends.callback(image.close)  # type: ignore[attr-defined]
