"""A warm child process that computes, so that the viewer cannot be hurt.

A crash, a kill for memory or a stuck driver costs a job and not the viewer; memory is
really given back; Stop always acts. The process starts with the first job and again
after it was lost. Large arrays do not cross: jobs read and write files.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from typing import IO, TYPE_CHECKING, Any, cast

import psutil

from napari_unet.events import Cancelled
from napari_unet.execution import wire
from napari_unet.execution.handle import JobHandle
from napari_unet.execution.protocol import Failed, UnexpectedError, is_last, told

if TYPE_CHECKING:
    from napari_unet.execution.protocol import OnEvent, Turn

_LOG = logging.getLogger(__name__)
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from napari_unet.execution.child import main; main(sys.argv[2])"
)
_KILL_AFTER = 0.3
_TAIL = 4000
_NICER, _NICEST = 5, 19
"""By how much a child gives way on POSIX, and the lowest priority there is."""


class Child:
    """Runs generator functions of this package in one child process.

    One at a time, and small ones ahead of it or in spare time, see `TURNS`.

    Parameters
    ----------
    allow : str
        The package whose functions may be run.
    stop_after : float
        Seconds between asking a job to stop and ending its process, unless the job
        has a time of its own.
    gives_way : bool
        Whether this process goes first where both want the same core, as a window has
        to: its waits were twice as long beside a child of its own priority.
    """

    def __init__(
        self,
        *,
        allow: str = "napari_unet",
        stop_after: float = 1.5,
        gives_way: bool = False,
    ) -> None:
        self._allow = allow
        self._stop_after = stop_after
        self._gives_way = gives_way
        self._worker: _Worker | None = None
        self._job: JobHandle | None = None
        self._numbers = itertools.count()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        alive = self._worker is not None and self._worker.alive
        return self._worker.pid if alive and self._worker else None

    def run(
        self,
        target: str,
        *args: Any,
        on_event: OnEvent,
        turn: Turn = "usual",
        previews: bool = True,
        stop_after: float | None = None,
        **kwargs: Any,
    ) -> JobHandle:
        """Start a job.

        Parameters
        ----------
        target : str
            ``"module:function"``, a generator function that takes ``cancel``.
        *args, **kwargs
            Its picklable arguments.
        on_event : callable
            Called with every event, on a reader thread.
        turn : {"first", "usual", "last"}
            When the job has its turn. One that goes first or last replaces the one
            before, which ends in `Cancelled`.
        previews : bool
            Whether `Preview` events are wanted; those over 4 MB never come.
        stop_after : float, optional
            Seconds this job has to stop by itself once asked, for one that has
            something to keep.

        Raises
        ------
        RuntimeError
            If a job of the usual turn is still running and this is another.
        """
        if turn == "usual" and self._job is not None and not self._job.done:
            raise RuntimeError("one job at a time")
        number, arguments = next(self._numbers), pickle.dumps((args, kwargs))
        patience = self._stop_after if stop_after is None else stop_after
        while True:
            worker = self._living()
            job = JobHandle(number, turn, on_event, patience, worker.stop, worker.send)
            if turn == "usual":
                self._job = job
            if worker.start(job, (number, turn, target, arguments, previews)):
                return job

    def close(self) -> None:
        """End the child process; jobs that run are asked to stop first."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _living(self) -> _Worker:
        """Find the process, or start one."""
        if self._worker is None or not self._worker.alive:
            self._worker = _Worker(self._allow, self._stop_after, self._gives_way)
        return self._worker

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """One life of the child process: its pipes, its reader thread, its end."""

    def __init__(self, allow: str, stop_after: float, gives_way: bool) -> None:
        self._stop_after = stop_after
        self._errors = tempfile.TemporaryFile()
        self._process = _spawn(allow, self._errors)
        if gives_way:
            _give_way(self._process.pid)
        self._logged = 0
        self._jobs: dict[int, JobHandle] = {}
        self._lock = threading.Lock()
        self._is_ending = False
        self._ended = threading.Event()
        self._reader = threading.Thread(
            target=self._read, name="U-Net events", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs; `Popen.poll` cannot tell while the reader waits for it."""
        if self._is_ending or self._ended.is_set():
            return False
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def start(self, job: JobHandle, message: tuple[Any, ...]) -> bool:
        """Send a job, unless the process is being ended; the reader tells a loss."""
        with self._lock:
            if self._is_ending:
                return False
            self._jobs[job.number] = job
        self.send(("job", *message))
        if self._ended.is_set():
            self._tell_loss()
        return True

    def stop(self, job: JobHandle) -> None:
        """Ask the job to stop, and see to it that it does.

        With one of the usual turn all others stop, which might delay it.
        """
        if job.turn == "usual":
            self._give_up_all()
        self.send(("cancel", job.number))
        threading.Thread(target=self._insist, args=(job,), daemon=True).start()

    def close(self) -> None:
        """Close the pipe, upon which the process leaves; end it if it does not."""
        self._give_up_all()
        with self._lock, contextlib.suppress(OSError):
            cast("IO[bytes]", self._process.stdin).close()
        if not self._ended.wait(self._stop_after):
            self._end()
        if threading.current_thread() is not self._reader:
            self._reader.join(self._stop_after)

    def send(self, message: Any) -> None:
        """Write to the process; a lost one is told by the reader."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            wire.send(cast("Any", self._process.stdin), message)

    def _insist(self, job: JobHandle) -> None:
        """End the process if the job does not stop by itself and no other is lost."""
        if job.wait(job.stop_after):
            return
        with self._lock:
            if job.turn != "usual" and any(map(_is_wanted, self._jobs.values())):
                return
            self._is_ending = True
        self._give_up_all()
        self._end()

    def _give_up_all(self) -> None:
        """Take the loss of any job for a stop, not for an error."""
        with self._lock:
            for job in self._jobs.values():
                job.cancelled = True

    def _end(self) -> None:
        """End the process, politely and then not."""
        self._process.terminate()
        if not self._ended.wait(_KILL_AFTER):
            self._process.kill()

    def _read(self) -> None:
        """Deliver events until the process ends, then say how it ended."""
        source = cast("Any", self._process.stdout)
        with contextlib.suppress(EOFError, OSError, ValueError):
            while True:
                self._deliver(source)
        self._process.wait()
        self._ended.set()
        self._tell_loss()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                cast("IO[bytes]", stream).close()

    def _deliver(self, source: Any) -> None:
        """Read one event and hand it to its job."""
        number, body = _load(wire.receive(source))
        with self._lock:
            job = self._jobs.get(number)
        if job is None:
            return
        try:
            event = _load(body)
        except Exception as error:
            event = Failed(told(error))
        if is_last(event):
            with self._lock:
                del self._jobs[number]
            self._log_words()
        job.deliver(event)

    def _tell_loss(self) -> None:
        """End the jobs that the process took with it."""
        with self._lock:
            lost, self._jobs = list(self._jobs.values()), {}
        for job in lost:
            stopped = job.cancelled
            job.deliver(Cancelled("stopped") if stopped else Failed(self._loss()))

    def _loss(self) -> UnexpectedError:
        """Say that the process is gone, with what it wrote last."""
        code = self._process.returncode
        reason = "out of memory?" if code in (-9, 137) else f"exit status {code}"
        return UnexpectedError(
            f"The computing process died ({reason})",
            hint="Nothing in the viewer is lost. Try again, with a smaller tile size "
            "if memory is short.",
            details=self._last_words(),
        )

    def _last_words(self) -> str:
        """Read the end of what the process wrote to its standard error."""
        with contextlib.suppress(OSError, ValueError):
            size = self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, size - _TAIL))
            return self._errors.read().decode(errors="replace")
        return ""

    def _log_words(self) -> None:
        """Log what was printed since the last time: warnings, errors of threads."""
        if not hasattr(os, "pread"):  # seeking would move the place of its writing
            return
        with contextlib.suppress(OSError, ValueError):
            handle = self._errors.fileno()
            begin, self._logged = self._logged, os.fstat(handle).st_size
            begin = max(begin, self._logged - _TAIL)
            words = os.pread(handle, self._logged - begin, begin)
            if text := words.decode(errors="replace").strip():
                _LOG.warning("The computing process said: %s", text)


def _is_wanted(job: JobHandle) -> bool:
    """Whether somebody waits for a job."""
    return job.turn == "usual" or (job.turn == "first" and not job.cancelled)


def _load(body: bytes) -> Any:
    """Read what the process sent."""
    return wire.EventUnpickler(io.BytesIO(body)).load()


def _spawn(allow: str, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the process with this process's import path and no window."""
    path = [os.path.abspath(entry) for entry in sys.path]
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _BOOT, json.dumps(path), allow],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        creationflags=flags,
    )


def _give_way(pid: int) -> None:
    """Lower the priority of a process below this one's, where the system lets us."""
    if sys.platform == "win32":
        priority = int(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        priority = min(psutil.Process().nice() + _NICER, _NICEST)
    with contextlib.suppress(psutil.Error):
        psutil.Process(pid).nice(priority)
