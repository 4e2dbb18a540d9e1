"""What every runner shares: naming a job, telling its end, plain results.

A job is a generator function of this package, named ``"module:function"``. It takes a
`CancelToken` as ``cancel`` and yields events. A runner hands the events on and adds one
of its own, `Failed`, so that each job ends in exactly one of `Finished`, `Cancelled` or
`Failed`.
"""

from __future__ import annotations

import dataclasses
import importlib
import traceback
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel

from napari_unet import errors
from napari_unet.errors import DeviceError, UNetError, UsageError
from napari_unet.events import Cancelled, CancelToken, Event, Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    OnEvent = Callable[[Event], None]

Turn = Literal["first", "usual", "last"]
TURNS = ("first", "usual", "last")
"""When a job has its turn: ahead of a job that runs, between two of its pieces; as the
one job at a time; or while nothing else is to be done. Of those that go first or last
the newest replaces the one before."""


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The work ended with an error, told in words."""

    error: UNetError


def is_last(event: Event) -> bool:
    """Whether nothing follows an event."""
    return isinstance(event, Finished | Cancelled | Failed)


class UnexpectedError(UNetError):
    """An error nobody foresaw: one sentence for the user, the traceback for a report.

    Attributes
    ----------
    details : str
        The traceback, or the last lines that a lost process wrote.
    """

    def __init__(self, what: str, *, hint: str = "", details: str = "") -> None:
        super().__init__(what, hint=hint)
        self.details = details

    def __reduce__(self) -> tuple[object, ...]:
        return _unexpected, (self.what, self.hint, self.details)


def _unexpected(what: str, hint: str, details: str) -> UnexpectedError:
    """Make an unexpected error again on the far side of a pipe."""
    return UnexpectedError(what, hint=hint, details=details)


class Job(Protocol):
    """A job that was handed to a runner."""

    @property
    def done(self) -> bool:
        """Whether the last event was delivered."""
        ...

    def cancel(self) -> None:
        """Ask the job to stop; it ends in `Cancelled` or, if too late, `Finished`."""
        ...

    def tell(self, message: Any) -> None:
        """Send the job a picklable message, see `CancelToken.heard`."""
        ...

    def pause(self, paused: bool = True) -> None:
        """Let the job rest after the present piece, or let it go on."""
        ...


class Runner(Protocol):
    """Runs one job at a time, and small ones ahead of it or in spare time."""

    def run(
        self,
        target: str,
        *args: Any,
        on_event: OnEvent,
        turn: Turn = "usual",
        previews: bool = True,
        stop_after: float | None = None,
        **kwargs: Any,
    ) -> Job:
        """Start the generator function `target` and hand its events to `on_event`.

        A runner that can end a job does so `stop_after` seconds after it asked for it.
        Whatever becomes of a job that goes first or last, the others go on.
        """
        ...

    def close(self) -> None:
        """Stop what runs and let go of everything."""
        ...


def resolve(target: str, allow: str) -> Callable[..., Iterator[Event]]:
    """Find the generator function that a job names.

    Parameters
    ----------
    target : str
        ``"module:function"``.
    allow : str
        The package the module must belong to.

    Raises
    ------
    UsageError
        If the module lies outside `allow` or has no such function.
    """
    module, _, name = target.partition(":")
    if module.split(".")[0] != allow:
        raise UsageError("This job is not allowed", found=target, expected=allow)
    function = getattr(importlib.import_module(module), name, None)
    if not callable(function):
        raise UsageError("This job does not exist", found=target)
    return function  # type: ignore[no-any-return]


def events_of(
    target: str, args: Any, kwargs: Any, cancel: CancelToken, allow: str
) -> Generator[Event]:
    """Iterate over a job so that it ends in one last event and never raises.

    `Finished.result` is made plain, see `plain`.
    """
    try:
        yield from _until_last(resolve(target, allow)(*args, cancel=cancel, **kwargs))
    except Exception as error:
        yield Failed(told(error))


def _until_last(events: Iterator[Event]) -> Generator[Event]:
    """Hand events on up to the last one, then close the generator."""
    try:
        for event in events:
            if isinstance(event, Finished):
                yield Finished(plain(event.result))
                return
            yield event
            if isinstance(event, Cancelled):
                return
    finally:
        events.close()  # type: ignore[attr-defined]
    yield Finished()


def told(error: Exception) -> UNetError:
    """Put any error in words; the user's own errors stay as they are."""
    if isinstance(error, UNetError):
        return _of_this_family(error)
    if isinstance(error, MemoryError):
        return DeviceError(
            "The computer ran out of memory", hint="Choose a smaller tile size."
        )
    return UnexpectedError(
        f"Something went wrong inside: {type(error).__name__}, {_first_line(error)}",
        hint="Please report it with the details.",
        details="".join(traceback.format_exception(error)),
    )


def _of_this_family(error: UNetError) -> UNetError:
    """Keep an error, or take its words where the other side may not know its class."""
    if type(error).__module__ in (errors.__name__, __name__):
        return error
    return UNetError(
        error.what, found=error.found, expected=error.expected, hint=error.hint
    )


def _first_line(error: Exception) -> str:
    """Take the first line of an error's text, short."""
    return (str(error).strip().splitlines() or ["no message"])[0][:200].rstrip(".")


def plain(value: Any) -> Any:
    """Turn a result into builtins and arrays, so that reading it imports nothing.

    Dataclasses and pydantic models become dicts, paths become str.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (
            type(value)(map(plain, value))
            if type(value) in (list, tuple)
            else [plain(item) for item in value]
        )
    return value
