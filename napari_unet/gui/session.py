"""State, listeners and the one task of a dock: what every action of it shares."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_unet.errors import UNetError, UsageError
from napari_unet.events import Cancelled, Event, Finished, Progress, Started, Warned
from napari_unet.execution.protocol import Failed, is_last
from napari_unet.gui import words
from napari_unet.gui.state import Activity, State
from napari_unet.gui.tasks import Task
from napari_unet.gui.view import View, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.tasks import Prepare, Tasks

    Notify = Callable[[str, str], None]

_LOG = logging.getLogger(__name__)
_SURE_AFTER = 2.0
_PATIENCE = {"batch": 5.0, "train": 10.0}
"""Seconds a kind of job has to stop: a training step is long, and its round is kept; a
batch records where it was stopped."""


class Session:
    """Holds the state, tells listeners what to show, and runs one task at a time.

    Parameters
    ----------
    tasks : Tasks
        Runs the tasks.
    notify : callable
        Shows a message outside the dock: (``"error"`` or ``"info"``, text).
    """

    def __init__(self, tasks: Tasks, notify: Notify) -> None:
        self.state = State()
        self.tasks = tasks
        self._notify = notify
        self._listeners: list[Callable[[View], None]] = []
        self._began = 0.0
        self._warning = ""

    def subscribe(self, listener: Callable[[View], None]) -> Callable[[], None]:
        """Call `listener` with every new view, and now; returns what ends that."""
        self._listeners.append(listener)
        listener(resolve(self.state))
        return lambda: self._listeners.remove(listener)

    def update(self, **changes: Any) -> None:
        """Change the state and show it."""
        new = replace(self.state, **changes)
        if new == self.state:
            return
        self.state = new
        view = resolve(new)
        for listener in list(self._listeners):
            listener(view)

    def say(self, message: str, tone: str = "plain") -> None:
        """Put a sentence into the footer."""
        self.update(message=message, tone=tone)

    def warn(self, text: str) -> None:
        """Say something at the end of what runs."""
        self._warning = text

    def fail(self, error: UNetError) -> None:
        """Tell an error in the footer and as a notification; log its details."""
        if details := getattr(error, "details", ""):
            _LOG.error("%s\n%s", error.what, details)
        self.say(str(error), "bad")
        self._notify("error", str(error))

    def attempt(self, action: Callable[[], None]) -> bool:
        """Do something a user asked for; tell its error. Returns whether it worked."""
        try:
            action()
        except UNetError as error:
            self.fail(error)
            return False
        return True

    def begin(
        self,
        kind: Any,
        title: str,
        target: str,
        prepare: Prepare,
        finish: Callable[[Any], str],
        watch: Callable[[Event], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> None:
        """Start a task and show how it goes.

        Parameters
        ----------
        kind : str
            Kind of `Activity`.
        title : str
            What the footer says meanwhile.
        target, prepare
            See `Task`.
        finish : callable
            Takes the result on the main thread and returns the closing sentence.
        watch : callable, optional
            Called with every event before it is shown.
        after : callable, optional
            Called when the task is over, however it ended.
        """

        def on_event(event: Event) -> None:
            if watch is not None:
                watch(event)
            self._show(event, finish)
            if after is not None and is_last(event):
                after()

        self._began, self._warning = time.monotonic(), ""
        self.update(activity=Activity(kind, title), message="", tone="plain")
        patience = _PATIENCE.get(kind)
        self.tasks.start(Task(target, prepare, on_event, stop_after=patience))

    def is_busy(self) -> bool:
        """Whether a task runs; says so."""
        if self.tasks.busy:
            self.fail(UsageError("Another job runs", hint="Wait, or press Stop."))
        return self.tasks.busy

    def stop(self) -> None:
        """Ask the task to stop."""
        for name in ("activity", "aside"):
            if (running := getattr(self.state, name)) is not None:
                self.update(**{name: replace(running, stopping=True)})
        self.tasks.stop()

    def _show(self, event: Event, finish: Callable[[Any], str]) -> None:
        """Bring an event into the state."""
        if isinstance(event, Started):
            self._start()
        elif isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Warned):
            self._warning = event.message
        elif isinstance(event, Finished):
            self._finish(event.result, finish)
        elif isinstance(event, Cancelled):
            self.update(activity=None)
            self.say(_stopped(event.note))
        elif isinstance(event, Failed):
            self.update(activity=None)
            self.fail(event.error)

    def _start(self) -> None:
        """Show that the files are ready and the work begins."""
        if self.state.activity is not None:
            activity = replace(self.state.activity, fraction=None, note="starting")
            self.update(activity=activity)

    def _finish(self, result: Any, finish: Callable[[Any], str]) -> None:
        """Take a result; a layer that is gone meanwhile is no error."""
        self.update(activity=None)
        began, warning = self._began, self._warning  # `finish` may start another task
        try:
            message = finish(result)
        except UNetError as error:
            self.say(f"{error.what}; the result was dropped.")
            return
        if text := closing_words(message, began, warning):
            self.say(text, "good")

    def _progress(self, event: Progress) -> None:
        """Show how far the task is and how long it will take."""
        activity = self.state.activity
        if activity is None:
            return
        share = min(event.done / event.total, 1.0) if event.total else None
        note = event.note or (f"{share:.0%}" if share is not None else "")
        if activity.kind == "train" and note.startswith("step"):
            note += f", up to {words.seconds(event.total - event.done)} left"
        elif share and " left" not in note:
            note += self._time_left(share)
        self.update(activity=replace(activity, fraction=share, note=note))

    def _time_left(self, share: float) -> str:
        """Estimate the rest from what is done."""
        elapsed = time.monotonic() - self._began
        if elapsed < _SURE_AFTER or share >= 1:
            return ""
        return f", {words.seconds(elapsed * (1 - share) / share)} left"


def closing_words(message: str, began: float, warning: str) -> str:
    """Say what was done, how long it took, and what should be known."""
    took = words.seconds(time.monotonic() - began)
    text = f"{message} ({took})." if message else ""
    return f"{text} {warning}".strip()


def _stopped(note: str) -> str:
    """Say that the work stopped, with what it says itself."""
    text = note.strip().rstrip(".")
    if not text:
        return "Stopped."
    if text.lower().startswith("stopped"):
        return f"{text[0].upper()}{text[1:]}."
    return f"Stopped: {text}."
