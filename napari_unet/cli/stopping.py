"""Ctrl-C: once finishes the piece under way, twice stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from napari_unet.events import CancelToken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stoppable(say: Callable[[str], None]) -> Iterator[CancelToken]:
    """Give a token that the first Ctrl-C or termination signal sets.

    Parameters
    ----------
    say : callable
        Tells the person what the key press did.

    Yields
    ------
    CancelToken
        To hand to the work.
    """
    token = CancelToken()

    def on_signal(*_: object) -> None:
        if token.is_set():
            raise KeyboardInterrupt
        token.set()
        say("Stopping after this piece; press Ctrl-C again to stop at once.")

    if threading.current_thread() is not threading.main_thread():
        yield token
        return
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield token
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
