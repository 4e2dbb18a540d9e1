"""Run a network over many images; what is done stays done, what fails is told."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from napari_unet import __version__
from napari_unet.batch.clock import Clock
from napari_unet.batch.ledger import Ledger, Record
from napari_unet.batch.names import Names, aside, key
from napari_unet.batch.summary import BatchSummary, Item
from napari_unet.errors import DeviceError, ImageError, OutputError, UNetError
from napari_unet.events import Cancelled, Finished, Progress, Started, Warned
from napari_unet.files import digest, telling_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.batch.inputs import Input, Inputs
    from napari_unet.config import BatchConfig, PredictConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network

_LOG = logging.getLogger(__name__)
# Settings that choose which images are done, or how fast, but not what comes out.
_NO_MATTER = {"pattern", "retry_failed", "device", "batch_size"}


class Segment(Protocol):
    """Does one image; see `napari_unet.batch.unit.segment`, which is the usual one."""

    def __call__(
        self,
        source: Path,
        target: Path,
        network: Network,
        config: PredictConfig,
        cancel: CancelToken | None = None,
    ) -> Iterator[Event]:
        """Yield events, the last `Finished` or `Cancelled`; raise `UNetError`."""
        ...


def run_batch(
    inputs: Inputs,
    network: Network,
    output: str | Path,
    config: BatchConfig,
    *,
    segment: Segment,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a network over images, each recorded in the ledger of the output folder.

    An image is skipped where the ledger says it is done with this model and these
    settings, it has not changed, and the result has the recorded hash. An image that
    failed is tried again when it, the model or the settings changed, when the cause
    was not the image (a full disk, a lost device), or when `config.retry_failed` says
    so. A result that was edited since is renamed, not overwritten. No failure stops
    the rest.

    Parameters
    ----------
    inputs : Inputs
        From `napari_unet.batch.inputs.gather`.
    network : Network
        The model.
    output : path-like
        Folder of the results and the ledger; made if absent.
    config : BatchConfig
        How to read and predict.
    segment : Segment
        Does one image.
    cancel : CancelToken, optional
        Checked between images, and by `segment` between tiles.

    Yields
    ------
    Event
        `Progress` in images, with the name and the time left; `Warned` for each
        failure; last `Finished` with a `BatchSummary`, or `Cancelled`.

    Raises
    ------
    OutputError
        If the output folder or its ledger cannot be written.
    """
    run = _Run(inputs, network, Path(output), config, segment, cancel)
    yield Started("Batch", len(inputs.images), "images")
    yield from (Warned(note) for note in inputs.notes)
    for number, image in enumerate(inputs.images):
        if cancel is not None and cancel.is_set():
            run.stopped = True
        if not run.stopped:
            yield from run.image(number, image)
    if run.stopped:
        count = f"{len(run.items)} of {len(inputs.images)} images"
        yield Cancelled(f"{count} are dealt with; run it again to go on.")
        return
    yield Finished(BatchSummary(str(output), tuple(run.items)))


def settings_digest(config: BatchConfig, network: Network) -> str:
    """SHA-256 of all settings that decide a result, of the run and of the model."""
    chosen = config.model_dump(mode="json", exclude=_NO_MATTER)
    spec = network.spec.model_dump(mode="json", exclude={"name", "provenance"})
    text = json.dumps([chosen, spec], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class _Run:
    """One batch under way."""

    def __init__(
        self,
        inputs: Inputs,
        network: Network,
        output: Path,
        config: BatchConfig,
        segment: Segment,
        cancel: CancelToken | None,
    ) -> None:
        self.items: list[Item] = []
        self.stopped = False
        self._warned: set[str] = set()  # what holds for all images is said once
        self._network = network
        self._output = output
        self._config = config
        self._segment = segment
        self._cancel = cancel
        self._settings = settings_digest(config, network)
        self._ledger = Ledger(output)
        self._names = Names(output, self._ledger.outputs(), config.suffix)
        self._total = len(inputs.images)
        self._clock = Clock([image.size for image in inputs.images])

    def image(self, number: int, image: Input) -> Iterator[Event]:
        """Do one image, or see that it needs nothing."""
        plan = self._plan(image)
        last = self._ledger[plan.input]
        yield Progress(number, self._total, self._clock.note(image.path.name, number))
        if last is not None and self._is_settled(plan, last):
            self._clock.skip(number)
            yield from self._remember(image, last)
        else:
            yield from self._do(number, image, plan, last)
        yield Progress(len(self.items), self._total, image.path.name)

    def _plan(self, image: Input) -> Record:
        """Make the record with which the work on an image begins."""
        name = key(image.path, self._output)
        return Record(
            input=name,
            size=image.size,
            mtime_ns=image.mtime_ns,
            model=self._network.digest,
            settings=self._settings,
            version=__version__,
            output=self._names.name(name),
            outcome="started",
        )

    def _is_settled(self, plan: Record, last: Record) -> bool:
        """Whether nothing changed since the last record and it needs no second try."""
        same = ("size", "mtime_ns", "model", "settings", "output")
        if any(getattr(plan, name) != getattr(last, name) for name in same):
            return False
        if last.outcome == "failed":
            return not (last.passing or self._config.retry_failed)
        return last.outcome == "done" and self._is_untouched(last)

    def _is_untouched(self, record: Record) -> bool:
        """Whether a result is there with the hash it was recorded with."""
        path = self._output / record.output
        return path.exists() and digest(path) == record.output_sha256

    def _remember(self, image: Input, last: Record) -> Iterator[Event]:
        """Take over what an earlier run recorded."""
        path, done = str(image.path), last.outcome == "done"
        if done:
            target = str(self._output / last.output)
            self.items.append(Item(path, target, "skipped"))
            return
        self.items.append(Item(path, "", "failed", last.reason, remembered=True))
        yield Warned(f"{image.path.name} failed before: {last.reason}")

    def _do(
        self, number: int, image: Input, plan: Record, last: Record | None
    ) -> Iterator[Event]:
        """Do one image and record how it went."""
        yield from self._set_aside(plan, last)
        standing = self._standing(plan.output)
        plan = plan.model_copy(update={"output_sha256": standing})
        self._ledger.append(plan)
        begin = time.monotonic()
        try:
            yield from self._work(number, image, self._output / plan.output)
            fields = {} if self.stopped else self._success(plan)
        except Exception as error:
            fields = _failure(error)
        if self.stopped:
            return
        seconds = round(time.monotonic() - begin, 3)
        self._clock.finish(number)
        record = plan.model_copy(update={**fields, "seconds": seconds})
        self._ledger.append(record)
        yield from self._tell(image, record)

    def _work(self, number: int, image: Input, target: Path) -> Iterator[Event]:
        """Run the network over one image, as progress within the batch."""
        name = image.path.name
        if image.fault:
            raise ImageError(f"{name} is {image.fault}")
        work = self._segment(
            image.path, target, self._network, self._config, cancel=self._cancel
        )
        for event in work:
            if isinstance(event, Progress) and event.total:
                done = number + min(event.done / event.total, 1.0)
                note = self._clock.note(name, done)
                yield Progress(done, self._total, note)
            elif isinstance(event, Warned) and event.message not in self._warned:
                self._warned.add(event.message)
                yield Warned(f"{name}: {event.message}")
            self.stopped = self.stopped or isinstance(event, Cancelled)

    def _success(self, plan: Record) -> dict[str, object]:
        """Fields of the record of a result, read back from the disk."""
        path = self._output / plan.output
        if not path.exists():
            raise OutputError(f"{path.name} was not written")
        return {"outcome": "done", "output_sha256": digest(path)}

    def _tell(self, image: Input, record: Record) -> Iterator[Event]:
        """Keep what became of an image, and say it where it failed."""
        path, seconds = str(image.path), record.seconds
        if record.outcome == "done":
            target = str(self._output / record.output)
            self.items.append(Item(path, target, "done", seconds=seconds))
            return
        self.items.append(Item(path, "", "failed", record.reason, seconds))
        yield Warned(f"{image.path.name} failed: {record.reason}")

    def _set_aside(self, plan: Record, last: Record | None) -> Iterator[Event]:
        """Rename a result that was edited since we wrote it."""
        if last is None or last.output != plan.output or not last.output_sha256:
            return
        path = self._output / last.output
        if not path.exists() or self._is_untouched(last):
            return
        kept = aside(path, self._config.suffix)
        with telling_write_errors(kept):
            os.rename(path, kept)
        yield Warned(f"{path.name} was edited; it is kept as {kept.name}.")

    def _standing(self, name: str) -> str:
        """Hash of what of ours stands under a name, empty where nothing does."""
        path = self._output / name
        return digest(path) if path.exists() else ""


def _failure(error: Exception) -> dict[str, object]:
    """Fields of the record of an image that failed."""
    passing = isinstance(error, (OutputError, DeviceError, MemoryError))
    if isinstance(error, UNetError):
        reason = str(error)
    elif isinstance(error, MemoryError):
        reason = "There was not enough memory. Try a smaller tile."
    else:
        _LOG.exception("unexpected error in a batch")
        reason = f"It met an unexpected error ({type(error).__name__}: {error})."
    return {"outcome": "failed", "reason": " ".join(reason.split()), "passing": passing}
