"""What a folder of results holds: its state, and whether all of it is still true."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.batch.ledger import LEDGER, Content, Record, newest_of, read
from napari_unet.errors import UsageError
from napari_unet.events import Cancelled, Finished, Progress, Started
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.events import CancelToken, Event


@dataclass(frozen=True)
class State:
    """What the ledger of a folder says.

    Attributes
    ----------
    output : str
        The folder.
    counts : dict of str to int
        Images by outcome; "started" ones are under way, or their process died.
    failures : dict of str to str
        Reasons by image.
    damaged : list of int
        Lines of the ledger that are not what was written.
    seconds : float
        Time that was spent on what is done.
    """

    output: str
    counts: dict[str, int]
    failures: dict[str, str]
    damaged: list[int]
    seconds: float

    def __str__(self) -> str:
        counts = [f"{number} {outcome}" for outcome, number in self.counts.items()]
        lines = [f"{', '.join(counts) or 'nothing yet'}; results in {self.output}"]
        lines += [f"{image}: {reason}" for image, reason in self.failures.items()]
        if self.damaged:
            lines.append(f"Damaged lines in the ledger: {_numbers(self.damaged)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Verdict:
    """Whether the results in a folder are those that were written.

    Attributes
    ----------
    output : str
        The folder.
    right : int
        Files that have the recorded hash.
    wrong : dict of str to str
        What is wrong, by name.
    """

    output: str
    right: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name}: {what}" for name, what in self.wrong.items()]
        count = f"{self.right} files as they were written, {len(self.wrong)} not"
        return "\n".join([*lines, f"{count}; in {self.output}"])


def state(output: str | Path) -> State:
    """Say what the ledger of a folder of results says; nothing is opened but it.

    Raises
    ------
    UsageError
        If the folder has no ledger.
    """
    found = _content(Path(output))
    records = list(found.records.values())
    return State(
        str(output),
        dict(Counter(record.outcome for record in records)),
        {r.input: r.reason for r in records if r.outcome == "failed"},
        found.damaged,
        round(sum(r.seconds for r in records if r.outcome == "done"), 3),
    )


def verify(
    output: str | Path, model: str | Path | None, cancel: CancelToken | None = None
) -> Iterator[Event]:
    """Read all results of a folder again and compare them with the ledger.

    Parameters
    ----------
    output : path-like
        Folder of the results.
    model : path-like, optional
        The checkpoint, compared with the one that the newest result was made with.

    Yields
    ------
    Event
        The last is `Finished` with a `Verdict`, or `Cancelled`.

    Raises
    ------
    UsageError
        If the folder has no ledger.
    """
    folder = Path(output)
    found = _content(folder)
    wrong: dict[str, str] = {}
    if found.damaged:
        wrong[LEDGER] = f"damaged in line {_numbers(found.damaged)}"
    done = [r for r in found.records.values() if r.outcome == "done"]
    wanted = [pair for record in done for pair in _written(record)]
    yield Started("Verifying", len(wanted), "files")
    for number, (name, sha256) in enumerate(wanted):
        if cancel is not None and cancel.is_set():
            yield Cancelled()
            return
        if fault := _fault(folder / name, sha256):
            wrong[name] = fault
        yield Progress(number + 1, len(wanted), name)
    right = len(wanted) - len(wrong.keys() - {LEDGER})
    if model is not None and (fault := _model_fault(model, done)):
        wrong[Path(model).name] = fault
    yield Finished(Verdict(str(output), right, wrong))


def _content(folder: Path) -> Content:
    """Read a ledger that must be there."""
    if not (folder / LEDGER).is_file():
        raise UsageError(
            f"{folder} holds no results of a batch", expected=f"a file {LEDGER} in it"
        )
    return read(folder / LEDGER)


def _written(record: Record) -> list[tuple[str, str]]:
    """Files of a record with their hashes."""
    return [(file, record.sha256(name)) for name, file in record.files.items()]


def _fault(path: Path, sha256: str) -> str:
    """Say what is wrong with a file, empty if nothing is."""
    try:
        if not path.exists():
            return "missing"
        return "" if digest(path) == sha256 else "other bytes than were written"
    except OSError as error:
        return f"unreadable ({error.strerror or error})"


def _model_fault(model: str | Path, done: list[Record]) -> str:
    """Say whether a checkpoint is another one than results were made with."""
    from napari_unet import checkpoints
    from napari_unet.errors import UNetError

    try:
        found = checkpoints.load(model).digest
    except UNetError as error:
        return str(error)
    newest = newest_of(done)
    if newest is None or found == newest.model:
        return ""
    return "not the checkpoint that the results were made with"


def _numbers(lines: list[int]) -> str:
    more = f" and {len(lines) - 10} more" if len(lines) > 10 else ""
    return ", ".join(map(str, lines[:10])) + more
