"""Dask clusters: workers on this computer, or a scheduler that is there already.

Messages of Dask are pickles: who can speak to a scheduler can run programs on it and on
its workers. So ours listens on this computer alone and speaks to nobody without its
certificate, which lives as long as the run and never lies on the disk; and one that is
joined over a network must be encrypted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from napari_unet.errors import UNetError, UsageError
from napari_unet.execution.addresses import (
    address_of,
    refuse_unencrypted,
    security_for,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK = "127.0.0.1"
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from napari_unet.execution.cluster_worker import main; main()"
)
_PLAIN: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
}
"""Without Dask's pages, and without the profile for them, which costs workers time."""
_MOST_STARTS = 3
_CONNECT = 15.0
"""Seconds a scheduler has to answer."""


class Cluster(Protocol):
    """A cluster that is connected.

    Attributes
    ----------
    client : distributed.Client
        The connection.
    """

    client: Any

    def mend(self) -> int:
        """Replace workers that are gone, where that is ours to do; say how many."""
        ...

    def close(self) -> None:
        """Let go of it, and end what is ours."""
        ...


class LocalCluster:
    """A scheduler in this process, and workers in processes of their own.

    Parameters
    ----------
    workers : int
        How many processes compute.
    dashboard : bool
        Whether Dask's page about its work is there, on this computer only.

    Raises
    ------
    UsageError
        If a package for it is missing.
    """

    def __init__(self, workers: int, *, dashboard: bool = False) -> None:
        distributed = _distributed()
        self._folder = tempfile.TemporaryDirectory(prefix="unet-workers-")
        self._security = _temporary_security(distributed)
        if dashboard:
            _need_dashboard()
        self._pages = {} if dashboard else _PLAIN
        with _configured(self._pages):
            self._scheduler = distributed.LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                host=LOOPBACK,
                protocol="tls://",
                security=self._security,
                dashboard_address=f"{LOOPBACK}:0",
                scheduler_kwargs={"dashboard": dashboard},
                silence_logs=logging.CRITICAL,
            )
            self.client = distributed.Client(
                self._scheduler, security=self._security, set_as_default=False
            )
        self._in_vain = 0
        self._threads = max((os.cpu_count() or 1) // workers, 1)
        self.processes = [self._start(number) for number in range(workers)]

    @property
    def page(self) -> str:
        """Address of the dashboard."""
        return str(self._scheduler.dashboard_link)

    def mend(self) -> int:
        """Start workers again that died.

        Raises
        ------
        UNetError
            If none of them comes up.
        """
        dead = [n for n, p in enumerate(self.processes) if p.poll() is not None]
        self._in_vain += len(dead)
        if self._scheduler.scheduler.workers:
            self._in_vain = 0
        if self._in_vain >= _MOST_STARTS * len(self.processes):
            raise UNetError("The workers do not start", found=self._last_words())
        for number in dead:
            self._close_pipe(self.processes[number])
            self.processes[number] = self._start(number)
        return len(dead)

    def close(self) -> None:
        """End all of it."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            self._close_pipe(process)
            process.wait()
        with contextlib.suppress(TimeoutError, OSError):
            self.client.close(timeout=2)
        with contextlib.suppress(TimeoutError, OSError):
            self._scheduler.close(timeout=2)
        self._folder.cleanup()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        """Start a worker; what it may say to whom comes through its pipe."""
        with (Path(self._folder.name) / f"{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={"OMP_NUM_THREADS": str(self._threads), **os.environ},
            )
        told = {
            "address": self._scheduler.scheduler_address,
            "name": f"worker {number + 1}",
            "certificate": self._security.tls_worker_cert,
            "key": self._security.tls_worker_key,
            "folder": self._folder.name,
            "config": self._pages,
        }
        pipe = cast("IO[bytes]", process.stdin)
        with contextlib.suppress(OSError):  # it died, and `mend` sees it
            pipe.write(json.dumps(told).encode() + b"\n")
            pipe.flush()
        return process

    def _last_words(self) -> str:
        """Take the last line that a worker wrote."""
        texts = (log.read_text("utf-8", "replace") for log in self._logs())
        lines = [line for text in texts for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def _logs(self) -> list[Path]:
        return sorted(Path(self._folder.name).glob("*.log"))

    @staticmethod
    def _close_pipe(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(OSError):
            cast("IO[bytes]", process.stdin).close()


class JoinedCluster:
    """A scheduler that somebody else started.

    Parameters
    ----------
    address : str
        Where it listens, such as ``tls://10.0.0.1:8786``, which is also understood
        without ``tls://``; or the file that ``dask scheduler --scheduler-file`` writes.
    certificates : path-like, optional
        Folder with ca.pem, cert.pem and key.pem; what Dask is configured with when not
        given.

    Raises
    ------
    UsageError
        If it cannot be reached, is not encrypted and not on this computer, or the
        certificates are not there.
    """

    def __init__(self, address: str, certificates: str | Path | None = None) -> None:
        distributed = _distributed()
        told = address_of(address)
        refuse_unencrypted(told)
        try:
            self.client = distributed.Client(
                told,
                security=security_for(distributed, told, certificates),
                timeout=_CONNECT,
                set_as_default=False,
            )
        except (OSError, TimeoutError, TypeError, ValueError) as error:
            raise UsageError(
                f"The scheduler at {told} cannot be joined",
                found=_first_line(error),
                hint="Is it running, and are these its certificates? --certificates "
                "names their folder.",
            ) from error

    def mend(self) -> int:
        """Workers are not ours to start."""
        return 0

    def close(self) -> None:
        """Leave; the scheduler and its workers stay."""
        with contextlib.suppress(TimeoutError, OSError):
            self.client.close(timeout=2)


def _temporary_security(distributed: Any) -> Any:
    """Make a certificate for this run alone."""
    try:
        return distributed.Security.temporary()
    except ImportError as error:
        raise _missing("cryptography") from error


def _distributed() -> Any:
    """Import Dask's scheduler, which takes a second and is seldom needed."""
    try:
        import distributed
    except ImportError as error:
        raise _missing("distributed") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    return distributed


def _need_dashboard() -> None:
    try:
        import bokeh  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "The dashboard needs the package bokeh", hint="pip install bokeh"
        ) from error


def _missing(package: str) -> UsageError:
    return UsageError(
        f"Workers need the package {package}",
        hint="pip install 'unet-napari[dask]'",
    )


def _configured(settings: Mapping[str, Any]) -> contextlib.AbstractContextManager[Any]:
    import dask

    return cast("contextlib.AbstractContextManager[Any]", dask.config.set(settings))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
