"""Each image in a process of its own, which may die, hang or swell without harm."""

from __future__ import annotations

import queue
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from napari_unet.errors import ImageError, UNetError
from napari_unet.events import Cancelled, Finished, drain
from napari_unet.execution.child_process import Child
from napari_unet.execution.protocol import Failed, UnexpectedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_unet.config import BatchConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network

_JOB = "napari_unet.batch.unit:work_apart"
_FINGERPRINT = "napari_unet.batch.unit:fingerprint_apart"
_STOP_AFTER = 3.0
"""Seconds the process has to stop by itself: the promise is five for the whole."""
_LOOK_EVERY = 0.1


class Died(UNetError):
    """The process that computed an image is gone, nobody knows why."""


class Isolated:
    """A segmenter for `napari_unet.batch.run.run_batch`.

    One child process does image after image; it is replaced when it dies, and ended
    when an image takes more time or memory than the settings allow.

    Parameters
    ----------
    model : path-like
        The checkpoint; the child opens it itself.
    """

    def __init__(self, model: str | Path) -> None:
        self._model = str(Path(model).absolute())
        self._child = Child(stop_after=_STOP_AFTER)

    def __call__(
        self,
        source: Path,
        target: Path,
        network: Network,
        config: BatchConfig,
        cancel: CancelToken | None = None,
    ) -> Iterator[Event]:
        """Do one image; see `napari_unet.batch.unit.work`.

        Raises
        ------
        Died
            If the process dies.
        ImageError
            If the image takes more time or memory than it may.
        """
        return self.run(_JOB, source, target, network.digest, config, cancel=cancel)

    def run(
        self,
        job: str,
        source: Path,
        target: Path,
        digest: str,
        config: BatchConfig,
        *args: Any,
        cancel: CancelToken | None = None,
    ) -> Iterator[Event]:
        """Do one image, or a part of its work; as when called.

        Parameters
        ----------
        job : str
            Empty for all of the work; else as for `Child.run`.
        source, target, config, cancel
            As when called.
        digest : str
            SHA-256 of the model.
        *args
            Further arguments of the job.
        """
        begin = time.monotonic()
        job = job or _JOB
        yield from self._events(
            (job, str(source), str(target), self._model, digest, config, *args),
            lambda: self._check(source, config, begin),
            cancel,
        )

    def fingerprint(self, config: BatchConfig) -> dict[str, str]:
        """Ask the process for the fingerprint of its arithmetic.

        Raises
        ------
        DeviceError
            If the device of the settings is absent.
        Died
            If the process dies.
        """
        found: dict[str, str] = drain(self._events((_FINGERPRINT, config)))
        return found

    def _events(
        self,
        job: tuple[Any, ...],
        check: Callable[[], None] = lambda: None,
        cancel: CancelToken | None = None,
    ) -> Iterator[Event]:
        """Run a job in the process and hand its events on."""
        events: queue.Queue[Event] = queue.Queue()
        handle = self._child.run(*job, on_event=events.put, previews=False)
        last = None
        try:
            while not isinstance(last, Finished | Cancelled | Failed):
                if cancel is not None and cancel.is_set():
                    handle.cancel()
                else:
                    check()
                try:
                    last = events.get(timeout=_LOOK_EVERY)
                except queue.Empty:
                    continue
                if not isinstance(last, Failed):
                    yield last
        finally:
            if not handle.done:
                self.close()
        if isinstance(last, Failed):
            raise _told(last.error)

    def close(self) -> None:
        """End the process; the next image starts another."""
        pid = self._child.pid
        if pid is not None:
            _kill(pid)
        self._child.close()

    def _check(self, source: Path, config: BatchConfig, begin: float) -> None:
        """End an image that takes too much."""
        minutes = (time.monotonic() - begin) / 60
        if config.time_limit is not None and minutes > config.time_limit:
            raise ImageError(
                f"{source.name} took longer than it may",
                found=f"{minutes:.3g} minutes",
                expected=f"at most {config.time_limit:g}",
                hint="Raise --time-limit, or choose a faster --tiling.",
            )
        pid = self._child.pid
        if config.memory_limit is None or pid is None:
            return
        taken = own_memory(pid) / 1e9
        if taken > config.memory_limit:
            raise ImageError(
                f"{source.name} took more memory than it may",
                found=f"{taken:.3g} GB",
                expected=f"at most {config.memory_limit:g}",
                hint="Raise --memory-limit, or choose a smaller --tile.",
            )


def own_memory(pid: int) -> int:
    """Bytes of a process that are its own; mapped files do not count.

    0 where the process is gone.
    """
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return int(lines["RssAnon"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.Error:
        return 0


def _told(error: UNetError) -> UNetError:
    """Tell a death from an error of the program."""
    if isinstance(error, UnexpectedError) and "process died" in error.what:
        return Died(error.what)
    return error


def _kill(pid: int) -> None:
    """End a process at once; it may be past listening."""
    try:
        psutil.Process(pid).kill()
    except psutil.Error:
        return
