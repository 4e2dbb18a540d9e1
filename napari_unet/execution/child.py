"""The computing process: reads jobs, iterates over them, sends their events.

It never imports Qt. Its standard output is its standard error, so that a stray print
cannot disturb the pipe. When the pipe ends it stops its job and leaves.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from napari_unet.events import Cancelled, CancelToken, Event
from napari_unet.execution import memory, wire
from napari_unet.execution.protocol import Failed, events_of, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE = 2.0
"""Seconds a job has to stop by itself when the pipe ends."""


def main(allow: str = "napari_unet") -> None:
    """Serve jobs from standard input until it ends.

    Parameters
    ----------
    allow : str
        The package whose generator functions may be run.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    source, target = _take_pipes()
    inbox = _Inbox(source)
    inbox.start()
    memory.keep()
    while (job := inbox.jobs.get()) is not None:
        _serve(job, target, allow)
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


@dataclass
class _JobMessage:
    """One job as it came through the pipe."""

    number: int
    target: str
    arguments: bytes
    previews: bool
    cancel: CancelToken = field(default_factory=CancelToken)


class _Inbox(threading.Thread):
    """Reads jobs and requests to stop while the main thread computes."""

    def __init__(self, source: BinaryIO) -> None:
        super().__init__(name="inbox", daemon=True)
        self.jobs: queue.Queue[_JobMessage | None] = queue.Queue()
        self.cancel = CancelToken()
        self._source = source

    def run(self) -> None:
        try:
            while True:
                message = pickle.loads(wire.receive(self._source))
                if message == "cancel":
                    self.cancel.set()
                else:
                    job = _JobMessage(*message)
                    self.cancel = job.cancel
                    self.jobs.put(job)
        except (EOFError, OSError):
            self._leave()

    def _leave(self) -> None:
        """Let the job stop by itself for a moment, then end the process."""
        self.cancel.set()
        self.jobs.put(None)
        threading.Event().wait(_PATIENCE)
        os._exit(1)


def _serve(job: _JobMessage, target: BinaryIO, allow: str) -> None:
    """Run one job and send its events; a listener that is gone stops it."""
    send = wire.EventSender(_numbered(target, job.number), previews=job.previews)
    for event in _events(job, allow):
        try:
            send(event)
        except OSError:
            job.cancel.set()
        except Exception as error:  # an event that cannot be pickled
            job.cancel.set()
            send(Failed(told(error)))


def _events(job: _JobMessage, allow: str) -> Iterator[Event]:
    """Unpack the arguments of a job and iterate over it."""
    if job.cancel.is_set():
        yield Cancelled()
        return
    try:
        args, kwargs = pickle.loads(job.arguments)
    except Exception as error:
        yield Failed(told(error))
        return
    yield from events_of(job.target, args, kwargs, job.cancel, allow)


def _numbered(target: BinaryIO, number: int) -> Callable[[Event], None]:
    """Make a function that sends events under the number of their job."""
    return lambda event: wire.send(target, (number, event))
