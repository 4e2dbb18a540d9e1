"""Tasks: files are prepared in the background, then a job computes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_unet.errors import OutputError
from napari_unet.events import Cancelled, CancelToken, Event, Progress
from napari_unet.execution.protocol import Failed, is_last, told
from napari_unet.execution.wire import EventSender
from napari_unet.gui.staging import StagingStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.execution.protocol import Job, Runner, Turn

    Prepare = Callable[[CancelToken, Callable[[float], None]], dict[str, Any]]
    Call = Callable[[], None]


@dataclass(eq=False)
class Task:
    """A job and how it gets its files.

    Attributes
    ----------
    target : str
        Generator function that the runner runs.
    prepare : callable
        Makes the keyword arguments of `target`; called in the background with a token
        to check and a function that takes the share done.
    on_event : callable
        Called with every event on the main thread.
    previews : bool
        Whether `Preview` events are wanted.
    stop_after : float, optional
        Seconds the job has to stop by itself, the runner's own if not given.
    turn : {"first", "usual", "last"}
        When it is its turn, see `napari_unet.execution.protocol.TURNS`.
    late : callable
        Makes the arguments that are settled last, on the main thread.
    """

    target: str
    prepare: Prepare
    on_event: Callable[[Event], None]
    previews: bool = False
    stop_after: float | None = None
    turn: Turn = "usual"
    late: Callable[[], dict[str, Any]] = dict
    token: CancelToken = field(default_factory=CancelToken)
    job: Job | None = None


class Tasks:
    """Runs tasks and delivers their events on the main thread.

    Parameters
    ----------
    runner : Runner
        Where jobs compute.
    post : callable
        Calls a function on the main thread, soon.
    background : callable
        Calls a function on another thread.
    """

    def __init__(
        self,
        runner: Runner,
        post: Callable[[Call], None],
        background: Callable[[Call], None],
    ) -> None:
        self._runner = runner
        self._post = post
        self._background = background
        self._open: list[Task] = []

    @property
    def busy(self) -> bool:
        """Whether a task of the usual turn runs."""
        return any(task.turn == "usual" for task in self._open)

    @property
    def spare_time_is_used(self) -> bool:
        """Whether something is done in spare time; another such task would end it."""
        return any(task.turn == "last" for task in self._open)

    def start(self, task: Task) -> None:
        """Start a task.

        Raises
        ------
        RuntimeError
            If one of the usual turn is still running and this is another.
        """
        if task.turn == "usual" and self.busy:
            raise RuntimeError("one task at a time")
        self._open.append(task)
        self._background(lambda: self._prepare(task))

    def aside(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Call `work` in the background, then `then` with what it returned.

        `then` is called on the main thread, with the `UNetError` if there was one.
        This is no task: it neither waits for one nor keeps one waiting.
        """

        def call() -> None:
            try:
                result = work()
            except Exception as error:
                result = told(error)
            self._post(lambda: then(result))

        self._background(call)

    def stop(self) -> None:
        """Ask all tasks to stop but what is done in spare time."""
        for task in list(self._open):
            if task.turn != "last":
                self.cancel(task)

    def cancel(self, task: Task) -> None:
        """Ask one task to stop."""
        task.token.set()
        if task.job is not None:
            task.job.cancel()

    def pause(self, paused: bool) -> None:
        """Let the job of the usual turn rest, or let it go on."""
        for task in self._open:
            if task.turn == "usual" and task.job is not None:
                task.job.pause(paused)

    def tell(self, make: Callable[[CancelToken], Any]) -> None:
        """Send the job of the usual turn a message that is made in the background.

        It is dropped if it cannot be made any more, or the job has ended meanwhile.
        """
        for task in self._open:
            if task.turn == "usual" and task.job is not None:
                self._background(partial(self._make_and_tell, task, make))

    def close(self, then: Call) -> None:
        """Stop all tasks without another word and the runner, `then` do the rest.

        Both take a moment and are done in the background.
        """
        for task in self._open:
            task.token.set()
        self._open.clear()

        def end() -> None:
            self._runner.close()
            then()

        self._background(end)

    def _prepare(self, task: Task) -> None:
        """Make the arguments, in the background."""
        tell = EventSender(lambda event: self._tell(task, event), previews=False)

        def progress(share: float) -> None:
            tell(Progress(share, 1.0, "preparing the image"))

        try:
            arguments = task.prepare(task.token, progress)
        except StagingStopped:
            self._tell(task, Cancelled())
        except OSError as error:
            reason = error.strerror or str(error)
            lost = OutputError("The image could not be prepared", found=reason)
            self._tell(task, Failed(lost))
        except Exception as error:
            self._tell(task, Failed(told(error)))
        else:
            self._post(lambda: self._run(task, arguments))

    def _make_and_tell(self, task: Task, make: Callable[[CancelToken], Any]) -> None:
        """Make a message, in the background, and send it from the main thread."""
        with contextlib.suppress(StagingStopped, OSError):
            message = make(task.token)
            self._post(lambda: self._send(task, message))

    def _send(self, task: Task, message: Any) -> None:
        """Send a message to a job that still runs."""
        if task in self._open and task.job is not None:
            task.job.tell(message)

    def _run(self, task: Task, arguments: dict[str, Any]) -> None:
        """Hand the job to the runner, on the main thread."""
        if task not in self._open:
            return
        if task.token.is_set():
            self._deliver(task, Cancelled())
            return
        try:
            arguments |= task.late()
        except Exception as error:
            self._deliver(task, Failed(told(error)))
            return
        task.job = self._runner.run(
            task.target,
            on_event=lambda event: self._tell(task, event),
            turn=task.turn,
            previews=task.previews,
            stop_after=task.stop_after,
            **arguments,
        )

    def _tell(self, task: Task, event: Event) -> None:
        """Bring an event to the main thread."""
        self._post(lambda: self._deliver(task, event))

    def _deliver(self, task: Task, event: Event) -> None:
        """Hand an event on, unless the task was dropped."""
        if task not in self._open:
            return
        if is_last(event):
            self._open.remove(task)
        task.on_event(event)
