"""Another try where a network share or a disk did not answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from napari_unet.batch.lanes import Waiting
from napari_unet.errors import UnreadableError
from napari_unet.events import Warned

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari_unet.events import Event

T = TypeVar("T")
_AGAIN_AFTER = (0.5, 2.0)
"""Seconds before each further try."""
_REST = 0.05


def patiently(
    attempt: Callable[[], Generator[Event, None, T]], again: Callable[[], bool]
) -> Generator[Event, None, T]:
    """Attempt something, and twice again after a while.

    Parameters
    ----------
    attempt : callable
        Starts an attempt.
    again : callable
        Whether there is to be another, of which it has to clear the ground.

    Raises
    ------
    UnreadableError
        That of the last attempt.
    """
    for wait in _AGAIN_AFTER:
        try:
            return (yield from attempt())
        except UnreadableError as error:
            if not again():
                raise
            told = f"{error} It is tried again."
        yield Warned(told)
        yield from _waiting(wait)
    return (yield from attempt())


def _waiting(seconds: float) -> Iterator[Event]:
    """Let others go ahead for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield Waiting()
        time.sleep(_REST)
