"""Runs jobs in this process and this thread, with the protocol of a child process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.events import CancelToken, Preview
from napari_unet.execution.protocol import events_of, is_last

if TYPE_CHECKING:
    from napari_unet.execution.protocol import OnEvent, Turn


class InlineJob:
    """A job that runs while it is started; an event handler may cancel it."""

    def __init__(self) -> None:
        self.done = False
        self.token = CancelToken()

    def cancel(self) -> None:
        """Ask the job to stop."""
        self.token.set()

    def tell(self, message: Any) -> None:
        """Send the job a message; an event handler may do so."""
        self.token.tell(message)

    def pause(self, paused: bool = True) -> None:
        """Change nothing: there is nobody to go on meanwhile."""


class Inline:
    """Runs generator functions of this package here and now.

    Parameters
    ----------
    allow : str
        The package whose functions may be run.
    """

    def __init__(self, *, allow: str = "napari_unet") -> None:
        self._allow = allow
        self.job: InlineJob | None = None

    def run(
        self,
        target: str,
        *args: Any,
        on_event: OnEvent,
        turn: Turn = "usual",
        previews: bool = True,
        stop_after: float | None = None,
        **kwargs: Any,
    ) -> InlineJob:
        """Run a job to its end, see `napari_unet.execution.child_process.Child.run`.

        A job that an event handler starts runs between two pieces of the one whose
        event it is. Nothing here can end a job that does not stop, so `stop_after`
        changes nothing.
        """
        job = InlineJob()
        if turn == "usual":
            self.job = job
        for event in events_of(target, args, kwargs, job.token, self._allow):
            if isinstance(event, Preview) and not previews:
                continue
            job.done = is_last(event)
            on_event(event)
        return job

    def close(self) -> None:
        """Ask what runs to stop."""
        if self.job is not None:
            self.job.cancel()
