"""The workers of a cluster as those who do the images of a batch.

The process that owns the output folder hands each image to one worker, which writes the
result under its hidden name and hashes it. All else stays here: ledger, locks, names.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import __version__
from napari_unet.batch import remote
from napari_unet.batch.admission import FETCH, Admission, answer_of
from napari_unet.batch.divided import Divided, is_begun
from napari_unet.batch.isolated import Died
from napari_unet.batch.lanes import Waiting
from napari_unet.batch.locks import Locks
from napari_unet.batch.numerics import versions
from napari_unet.batch.shares import Order, Share, Shares
from napari_unet.errors import UNetError
from napari_unet.events import Cancelled, Finished, Warned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.config import BatchConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.execution.cluster import Cluster
    from napari_unet.networks.network import Network

_LOOK_EVERY = 0.5
"""Seconds between looks at who is there."""
_PATIENCE = 20.0
"""Seconds the scheduler may take to answer."""
_STOP_AFTER = 3.5
"""Seconds a worker has to stop: the promise is five for the whole."""
_REST = 0.1
_GROWING = 8
"""Workers a cluster of others may come to have, though some may not be there yet."""
LEAST = 4 << 20
"""Pixels of a slab below which a stack is not divided."""
_PENDING = object()


class Crew:
    """A segmenter for `napari_unet.batch.run.run_batch`, and its lanes.

    Parameters
    ----------
    cluster : Cluster
        Who computes. It is closed with the crew.
    model : path-like
        The checkpoint; each worker opens it itself, once.
    output : pathlib.Path
        Folder of the results, which the workers see too.
    config : BatchConfig
        Says which device and precision are used.
    numerics : dict of str to str
        Fingerprint of results that are there already; empty if there are none.
    """

    def __init__(
        self,
        cluster: Cluster,
        model: str | Path,
        output: Path,
        config: BatchConfig,
        numerics: dict[str, str],
    ) -> None:
        self._cluster, self._client = cluster, cluster.client
        self._model = str(Path(model).resolve())
        self._config = config
        self._locks = Locks(output.resolve())
        self._topic = f"unet-{uuid.uuid4().hex}"
        lock = self._locks.take(self._topic)
        if lock is None:
            raise UNetError("The lock of the run was taken by somebody else")
        self._run = lock.path
        here = {"unet-napari": __version__, **versions()}
        self._admission = Admission(here, self._run.read_text(), numerics)
        self._asked: dict[str, Any] = {}  # future of its facts, by address of a worker
        self._shares = Shares(self._admission.marks)
        self.least = LEAST
        self._inbox: dict[str, deque[Event]] = {}
        self._news = threading.Event()
        self._looked = self._began = time.monotonic()
        self._client.subscribe_topic(self._topic, self._hear)
        self._look()

    @property
    def lanes(self) -> int:
        """How many workers take part."""
        return len(self._admission.marks)

    def tend(self) -> Iterator[Event]:
        """See who came and who went.

        Yields
        ------
        Warned
            About workers that are gone or left out.

        Raises
        ------
        UNetError
            If the scheduler is gone or no worker can be used.
        """
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return
        for gone in self._look():
            yield Warned(f"Worker {gone} is gone.")
        for address, future in list(self._asked.items()):
            if future.done():
                del self._asked[address]
                if (answer := answer_of(future)) is not None:
                    self._admission.hear(address, answer)
        patient = time.monotonic() - self._began < _PATIENCE
        for address, reason in self._admission.decide(bool(self._asked) and patient):
            yield Warned(f"Worker {address} is left out: {reason}.")
        if not self._asked:
            self._admission.refuse_empty()

    def rest(self) -> None:
        """Wait until something happens, or a moment."""
        self._news.wait(_REST)
        self._news.clear()

    def __call__(
        self,
        source: Path,
        target: Path,
        network: Network,
        config: BatchConfig,
        cancel: CancelToken | None = None,
    ) -> Iterator[Event]:
        """Have one image done; see `napari_unet.batch.unit.work`.

        A huge stack is divided among the workers that nobody else wants, if its result
        is an OME-Zarr.

        Raises
        ------
        Died
            If the worker is gone, or the process that computed for it.
        UNetError
            As the work itself does.
        """
        order = Order(source.absolute(), target.absolute(), network.digest, config)
        unit = partial(self._unit, order, cancel)
        workers = config.workers or max(self.lanes, _GROWING)
        if target.suffix != ".zarr" or (workers == 1 and not is_begun(target)):
            yield from unit()
            return
        divided = Divided(order.target, unit, Share(self._shares, order), cancel)
        yield from divided.events(workers, self.least)

    def _unit(
        self,
        order: Order,
        cancel: CancelToken | None,
        job: str = "",
        *args: Any,
        name: str = "",
    ) -> Iterator[Event]:
        """Have an image done, or a unit of its work."""
        with self._shares.wanting(order):
            while (address := self._shares.free) is None:
                if cancel is not None and cancel.is_set():
                    yield Cancelled()
                    return
                yield Waiting()
        task = remote.Task(
            key=f"unet-{uuid.uuid4().hex}",
            topic=self._topic,
            worker=self._admission.marks[address],
            run=self._run,
            source=str(order.source),
            target=str(order.target),
            model=self._model,
            digest=order.digest,
            config=order.config,
            job=job,
            args=args,
            name=name,
        )
        with self._shares.busy(address, order):
            yield from self._done(task, address, cancel)

    def _done(
        self, task: remote.Task, address: str, cancel: CancelToken | None
    ) -> Iterator[Event]:
        """Hand a task to a worker, and let go of it however it ends."""
        self._inbox[task.key] = deque()
        future = self._submit(remote.do, task, address=address, key=task.key)
        try:
            yield from self._watch(future, task, address, cancel)
        finally:
            if not future.done():
                self._stop(task, address)
            future.cancel()
            del self._inbox[task.key]

    def close(self) -> None:
        """End the workers, or leave them as they were."""
        folder = self._run.parent.parent
        with contextlib.suppress(Exception):  # they, or the scheduler, may be gone
            self._client.run(
                remote.leave, folder, workers=list(self._admission.marks), wait=False
            )
        self._cluster.close()
        self._locks.close()

    def _watch(
        self, future: Any, task: remote.Task, address: str, cancel: CancelToken | None
    ) -> Iterator[Event]:
        """Hand on what a worker tells, until it is done."""
        asked, made = None, _PENDING
        while made is _PENDING:
            yield from self._told(task.key)
            if self._admission.marks.get(address) != task.worker:
                raise Died(f"The worker {address} is gone")
            if cancel is not None and cancel.is_set():
                if asked is None:
                    asked = time.monotonic()
                    self._stop(task, address)
                if time.monotonic() - asked > _STOP_AFTER:
                    yield Cancelled()
                    return
            yield Waiting()
            made = self._result(future)
        yield from self._told(task.key)
        yield Cancelled() if made is None else Finished(made)

    def _result(self, future: Any) -> Any:
        """Give what a task gave, `_PENDING` for now, or raise what it raised."""
        from distributed.scheduler import KilledWorker

        if future.status in ("cancelled", "lost"):
            self._look()  # raises where the scheduler is gone
            raise Died("The task was lost on the cluster")
        if future.status == "error":
            error = future.exception()
            raise Died("The worker died") if isinstance(error, KilledWorker) else error
        try:
            return future.result(FETCH) if future.done() else _PENDING
        except TimeoutError:  # the worker died with the result
            return _PENDING

    def _told(self, key: str) -> Iterator[Event]:
        """Take events from the inbox of a task."""
        inbox = self._inbox[key]
        while inbox:
            yield inbox.popleft()

    def _hear(self, event: tuple[float, list[Any]]) -> None:
        """Sort an event of a worker into the inbox of its task."""
        key, *words = event[1]
        if key in self._inbox:
            self._inbox[key].append(remote.heard(words))
            self._news.set()

    def _look(self) -> list[str]:
        """Ask who is there; ask newcomers what they are; say who went."""
        self._looked = time.monotonic()
        there = self._there()
        gone = [a for a in self._admission.marks if a not in there]
        for address in {*self._asked, *self._admission.known} - there:
            self._admission.forget(address)
            self._asked.pop(address, None)
        for address in there - {*self._asked, *self._admission.known}:
            self._asked[address] = self._submit(
                remote.facts, self._run, self._model, self._config, address=address
            )
        self._cluster.mend()
        return gone

    def _there(self) -> set[str]:
        """Addresses of the workers of the scheduler."""
        try:
            scheduler = self._client.scheduler
            return set(self._client.sync(scheduler.ncores, callback_timeout=_PATIENCE))
        except Exception as error:  # any: Dask documents none
            raise UNetError(
                "The scheduler is gone", found=str(error).partition("\n")[0],
                hint="Run the batch again; it goes on where it was.",
            ) from error  # fmt: skip

    def _submit(self, work: Any, *args: Any, address: str, key: str = "") -> Any:
        """Hand work to one worker."""
        future = self._client.submit(
            work, *args, workers=[address], allow_other_workers=False, pure=False,
            key=key or None,
        )  # fmt: skip
        future.add_done_callback(lambda _: self._news.set())
        return future

    def _stop(self, task: remote.Task, address: str) -> None:
        """Ask a worker to stop a task."""
        with contextlib.suppress(Exception):  # it may be gone
            self._client.run(remote.stop, task.key, workers=[address], wait=False)
