"""What a worker of a cluster does: one image at a time, in a process of its own.

Whoever started it may be dead or cut off and somebody else at the same image. So a
worker computes only while the lock of its run, a file in the output folder, is alive;
and the result in the making has a lock of its own.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import __version__
from napari_unet.batch.isolated import Died, Isolated
from napari_unet.batch.locks import Locks
from napari_unet.batch.made import Made
from napari_unet.batch.names import files_of
from napari_unet.batch.numerics import versions
from napari_unet.events import Cancelled, CancelToken, Finished, Progress, Warned
from napari_unet.execution.wire import EventSender
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.config import BatchConfig
    from napari_unet.events import Event

_SELF = uuid.uuid4().hex
_TELL_EVERY = 0.5
"""Seconds between two events about progress, which all pass through the scheduler."""
_LOOK_EVERY = 1.0
"""Seconds between looks at the lock of the run."""
_busy, _changing = threading.Lock(), threading.Lock()
_apart: dict[str, Isolated] = {}
_locks: dict[Path, Locks] = {}
_cancels: dict[str, CancelToken] = {}
_stopped: set[str] = set()


@dataclass(frozen=True)
class Task:
    """One image, or a unit of the work on it, for one worker.

    Attributes
    ----------
    key : str
        Its name on the cluster.
    topic : str
        Under which its events are told.
    worker : str
        Mark of the process it is meant for, see `facts`.
    run : pathlib.Path
        File of the lock of the run.
    source, target, model : str
        Paths of the image, the result and the checkpoint.
    digest : str
        SHA-256 that the checkpoint must have.
    config : BatchConfig
        How to read and predict.
    job : str
        Which unit of the work, empty for all of it; see `napari_unet.batch.slabs`.
    args : tuple
        Its further arguments.
    name : str
        Tells a unit from others on the same image that may be done at the same time.
    """

    key: str
    topic: str
    worker: str
    run: Path
    source: str
    target: str
    model: str
    digest: str
    config: BatchConfig
    job: str = ""
    args: tuple[Any, ...] = ()
    name: str = ""


def facts(run: Path, model: str, config: BatchConfig) -> dict[str, Any]:
    """Say what a worker is.

    Parameters
    ----------
    run : pathlib.Path
        File of the lock of the run.
    model : str
        The checkpoint.
    config : BatchConfig
        Says which device and precision are used.

    Returns
    -------
    dict
        mark: of this process; versions; numerics: the fingerprint of its arithmetic;
        run: what it reads in the file of the lock, None if it does not see it.

    Raises
    ------
    DeviceError
        If it has no such device.
    """
    with _busy:
        return {
            "mark": _SELF,
            "versions": {"unet-napari": __version__, **versions()},
            "run": _text(run),
            "numerics": _isolated(model).fingerprint(config),
        }


def do(task: Task) -> Made | dict[str, Any] | None:
    """Do one image, or a unit of its work, which gives plain values; None if stopped.

    Raises
    ------
    Died
        If the computing process died, or this is not the worker that was meant.
    UNetError
        As `napari_unet.batch.unit.segment` does.
    """
    if task.worker != _SELF:
        raise Died("The worker was replaced by another")
    with _changing:
        locks = _locks_of(task.run.parent.parent)
        cancel = _cancels[task.key] = _Leave(locks, task.run)
        if task.key in _stopped:
            cancel.set()
    try:
        name = f"{Path(task.target).name} {task.name}".rstrip()
        with _turn(locks, name, cancel) as mine:
            return _done(task, cancel) if mine else None
    finally:
        with _changing:
            del _cancels[task.key]
            _stopped.discard(task.key)


async def stop(key: str) -> None:  # async: so nobody has to wait for it
    """Ask a task to stop, which may not have begun."""
    with _changing:
        _stopped.add(key)
        if key in _cancels:
            _cancels[key].set()


async def leave(folder: Path) -> None:
    """Let go of the model and of an output folder, unless the worker is in use."""
    with _changing, contextlib.ExitStack() as held:
        if _cancels or not _busy.acquire(blocking=False):
            return
        held.callback(_busy.release)
        if folder in _locks:
            _locks.pop(folder).close()
        for isolated in _apart.values():
            isolated.close()
        _apart.clear()


class _Leave(CancelToken):
    """Set once a stop is asked for, or nobody waits for the result any more."""

    def __init__(self, locks: Locks, run: Path) -> None:
        super().__init__()
        self._locks, self._run = locks, run
        self._looked = 0.0

    def is_set(self) -> bool:
        """Whether to stop."""
        if not super().is_set() and time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            if self._locks.is_over(self._run):
                self.set()
        return super().is_set()


@contextlib.contextmanager
def _turn(locks: Locks, name: str, cancel: CancelToken) -> Iterator[bool]:
    """Wait until nobody else is at a result; False where that was in vain."""
    with contextlib.ExitStack() as held:
        while not cancel.is_set():
            if _busy.acquire(timeout=0.1):
                held.callback(_busy.release)
                break
        while not cancel.is_set():
            if lock := locks.take(f"worker {name}"):
                held.callback(locks.release, lock)
                break
            time.sleep(0.1)
        yield not cancel.is_set()


def _done(task: Task, cancel: CancelToken) -> Made | dict[str, Any] | None:
    """Compute, hash what was written, and tell events on the way."""
    source, target = Path(task.source), Path(task.target)
    send = EventSender(partial(_tell, task), previews=False, interval=_TELL_EVERY)
    apart = _isolated(task.model)
    for event in apart.run(
        task.job, source, target, task.digest, task.config, *task.args, cancel=cancel
    ):
        if isinstance(event, Finished):
            if {"head", "slab"} & event.result.keys():
                return dict(event.result)
            written = files_of(target, task.config).values()
            return Made(event.result, tuple(map(digest, written)))
        if isinstance(event, Cancelled):
            return None
        send(event)
    return None


def _tell(task: Task, event: Event) -> None:
    """Send an event to who started the task, as plain values."""
    from distributed import get_worker

    if isinstance(event, Progress):
        words: list[Any] = [float(event.done), float(event.total)]
    elif isinstance(event, Warned):
        words = [event.message]
    else:
        return
    get_worker().log_event(task.topic, [task.key, *words])


def heard(words: list[Any]) -> Event:
    """Make the event again that `_tell` sent."""
    return Warned(*words) if len(words) == 1 else Progress(*words)


def _isolated(model: str) -> Isolated:
    """Take the process that has this model open, or start one."""
    if model not in _apart:
        for other in _apart.values():
            other.close()
        _apart.clear()
        _apart[model] = Isolated(model)
    return _apart[model]


def _locks_of(folder: Path) -> Locks:
    if folder not in _locks:
        _locks[folder] = Locks(folder)
    return _locks[folder]


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
