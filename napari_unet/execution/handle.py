"""A job in another process, as this one sees it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from napari_unet.execution.protocol import is_last

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from napari_unet.events import Event
    from napari_unet.execution.protocol import OnEvent, Turn


class JobHandle:
    """A job in the child process.

    Its events come on a reader thread, the last one exactly once.
    """

    def __init__(
        self,
        number: int,
        turn: Turn,
        on_event: OnEvent,
        stop_after: float,
        stop: Callable[[JobHandle], None],
        send: Callable[[tuple[Any, ...]], None],
    ) -> None:
        self.number = number
        self.turn = turn
        self.stop_after = stop_after
        self.cancelled = False
        self._stop = stop
        self._send = send
        self._on_event = on_event
        self.done = False
        """Whether the last event has come; set just before it is delivered."""
        self._delivered = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the last event is delivered; False if `timeout` seconds pass."""
        return self._delivered.wait(timeout)

    def cancel(self) -> None:
        """Ask the job to stop; end its process if it does not answer soon."""
        if not self.done and not self.cancelled:
            self.cancelled = True
            self._stop(self)

    def tell(self, message: Any) -> None:
        """Send the job a picklable message; it hears it between two pieces."""
        if not self.done:
            self._send(("tell", self.number, message))

    def pause(self, paused: bool = True) -> None:
        """Let the job rest after the present piece, or let it go on."""
        if not self.done:
            self._send(("pause", self.number, paused))

    def deliver(self, event: Event) -> None:
        """Hand an event on; nothing comes after the last one."""
        if self.done:
            return
        self.done = is_last(event)
        try:
            self._on_event(event)
        finally:
            if self.done:
                self._delivered.set()
