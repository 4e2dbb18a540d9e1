"""From other threads to the main thread, and off it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, Signal

if TYPE_CHECKING:
    from collections.abc import Callable


class MainThread(QObject):  # type: ignore[misc]
    """Calls functions on the thread it was made on."""

    _called = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._called.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def post(self, function: Callable[[], None]) -> None:
        """Call `function` on the main thread, soon; may be called from any thread."""
        with contextlib.suppress(RuntimeError):  # Qt has deleted it: the program ends
            self._called.emit(function)

    def _run(self, function: Callable[[], None]) -> None:
        """Call it, now on the main thread."""
        function()


def in_background(function: Callable[[], None]) -> None:
    """Call `function` on a thread of its own."""
    threading.Thread(target=function, name="U-Net files", daemon=True).start()
