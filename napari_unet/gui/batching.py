"""The batch page's actions: choose files, run, follow file by file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.config import BatchConfig
from napari_unet.errors import UNetError
from napari_unet.events import Cancelled, Event, Finished, Progress, Warned
from napari_unet.execution.protocol import Failed
from napari_unet.gui import words
from napari_unet.gui.command import batch_command
from napari_unet.gui.estimating import Estimating
from napari_unet.gui.state import BatchFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.gui.session import Session

_FOLDER = "unet-results"


class Batching:
    """What can be done on the batch page.

    Parameters
    ----------
    session : Session
        Shared with the other pages.

    Attributes
    ----------
    estimating : Estimating
        Says what the files would take.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.estimating = Estimating(session)
        self._inputs: tuple[str, ...] = ()
        self._pattern = "*"
        self._asked = 0
        self._at = 0

    def choose(self, inputs: Sequence[str]) -> None:
        """Take files and folders; the results go beside them unless chosen already."""
        self._inputs = tuple(inputs)
        if inputs and not self._session.state.output:
            first = Path(inputs[0])
            home = first if first.is_dir() else first.parent
            self._session.update(output=str(home / _FOLDER))
        self._list()

    def set_pattern(self, pattern: str) -> None:
        """Take only the files of folders whose name matches."""
        pattern = pattern.strip() or "*"
        if pattern != self._pattern:
            self._pattern = pattern
            self._list()

    def set_output(self, folder: str) -> None:
        """Choose the folder of the results."""
        self._session.update(output=folder)
        self._list()

    def run(self, settings: Mapping[str, Any]) -> None:
        """Do the files; raises `UsageError` if a setting cannot be used."""
        state = self._session.state
        if self._session.tasks.busy or state.model is None or not state.files:
            return
        config = self._config(settings)
        arguments = {
            "inputs": list(self._inputs),
            "model": state.model.path,
            "output": state.output,
            "config": config,
        }
        self._at = 0
        waiting = tuple(BatchFile(file.path) for file in state.files)
        self._session.update(files=waiting, paused=False, estimate="")
        self._session.begin(
            "batch",
            f"Running {words.count(len(waiting), 'file')}",
            "napari_unet.api:iter_batch",
            lambda _token, _progress: arguments,
            self._finish,
            self._watch,
        )

    def retry(self, settings: Mapping[str, Any]) -> None:
        """Do the files again that failed."""
        self.run({**settings, "retry_failed": True})

    def pause(self) -> None:
        """Stop, to go on later: the results' ledger knows what is done."""
        activity = self._session.state.activity
        if activity is not None and activity.kind == "batch":
            self._session.update(paused=True)
            self._session.stop()

    def command(self, settings: Mapping[str, Any]) -> str:
        """Write the command line that does what `run` would do.

        Raises
        ------
        UsageError
            If a setting cannot be used.
        """
        state = self._session.state
        model = state.model.path if state.model else ""
        config = self._config(settings)
        return batch_command(self._inputs, model, state.output, config)

    def _config(self, settings: Mapping[str, Any]) -> BatchConfig:
        """Put the settings of a run together."""
        channels = self._session.state.channels
        return BatchConfig.build(**settings, pattern=self._pattern, channels=channels)

    def _list(self) -> None:
        """Show which files would be done; a large folder takes its time elsewhere."""
        if not self._inputs:
            return
        self._asked += 1
        asked, output = self._asked, self._session.state.output
        inputs, pattern = self._inputs, self._pattern
        self._session.update(files=(), listing=True, paused=False, estimate="")

        def then(found: Any) -> None:
            if asked == self._asked:
                self._take(found)

        self._session.tasks.aside(lambda: _look(inputs, output, pattern), then)

    def _take(self, found: Any) -> None:
        """Show the files that were found, or why there are none."""
        self._session.update(listing=False)
        if isinstance(found, UNetError):
            self._session.fail(found)
            return
        files, notes = found
        self._session.update(files=files)
        if self._session.state.activity is None:
            self._session.say(notes)

    def _watch(self, event: Event) -> None:
        """Follow the batch in the table."""
        if isinstance(event, Progress):
            self._move_to(event.done)
        elif isinstance(event, Warned):
            self._note_failure(event.message)
        elif isinstance(event, Cancelled | Failed | Finished):
            self._mark(lambda file: file.status == "working", "waiting", "")

    def _move_to(self, done: float) -> None:
        """Show which file is worked on: `done` counts files and parts of files."""
        files = list(self._session.state.files)
        now = int(done)
        for number in range(self._at, min(now, len(files))):
            if files[number].status in ("waiting", "working"):
                files[number] = replace(files[number], status="done", note="")
        if now < len(files) and files[now].status != "failed":
            share = f"{done - now:.0%}"
            files[now] = replace(files[now], status="working", note=share)
        self._at = now
        self._session.update(files=tuple(files))

    def _note_failure(self, message: str) -> None:
        """Mark the file that a warning says has failed."""
        name, _, reason = message.partition(" failed: ")
        if reason:
            self._mark(lambda file: Path(file.path).name == name, "failed", reason)

    def _mark(self, which: Any, status: str, note: str) -> None:
        """Set the status of some rows."""
        files = tuple(
            replace(file, status=status, note=note) if which(file) else file
            for file in self._session.state.files
        )
        self._session.update(files=files)

    def _finish(self, summary: Mapping[str, Any]) -> str:
        """Take over what became of every file."""
        items = {item["input"]: item for item in summary["items"]}
        files = tuple(
            _ended(file, items[file.path]) if file.path in items else file
            for file in self._session.state.files
        )
        self._session.update(files=files)
        counts = [item["status"] for item in summary["items"]]
        parts = [f"{counts.count(s)} {s}" for s in ("done", "skipped", "failed")]
        return f"Batch: {', '.join(parts)}"


def _ended(file: BatchFile, item: Mapping[str, Any]) -> BatchFile:
    """Take over what became of a file."""
    return BatchFile(
        file.path,
        item["status"],
        item["reason"],
        item["output"],
        item["probabilities"],
    )


def _look(
    inputs: Sequence[str], output: str, pattern: str
) -> tuple[tuple[BatchFile, ...], str]:
    """List files and what is to be said about them."""
    from napari_unet.batch.inputs import gather

    found = gather(inputs, output, pattern)
    files = tuple(BatchFile(str(image.path)) for image in found.images)
    return files, " ".join(found.notes)
