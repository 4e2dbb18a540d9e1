"""Messages over a pipe: a length and a pickle, read with a short list of types."""

from __future__ import annotations

import io
import pickle
import struct
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from napari_unet.events import Event, Preview, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH = struct.Struct(">Q")
_TRUSTED = (
    "napari_unet.events",
    "napari_unet.errors",
    "napari_unet.execution.protocol",
)
_NUMPY = {"ndarray", "dtype", "_reconstruct", "_frombuffer", "scalar"}
_BUILTINS = {"slice", "set", "frozenset", "complex", "bytearray", "range"}


def send(stream: BinaryIO, message: Any) -> None:
    """Write one message and flush it.

    Raises
    ------
    OSError
        If the other side is gone.
    """
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def receive(stream: BinaryIO) -> bytes:
    """Read the pickle of one message.

    Raises
    ------
    EOFError
        If the other side is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    """Read `count` bytes."""
    body = stream.read(count)
    if len(body) < count:
        raise EOFError
    return body


def pack(event: Event) -> bytes:
    """Pickle an event as it is, for `EventUnpickler`.

    Other packages register ways to pickle for the whole process (Dask's tblib does for
    every exception); the reader would refuse what they write.
    """
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {}
    pickler.dump(event)
    return stream.getvalue()


class EventUnpickler(pickle.Unpickler):
    """Reads events and plain results only.

    Whatever the computing process sends, reading it can neither import torch beside Qt
    nor run anything.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Look a type up, if it is one that an event may hold."""
        allowed = (
            module in _TRUSTED
            or (module == "builtins" and name in _BUILTINS)
            or (module.split(".")[0] == "numpy" and name in _NUMPY)
        )
        if not allowed:
            raise pickle.UnpicklingError(f"{module}.{name} may not cross the pipe")
        return super().find_class(module, name)


class EventSender:
    """Sends the events of one job, few enough for the reader to keep up.

    Progress is thinned to one in `interval` seconds, the newest one always going out
    before any other event: each costs the viewer a picture of its whole window.
    Previews go out only if wanted and small.

    Parameters
    ----------
    send : callable
        Takes an event.
    previews : bool
        Whether the reader wants previews.
    interval : float
        Seconds between two progress events.
    largest : int
        Bytes above which a preview is dropped.
    """

    def __init__(
        self,
        send: Callable[[Event], None],
        *,
        previews: bool,
        interval: float = 0.2,
        largest: int = 4 << 20,
    ) -> None:
        self._send = send
        self._limit = largest if previews else -1
        self._interval = interval
        self._last = -interval
        self._held: Progress | None = None

    def __call__(self, event: Event) -> None:
        """Send an event, hold it back for a moment, or drop it."""
        if isinstance(event, Progress):
            self._thin(event)
            return
        if isinstance(event, Preview) and event.data.nbytes > self._limit:
            return
        self._release()
        self._send(event)

    def _thin(self, event: Progress) -> None:
        """Send a progress event if the last one is old enough, else hold it."""
        now = time.monotonic()
        if now - self._last < self._interval:
            self._held = event
            return
        self._held, self._last = None, now
        self._send(event)

    def _release(self) -> None:
        """Send the progress event that is held back."""
        if self._held is not None:
            self._send(self._held)
            self._held = None
