"""One task at a time: files are prepared in the background, then a job computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_unet.errors import OutputError
from napari_unet.events import Cancelled, CancelToken, Event, Finished, Progress
from napari_unet.execution.protocol import Failed, told
from napari_unet.gui.staging import StagingStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.execution.protocol import Job, Runner

    Prepare = Callable[[CancelToken, Callable[[float], None]], dict[str, Any]]
    Call = Callable[[], None]


@dataclass
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
    """

    target: str
    prepare: Prepare
    on_event: Callable[[Event], None]
    previews: bool = False
    stop_after: float | None = None
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
        self._task: Task | None = None

    @property
    def busy(self) -> bool:
        """Whether a task runs."""
        return self._task is not None

    def start(self, task: Task) -> None:
        """Start a task.

        Raises
        ------
        RuntimeError
            If one is still running.
        """
        if self._task is not None:
            raise RuntimeError("one task at a time")
        self._task = task
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
        """Ask the task to stop."""
        if self._task is not None:
            self._task.token.set()
            if self._task.job is not None:
                self._task.job.cancel()

    def close(self) -> None:
        """Stop the task without another word, and the runner."""
        if self._task is not None:
            self._task.token.set()
            self._task = None
        self._runner.close()

    def _prepare(self, task: Task) -> None:
        """Make the arguments, in the background."""

        def progress(share: float) -> None:
            self._tell(task, Progress(share, 1.0, "preparing the image"))

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

    def _run(self, task: Task, arguments: dict[str, Any]) -> None:
        """Hand the job to the runner, on the main thread."""
        if task is not self._task:
            return
        if task.token.is_set():
            self._deliver(task, Cancelled())
            return
        task.job = self._runner.run(
            task.target,
            on_event=lambda event: self._tell(task, event),
            previews=task.previews,
            stop_after=task.stop_after,
            **arguments,
        )

    def _tell(self, task: Task, event: Event) -> None:
        """Bring an event to the main thread."""
        self._post(lambda: self._deliver(task, event))

    def _deliver(self, task: Task, event: Event) -> None:
        """Hand an event on, unless the task was dropped."""
        if task is not self._task:
            return
        if isinstance(event, Finished | Cancelled | Failed):
            self._task = None
        task.on_event(event)
