"""The computing process: takes turns between jobs and sends their events.

It never imports Qt. Its standard output is its standard error, so that a stray print
cannot disturb the pipe. When the pipe ends it stops its jobs and leaves.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from napari_unet.events import Cancelled, CancelToken, Event
from napari_unet.execution import memory, wire
from napari_unet.execution.protocol import TURNS, Failed, events_of, is_last, told

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_PATIENCE = 2.0
"""Seconds a job has to stop by itself when the pipe ends."""


def main(allow: str = "napari_unet") -> None:
    """Serve jobs from standard input until it ends.

    Each step takes the most urgent job one event further, so a job whose turn is first
    is done between two pieces of the others; and they get a piece done between two of
    the kind.

    Parameters
    ----------
    allow : str
        The package whose generator functions may be run.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    source, target = _take_pipes()
    inbox = _Inbox(source, partial(_Work, pipe=target, allow=allow))
    inbox.start()
    memory.keep()
    while (work := inbox.next()) is not None:
        work.step()
        if work.over and inbox.is_empty_without(work):
            memory.give_back()


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes for messages; point the standard streams elsewhere."""
    source = os.fdopen(os.dup(0), "rb")
    target = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return source, target


class _Work:
    """One job as it came through the pipe, and how far it is."""

    def __init__(
        self,
        number: int,
        turn: str,
        target: str,
        arguments: bytes,
        previews: bool,
        *,
        pipe: BinaryIO,
        allow: str,
    ) -> None:
        self.number = number
        self.turn = turn
        self.cancel = CancelToken()
        self.begun = False
        self.paused = False
        self.replaced = False
        self.over = False
        self._events = _events(target, arguments, self.cancel, allow)
        self._send = wire.EventSender(_numbered(pipe, number), previews=previews)

    @property
    def is_awake(self) -> bool:
        """Whether it wants its turn; one that is to stop does, even if it rests."""
        return not self.paused or self.cancel.is_set()

    def replace(self) -> None:
        """Give it up for a newer one; the main thread ends it at its next step."""
        self.cancel.set()
        self.replaced = True

    def step(self) -> None:
        """Do the next piece and send its event."""
        event = Cancelled("replaced") if self.replaced else self._next()
        try:
            if is_last(event):
                self._end()
            self._send(event)
        except OSError:  # nobody listens any more
            self.cancel.set()
        except Exception as error:  # an event that cannot be pickled, a bad end
            self._end()
            self._send(Failed(told(error)))

    def _next(self) -> Event:
        self.begun = True
        return next(self._events)

    def _end(self) -> None:
        """Leave the generator where it is, so that it cleans up."""
        self.over = True
        self._events.close()


class _Inbox(threading.Thread):
    """Reads jobs and requests to stop while the main thread computes."""

    def __init__(self, source: BinaryIO, make: Callable[..., _Work]) -> None:
        super().__init__(name="inbox", daemon=True)
        self._source = source
        self._make = make
        self._works: list[_Work] = []
        self._owes = False
        self._ended = False
        self._changed = threading.Condition()

    def next(self) -> _Work | None:
        """Wait for the most urgent job; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or any(work.is_awake for work in self._works)
            )
            owed, self._owes = self._owes, False
            awake = [work for work in self._works if work.is_awake]
            waiting = [work for work in awake if owed and work.turn == "usual"]
            return min(waiting or awake, key=_urgency, default=None)

    def is_empty_without(self, work: _Work) -> bool:
        """Take a job off the list that is over; whether it was the only one."""
        with self._changed:
            self._works.remove(work)
            self._owes |= work.begun and work.turn == "first"
            return not self._works

    def run(self) -> None:
        try:
            while True:
                self._take(*pickle.loads(wire.receive(self._source)))
        except (EOFError, OSError):
            self._leave()

    def _take(self, kind: str, *message: Any) -> None:
        """Take a job on, or pass something on to one."""
        with self._changed:
            if kind != "job":
                self._pass_on(kind, *message)
                self._changed.notify_all()
                return
            new = self._make(*message)
            for work in self._works:
                if work.turn == new.turn:
                    work.replace()
            self._works.append(new)
            self._changed.notify_all()

    def _cancel(self, number: int) -> None:
        """Stop a job, and with one of the usual turn what might delay it."""
        stopped = [work for work in self._works if work.number == number]
        everything = any(work.turn == "usual" for work in stopped)
        for work in self._works if everything else stopped:
            work.cancel.set()

    def _pass_on(self, kind: str, number: int, *message: Any) -> None:
        """Stop a job, tell it something, let it rest or go on."""
        if kind == "cancel":
            self._cancel(number)
        elif kind == "tell":
            self._tell(number, *message)
        else:
            self._pause(number, *message)

    def _tell(self, number: int, message: Any) -> None:
        """Pass a message on to a job."""
        for work in self._works:
            if work.number == number:
                work.cancel.tell(message)

    def _pause(self, number: int, paused: bool) -> None:
        """Let a job rest, or let it go on."""
        for work in self._works:
            if work.number == number:
                work.paused = paused

    def _leave(self) -> None:
        """Let the jobs stop by themselves for a moment, then end the process."""
        with self._changed:
            self._ended = True
            for work in self._works:
                work.cancel.set()
            self._changed.notify_all()
        threading.Event().wait(_PATIENCE)
        os._exit(1)


def _urgency(work: _Work) -> int:
    """Order jobs; those that were replaced are ended before anything else."""
    return -1 if work.replaced else TURNS.index(work.turn)


def _events(
    target: str, arguments: bytes, cancel: CancelToken, allow: str
) -> Generator[Event]:
    """Unpack the arguments of a job and iterate over it."""
    if cancel.is_set():
        yield Cancelled()
        return
    try:
        args, kwargs = pickle.loads(arguments)
    except Exception as error:
        yield Failed(told(error))
        return
    yield from events_of(target, args, kwargs, cancel, allow)


def _numbered(pipe: BinaryIO, number: int) -> Callable[[Event], None]:
    """Make a function that sends events under the number of their job.

    The event is a pickle of its own, so that one that cannot be read can still be
    charged to its job.
    """
    return lambda event: wire.send(pipe, (number, wire.pack(event)))
