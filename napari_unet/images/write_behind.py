"""WriteBehind: a thread that writes while the next part is computed."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
AHEAD = 2
_PATIENCE = 0.1


class _Aborted(Exception):
    """Ends the work of the thread."""


class WriteBehind(Generic[T]):
    """Hands items to a function in another thread, a few at a time.

    Parameters
    ----------
    work : callable
        Called once in the thread with an iterator over the items.
    ahead : int
        Items that may wait; `put` blocks beyond, so that memory stays bounded.
    """

    def __init__(self, work: Callable[[Iterator[T]], None], ahead: int = AHEAD) -> None:
        self._work = work
        self._queue: queue.Queue[T | None] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name="write-behind", daemon=True
        )
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item; raises what the thread has met."""
        self._offer(item)

    def finish(self) -> None:
        """Wait until everything is written; raises what the thread has met."""
        self._offer(None)
        self._thread.join()
        self._raise()

    def abort(self) -> None:
        """Stop the thread and wait for its end."""
        self._stop.set()
        self._thread.join()

    def _offer(self, item: T | None) -> None:
        """Wait for room in the queue, or for an error."""
        while True:
            self._raise()
            with contextlib.suppress(queue.Full):
                return self._queue.put(item, timeout=_PATIENCE)

    def _raise(self) -> None:
        """Raise the error of the thread."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        """Work until the end, keeping the error for the other thread."""
        try:
            self._work(self._items())
        except _Aborted:
            pass
        except BaseException as error:
            self._error = error

    def _items(self) -> Iterator[T]:
        """Yield the items as they come."""
        while True:
            if self._stop.is_set():
                raise _Aborted
            try:
                item = self._queue.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if item is None:
                return
            yield item
