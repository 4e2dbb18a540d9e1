"""Ctrl-C and its kin: once finishes the piece under way, twice stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from napari_unet.events import CancelToken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INSISTENT = ("SIGINT", "SIGTERM", "SIGBREAK")
# What SLURM sends ahead of the end with --signal=USR1@60, again and again by some
# scripts, and what a terminal says as it closes: they never stop at once.
_PATIENT = ("SIGUSR1", "SIGHUP")


@contextlib.contextmanager
def stoppable(say: Callable[[str], None]) -> Iterator[CancelToken]:
    """Give a token that the first signal to stop sets.

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

    def on_signal(number: int, _: object) -> None:
        if not token.is_set():
            token.set()
            with contextlib.suppress(OSError):  # the terminal may be gone
                say("Stopping after this piece; press Ctrl-C again to stop at once.")
        elif number in insistent:
            raise KeyboardInterrupt

    insistent = _numbers(_INSISTENT)
    if threading.current_thread() is not threading.main_thread():
        yield token
        return
    every = insistent + [
        number
        for number in _numbers(_PATIENT)
        if signal.getsignal(number) is not signal.SIG_IGN  # such as under nohup
    ]
    before = {number: signal.signal(number, on_signal) for number in every}
    try:
        yield token
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers(names: tuple[str, ...]) -> list[int]:
    """Give the signals that this system has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
