"""One image of a batch: whether it needs doing, doing it, recording how it went."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from napari_unet import disk
from napari_unet.batch import numerics
from napari_unet.batch.divided import folder_of
from napari_unet.batch.failures import MOST_DEATHS, PoisonError, failure, poison
from napari_unet.batch.isolated import Died
from napari_unet.batch.lanes import Waiting
from napari_unet.batch.ledger import WRITTEN
from napari_unet.batch.made import Made, success
from napari_unet.batch.names import aside, files_of
from napari_unet.batch.patience import patiently
from napari_unet.batch.plans import Plans, is_same
from napari_unet.batch.summary import Item
from napari_unet.errors import ImageError
from napari_unet.events import Cancelled, Finished, Progress, Warned
from napari_unet.files import mark, move, place, staged, sweep

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from napari_unet.batch.inputs import Input
    from napari_unet.batch.ledger import Ledger, Record
    from napari_unet.batch.locks import Lock, Locks
    from napari_unet.batch.names import Names
    from napari_unet.config import BatchConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network


class Segment(Protocol):
    """Does one image; see `napari_unet.batch.unit.work`, which is the usual one."""

    def __call__(
        self,
        source: Path,
        target: Path,
        network: Network,
        config: BatchConfig,
        cancel: CancelToken | None = None,
    ) -> Iterator[Event]:
        """Yield events, the last `Finished` or `Cancelled`; raise `UNetError`."""
        ...


class Desk:
    """Where the images of a batch are done, one after the other.

    Attributes
    ----------
    items : list of Item
        What became of the images so far.
    stopped : bool
        Whether the user ended it.
    """

    def __init__(
        self,
        network: Network,
        output: Path,
        config: BatchConfig,
        segment: Segment,
        cancel: CancelToken | None,
        ledger: Ledger,
        locks: Locks,
        names: Names,
        elsewhere: bool = False,
    ) -> None:
        self.plans = Plans(network, output, config, ledger, names)
        self.ledger, self.locks = ledger, locks
        self.items: list[Item] = []
        self.stopped = False
        self._segment, self._cancel, self._elsewhere = segment, cancel, elsewhere
        self._output = output
        self._warned: set[str] = set()  # what holds for all images is said once
        self._alike: dict[str, str] | None = None  # fingerprint that was compared
        self._next: dict[str, dict[str, Any]] = {}  # hashes about to take their place

    def is_settled(self, plan: Record) -> bool:
        """Whether an image needs nothing, as far as is known."""
        last = self.ledger[plan.input]
        return last is not None and self.plans.is_settled(plan, last)

    def remember(self, image: Input, plan: Record) -> Iterator[Event]:
        """Take over what an earlier run recorded."""
        path, last = str(image.path), self.ledger[plan.input]
        if last is None:
            return
        if last.outcome == "done":
            output, beside = self._written(last)
            self.items.append(Item(path, output, "skipped", probabilities=beside))
            return
        self.items.append(Item(path, "", "failed", last.reason, remembered=True))
        yield Warned(f"{image.path.name} failed before: {last.reason}")

    def do(self, image: Input, lock: Lock) -> Generator[Event, None, bool]:
        """Do one image that nobody else has; return whether it is dealt with."""
        self.plans.names.learn(self.ledger.refresh())
        plan = self.plans.plan(image)
        if self.is_settled(plan):  # by another run, a moment ago
            yield from self.remember(image, plan)
            return True
        last = self.ledger[plan.input]
        yield from self._set_aside(plan, last)
        plan = self._begin(image, plan, last)
        try:
            record = yield from self._tried(image, plan, lock)
        finally:
            for waiting, _ in self._files(plan):
                disk.remove(waiting)
        if record is None or self.locks.is_lost(lock):
            return False
        self._append(record)
        yield from self._tell(image, record)
        yield from self._tell_left(record, last)
        return True

    def _begin(self, image: Input, plan: Record, last: Record | None) -> Record:
        """Record that the work begins, under a name that nobody else has."""
        deaths = 0
        if last is not None and last.outcome != "done" and is_same(plan, last):
            deaths = last.deaths + (last.outcome == "started" and not last.elsewhere)
        if self.plans.config.retry_failed and last and last.outcome == "failed":
            deaths = 0
        content = self.plans.content(image)
        wanted, standing = plan.output, self._standing(plan)
        with self.locks.holding("ledger"):
            self.plans.names.learn(self.ledger.refresh())
            plan = self.plans.plan(image)
            began = datetime.now(UTC).isoformat(timespec="seconds")
            if plan.output != wanted:  # another run was faster
                standing = self._standing(plan)
            plan = plan.model_copy(
                update={
                    **standing,
                    "input_sha256": content,
                    "deaths": deaths,
                    "elsewhere": self._elsewhere,
                    "began": began,
                }
            )
            self.ledger.append(plan)
        if last is not None:  # else nobody worked on it
            self.sweep(plan)
            if not self._elsewhere:
                disk.remove(folder_of(staged(self._output / plan.output)))
        return plan

    def _standing(self, plan: Record) -> dict[str, str]:
        """Hashes of what stands where the work on an image will write."""
        return {f"{n}_sha256": self.plans.standing(f) for n, f in plan.files.items()}

    def sweep(self, plan: Record) -> None:
        """Remove what killed runs left of an image; only for who has its lock."""
        for path in (path for pair in self._files(plan) for path in pair):
            sweep(path)

    def is_littered(self, plan: Record, litter: set[str]) -> bool:
        """Whether some of `napari_unet.files.littered` belongs to an image."""
        return any(mark(p) in litter for pair in self._files(plan) for p in pair)

    def _files(self, plan: Record) -> list[tuple[Path, Path]]:
        """Give where result, table and probabilities are made, and where they go."""
        made = self._waiting(plan).values()
        places = (self._output / file for file in plan.files.values())
        return list(zip(made, places, strict=True))

    def _waiting(self, plan: Record) -> dict[str, Path]:
        """Give where result, table and probabilities are made."""
        return files_of(staged(self._output / plan.output), self.plans.config)

    def _tried(
        self, image: Input, plan: Record, lock: Lock
    ) -> Generator[Event, None, Record | None]:
        """Do an image, again where the process died; None where the user stopped it."""
        begin = time.monotonic()
        self._next[plan.input] = {}
        while True:
            fields: dict[str, object] | None = None
            try:
                if plan.deaths >= MOST_DEATHS:
                    fields = poison(plan.deaths)
                else:
                    attempt = partial(self._attempt, image, plan, lock)
                    again = partial(self._may_go_on, plan)
                    fields = yield from patiently(attempt, again)
            except Died as death:
                if self._may_go_on(plan):
                    plan = plan.model_copy(update={"deaths": plan.deaths + 1})
                    self._append_stopped(plan)
                    yield Warned(f"{image.path.name}: {death}")
                    continue
            except (KeyboardInterrupt, GeneratorExit):
                self._append_stopped(plan)
                raise
            except PoisonError as error:
                fields = poison(error.deaths)
            except Exception as error:
                fields = failure(error) | self._next[plan.input]
            if fields is None:
                self._append_stopped(plan)
                return None
            seconds = round(time.monotonic() - begin, 3)
            return plan.model_copy(update={**fields, "seconds": seconds})

    def _may_go_on(self, plan: Record) -> bool:
        """Clear up after an attempt, unless the user wants no other."""
        if self._is_asked_to_stop():
            return False
        self.sweep(plan)
        return True

    def _attempt(
        self, image: Input, plan: Record, lock: Lock
    ) -> Generator[Event, None, dict[str, object] | None]:
        """Do an image, give the result its name, and return fields of its record.

        None where the user stopped it.
        """
        made = yield from self._work(image, plan)
        if made is None:
            return None
        waiting = self._waiting(plan)
        fields = success(image, waiting, made)
        fields["deaths"] = plan.deaths + made.deaths
        if not self.locks.is_lost(lock):
            sums = [fields[f"{name}_sha256"] for name in waiting]
            self._next[plan.input] = {
                "next_sha256": sums[0],
                "next_beside": tuple(sums[1:]),
            }
            # known before it is there, so that nobody takes it for an edited one
            self._append(self._with_next(plan))
            for made_at, path in self._files(plan):
                place(made_at, path)
        return fields

    def _is_asked_to_stop(self) -> bool:
        """Whether the user wants to end it, who may have ended the process too."""
        self.stopped |= self._cancel is not None and self._cancel.is_set()
        return self.stopped

    def _append_stopped(self, plan: Record) -> None:
        """Record that the work on an image ended, not in success and not in failure."""
        stopped = self._with_next(plan).model_copy(update={"outcome": "stopped"})
        self._append(stopped)

    def _with_next(self, plan: Record) -> Record:
        """Add the hashes of what is about to take its place."""
        return plan.model_copy(update=self._next[plan.input])

    def _append(self, record: Record) -> None:
        """Add to the ledger while nobody else does."""
        with self.locks.holding("ledger"):
            self.ledger.append(record)

    def _work(self, image: Input, plan: Record) -> Generator[Event, None, Made | None]:
        """Run the network over one image; None where the user stopped it."""
        name = image.path.name
        if image.fault:
            raise ImageError(f"{name} is {image.fault}")
        config, target = self.plans.settings(image), self._output / plan.output
        target = staged(target)
        work = self._segment(
            image.path, target, self.plans.network, config, cancel=self._cancel
        )
        made: Made | None = Made()
        for event in work:
            if isinstance(event, Progress | Waiting):
                yield event
            elif isinstance(event, Warned) and event.message not in self._warned:
                self._warned.add(event.message)
                yield Warned(f"{name}: {event.message}")
            elif isinstance(event, Finished):
                made = Made.of(event.result)
                yield from self._compare(plan.input, made.numerics)
            elif isinstance(event, Cancelled):
                self.stopped, made = True, None
        return made

    def _compare(self, image: str, made: dict[str, str]) -> Iterator[Event]:
        """Say once that other results of the folder were computed otherwise."""
        if made == self._alike:
            return
        done = (r for r in self.ledger.records() if r.outcome == "done")
        for record in done:
            other = numerics.difference(record.numerics, made)
            if other and record.input != image and "numerics" not in self._warned:
                self._warned.add("numerics")
                yield Warned(
                    "Results in this folder were computed in different ways and may "
                    f"differ in their last bits: {other}."
                )
        self._alike = made

    def _tell(self, image: Input, record: Record) -> Iterator[Event]:
        """Keep what became of an image, and say it where it failed."""
        path, seconds = str(image.path), record.seconds
        if record.outcome == "done":
            output, beside = self._written(record)
            done = Item(path, output, "done", seconds=seconds, probabilities=beside)
            self.items.append(done)
            return
        self.items.append(Item(path, "", "failed", record.reason, seconds))
        yield Warned(f"{image.path.name} failed: {record.reason}")

    def _tell_left(self, record: Record, last: Record | None) -> Iterator[Event]:
        """Say once of each kind what is not written any more but was before."""
        if last is None or record.outcome != "done":
            return
        for name in last.files.keys() - record.files.keys() - self._warned:
            if (self._output / last.files[name]).exists():
                self._warned.add(name)
                yield Warned(
                    f"{last.files[name]} and others like it stay as an earlier run "
                    "wrote them; they do not belong to the results of this one."
                )

    def _written(self, record: Record) -> tuple[str, str]:
        """Give the paths of result and probabilities, empty where not written."""
        beside = record.probabilities and str(self._output / record.probabilities)
        return str(self._output / record.output), beside

    def _set_aside(self, plan: Record, last: Record | None) -> Iterator[Event]:
        """Rename what stands in the way and is not as we wrote it."""
        ours = {""}
        if last is not None:
            ours |= {last.sha256(name) for name in WRITTEN}
            ours |= {last.next_sha256, *last.next_beside}
        why = "was there before" if last is None else "was edited"
        for name, file in plan.files.items():
            if self.plans.standing(file) in ours:
                continue
            path = self._output / file
            suffix = ".csv" if name == "table" else self.plans.config.suffix
            kept = aside(path, suffix)
            move(path, kept)
            yield Warned(f"{file} {why}; it is kept as {kept.name}.")
