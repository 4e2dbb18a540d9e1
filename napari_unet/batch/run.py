"""Run a network over many images; what is done stays done, what fails is told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.batch import report
from napari_unet.batch.clock import Clock
from napari_unet.batch.desk import Desk, Segment
from napari_unet.batch.lanes import Alone, Waiting, interleave
from napari_unet.batch.ledger import Ledger
from napari_unet.batch.locks import Locks
from napari_unet.batch.names import Names
from napari_unet.batch.plans import Plans
from napari_unet.batch.summary import BatchSummary, Item
from napari_unet.errors import OutputError
from napari_unet.events import Cancelled, Finished, Progress, Started, Warned
from napari_unet.files import littered, sweep

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_unet.batch.inputs import Input, Inputs
    from napari_unet.batch.lanes import Crew
    from napari_unet.batch.ledger import Record
    from napari_unet.batch.locks import Lock
    from napari_unet.config import BatchConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network

_LOOK_AGAIN = 0.5
"""Seconds between looks at images that another run has under way."""


def run_batch(
    inputs: Inputs,
    network: Network,
    output: str | Path,
    config: BatchConfig,
    *,
    segment: Segment,
    crew: Crew | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[Event]:
    """Run a network over images, each recorded in the ledger of the output folder.

    An image is skipped where the ledger says it is done with this model and these
    settings, it has not changed, and the result has the recorded hash. An image that
    failed is tried again when it, the model or the settings changed, when the cause
    was not the image (a full disk, a lost device), or when `config.retry_failed` says
    so. A result that was edited since is renamed, not overwritten. No failure stops
    the rest. Several runs may share a folder, also over a network: each image is done
    by one of them, and what a dead one had under way is taken over.

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
    crew : Crew, optional
        Who computes for `segment`, where that is not this computer alone; so many
        images are under way at once.
    cancel : CancelToken, optional
        Checked between images, and by `segment` between tiles.

    Yields
    ------
    Event
        `Progress` in images, with the name and the time left; `Warned` for each
        failure; last `Finished` with a `BatchSummary`, or `Cancelled`. The report is
        written in both cases.

    Raises
    ------
    OutputError
        If the output folder or its ledger cannot be written.
    """
    folder = Path(output)
    ledger = Ledger(folder)
    names = Names(folder, ledger.outputs(), config.suffix)
    locks = Locks(folder)
    desk = Desk(
        network, folder, config, segment, cancel, ledger, locks, names,
        elsewhere=crew is not None,
    )  # fmt: skip
    run = _Run(inputs, desk, crew or Alone(), cancel)
    yield Started("Batch", len(inputs.images), "images")
    yield from (Warned(note) for note in inputs.notes)
    try:
        yield from run.all()
        yield from _reported(folder, desk)
    finally:
        locks.close()
    if desk.stopped:
        count = f"{len(desk.items)} of {len(inputs.images)} images"
        yield Cancelled(f"{count} are dealt with; run it again to go on.")
        return
    yield Finished(BatchSummary(str(output), tuple(desk.items)))


def plan_batch(
    inputs: Inputs, network: Network, output: str | Path, config: BatchConfig
) -> BatchSummary:
    """Say what `run_batch` would do; nothing is written.

    Parameters
    ----------
    inputs, network, output, config
        As in `run_batch`.

    Returns
    -------
    BatchSummary
        Items "to do", "skipped" (done before) or "failed" (before, not tried again).
    """
    folder = Path(output)
    ledger = Ledger(folder, make=False)
    plans = Plans(
        network, folder, config, ledger, Names(folder, ledger.outputs(), config.suffix)
    )
    items = []
    for image in inputs.images:
        plan = plans.plan(image)
        last = ledger[plan.input]
        target = str(folder / plan.output)
        if last is None or not plans.is_settled(plan, last):
            items.append(Item(str(image.path), target, "to do", image.fault))
        elif last.outcome == "done":
            items.append(Item(str(image.path), target, "skipped"))
        else:
            items.append(
                Item(str(image.path), "", "failed", last.reason, remembered=True)
            )
    return BatchSummary(str(output), tuple(items))


class _Run:
    """One batch under way: who does which image when."""

    def __init__(
        self, inputs: Inputs, desk: Desk, crew: Crew, cancel: CancelToken | None
    ) -> None:
        self._images = inputs.images
        self._desk, self._crew = desk, crew
        self._cancel = cancel
        self._told: set[str] = set()
        self._left: list[tuple[int, Input]] = []
        self._clock = Clock([image.size for image in inputs.images])
        self._total = len(inputs.images)
        self._littered = littered(desk.plans.output)
        for image in inputs.images:  # names do not depend on who comes first
            desk.plans.plan(image)

    def all(self) -> Iterator[Event]:
        """Do all images; come back to those that another run has under way."""
        waiting = list(enumerate(self._images))
        while waiting and not self._stop():
            before, self._left = len(self._desk.items), []
            images = (self._image(number, image) for number, image in waiting)
            for event in interleave(images, self._crew, self._stop):
                yield from self._crew.tend()
                if isinstance(event, Waiting):
                    self._crew.rest()
                else:
                    yield event
            waiting = self._left
            if len(self._desk.items) == before:
                time.sleep(_LOOK_AGAIN)

    def _stop(self) -> bool:
        """Whether the user wants no more."""
        if self._cancel is not None and self._cancel.is_set():
            self._desk.stopped = True
        return self._desk.stopped

    def _image(self, number: int, image: Input) -> Iterator[Event]:
        """Do one image, see that it needs nothing, or leave it to another run."""
        desk = self._desk
        plan = desk.plans.plan(image)
        yield self._progress(image)
        if desk.is_settled(plan):
            self._clock.skip(number)
            self._tidy(plan)
            yield from desk.remember(image, plan)
        elif (lock := desk.locks.take(plan.input)) is None:
            self._left.append((number, image))
            yield from self._tell_owner(plan.input)
            return
        else:
            try:
                done = yield from self._done(number, image, lock)
            finally:
                desk.locks.release(lock)
            if not done:
                self._left.append((number, image))
        yield self._progress(image)

    def _done(
        self, number: int, image: Input, lock: Lock
    ) -> Generator[Event, None, bool]:
        """Do one image, with progress in images of the batch."""
        events = self._desk.do(image, lock)
        done = False
        try:
            while True:
                event = next(events)
                if isinstance(event, Progress):
                    share = event.done / event.total if event.total else 0.0
                    self._clock.at(number, min(share, 1.0))
                    event = self._progress(image)
                yield event
        except StopIteration as end:
            done = bool(end.value)
        finally:
            events.close()
        if done:
            self._clock.finish(number)
        else:
            self._clock.at(number, 0.0)
        return done

    def _progress(self, image: Input) -> Progress:
        """Say how far the batch is, the shares of images under way included."""
        done = len(self._desk.items) + self._clock.shares
        return Progress(done, self._total, self._clock.note(image.path.name))

    def _tidy(self, plan: Record) -> None:
        """Remove what a killed run left beside a result that is whole."""
        desk = self._desk
        if self._littered and desk.is_littered(plan, self._littered):
            if lock := desk.locks.take(plan.input):
                desk.sweep(plan)
                desk.locks.release(lock)

    def _tell_owner(self, name: str) -> Iterator[Event]:
        """Say once who else works here."""
        owner = str(self._desk.locks.others.get(name, "another process"))
        if owner not in self._told:
            self._told.add(owner)
            yield Warned(f"{owner[:1].upper()}{owner[1:]} shares the work.")


def _reported(folder: Path, desk: Desk) -> Iterator[Event]:
    """Write the report; a full disk costs the report only, and is told."""
    try:
        with desk.locks.holding("report"):
            for name in report.REPORTS:
                sweep(folder / name)
            desk.ledger.refresh()
            report.write(folder, desk.ledger.records())
    except (OutputError, OSError) as error:
        yield Warned(f"The report is not up to date: {error}")
