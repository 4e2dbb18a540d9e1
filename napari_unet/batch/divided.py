"""One huge stack by several workers: who does which slab, and what is remembered.

Workers write slabs into a hidden folder beside the result. A journal in it, which only
the process with the ledger writes, tells which are done and over which workers died. A
later run goes on from there.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, Self

from napari_unet import disk
from napari_unet.batch import slabs
from napari_unet.batch.failures import MOST_DEATHS, PASSING, PoisonError
from napari_unet.batch.isolated import Died
from napari_unet.batch.lanes import Waiting, interleave
from napari_unet.events import Cancelled, Finished, Progress, Warned
from napari_unet.files import mark
from napari_unet.inference.resuming.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.batch.lanes import Lanes
    from napari_unet.events import CancelToken, Event


class Unit(Protocol):
    """Has one unit of work on a stack done by some worker."""

    def __call__(self, job: str, *args: Any, name: str = "") -> Iterator[Event]:
        """Yield events, the last `Finished` or `Cancelled`.

        Parameters
        ----------
        job : str
            One of those in `napari_unet.batch.slabs`.
        *args
            Its further arguments.
        name : str
            Tells it from others on the same stack that may be done at the same time.
        """
        ...


def folder_of(target: Path) -> Path:
    """Name the folder in which the slabs of a result are gathered."""
    return target.with_name(f".unet-{mark(target)}.slabs")


def is_begun(target: Path) -> bool:
    """Whether some slabs of a result may be done."""
    return folder_of(target).is_dir()


class Divided:
    """A stack that is divided, if that is worth it.

    Parameters
    ----------
    target : pathlib.Path
        The result.
    unit : Unit
        Has a unit done.
    lanes : Lanes
        How many units may be under way at once.
    cancel : CancelToken, optional
        Ends the work.
    """

    def __init__(
        self, target: Path, unit: Unit, lanes: Lanes, cancel: CancelToken | None
    ) -> None:
        self._folder = folder_of(target)
        self._unit, self._lanes, self._cancel = unit, lanes, cancel
        self._stopped = False
        self._shares: dict[int, float] = {}

    def events(self, workers: int, least: int) -> Iterator[Event]:
        """Do it.

        Parameters
        ----------
        workers, least
            As in `napari_unet.inference.division.divide`.

        Yields
        ------
        Event
            The last is `Finished` with what the last unit made, or `Cancelled`.

        Raises
        ------
        PoisonError
            If too many workers die over one slab.
        UNetError
            As the units do.
        """
        with Notebook(self._folder) as book:
            begun = slabs.BEGIN, str(self._folder), book.head, workers, least
            for event in self._unit(*begun):
                if isinstance(event, Finished) and isinstance(event.result, dict):
                    book.begin(event.result["head"])
                else:
                    yield event
                book.is_over = isinstance(event, Finished)
            if book.is_begun:
                yield from self._all(book)

    def _all(self, book: Notebook) -> Iterator[Event]:
        """Have all slabs done, then the rest."""
        head, book.is_over = book.head, False
        assert head is not None
        self._sizes = [(b - a) * (d - c) for a, b, c, d in head["slabs"]]
        todo = (self._slab(book, number) for number in range(len(self._sizes)))
        yield from interleave(todo, self._lanes, self._is_stopped)
        yield from map(Warned, book.take_notes())
        if self._is_stopped():
            yield Cancelled()
            return
        last = slabs.FINISH, str(self._folder), head, book.seen
        for event in self._unit(*last):
            book.is_over = isinstance(event, Finished)
            if isinstance(event, Finished):
                event = Finished(event.result.after(book.deaths.total()))
            yield event

    def _slab(self, book: Notebook, number: int) -> Iterator[Event]:
        """Have one slab done, by another worker where one died over it."""
        known = book.done.get(number, {}).get("sha256", "")
        job = slabs.SLAB, str(self._folder), book.head, number, known
        while not self._is_stopped():
            try:
                for event in self._unit(*job, name=f"slab {number}"):
                    if isinstance(event, Finished):
                        book.add(number, event.result["slab"])
                    yield self._told(number, event)
                return
            except Died as death:
                if self._is_stopped():
                    return
                book.died(number)
                if book.deaths[number] >= MOST_DEATHS:
                    raise PoisonError(book.deaths[number]) from death
                yield Warned(f"{death} Slab {number + 1} is computed again.")

    def _told(self, number: int, event: Event) -> Event:
        """Turn what is told of one slab into what is told of the stack."""
        if isinstance(event, Cancelled):
            self._stopped = True
            return Waiting()
        if not isinstance(event, Finished | Progress):
            return event
        share = 1.0 if isinstance(event, Finished) else event.done / event.total
        self._shares[number] = share
        done = sum(self._sizes[n] * share for n, share in self._shares.items())
        return Progress(done, sum(self._sizes))

    def _is_stopped(self) -> bool:
        """Whether the user wants no more."""
        self._stopped |= self._cancel is not None and self._cancel.is_set()
        return self._stopped


class Notebook:
    """What is known of a divided stack, in a journal beside its slabs.

    It is a context: the folder goes when the stack is over, or for an error that would
    come again; otherwise it stays.

    Parameters
    ----------
    folder : pathlib.Path
        Of the slabs.

    Attributes
    ----------
    head : dict or None
        What holds for all slabs.
    done : dict of int to dict
        What is known of the slabs that are done, by their numbers.
    deaths : Counter of int
        How many workers died over each slab.
    is_begun : bool
        Whether this run divides the stack.
    is_over : bool
        Whether the folder is not needed any more.
    """

    def __init__(self, folder: Path) -> None:
        self.head: dict[str, Any] | None = None
        self.done: dict[int, dict[str, Any]] = {}
        self.deaths: Counter[int] = Counter()
        self.is_begun = self.is_over = False
        self._path = folder / "slabs.journal"
        self._notes: list[str] = []
        self._journal = self._opened(create=False)
        if self._journal is not None:
            self._recall(self._journal)

    @property
    def seen(self) -> list[list[float]]:
        """Extremes of the values of all slabs."""
        return [found["seen"] for found in self.done.values() if "seen" in found]

    def take_notes(self) -> list[str]:
        """Return what the user should be told since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def begin(self, head: dict[str, Any]) -> None:
        """Write down the head, unless it is that of the run that goes on."""
        self.is_begun = True
        if self._journal is None:
            self._journal = self._opened(create=True)
        if self.head is not None and self.head["part"] == head["part"]:
            return
        self.head = head
        self.done.clear()
        self.deaths.clear()
        if self._journal is not None:
            self._journal.clear()
            self._append(head)

    def add(self, number: int, found: dict[str, Any]) -> None:
        """Write down a slab that is done."""
        if self.done.get(number, {}).get("sha256") != found["sha256"]:
            self.done[number] = found
            self._append({"slab": number, "found": found})

    def died(self, number: int) -> None:
        """Write down that a worker died over a slab."""
        self.deaths[number] += 1
        self._append({"slab": number})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self._journal is not None:
            self._journal.close()
        passing = isinstance(error, (Died, *PASSING))
        comes_again = isinstance(error, Exception) and not passing
        if self.is_over or comes_again:
            disk.remove(self._path.parent)

    def _opened(self, *, create: bool) -> Journal | None:
        """Open the journal of an earlier run, or make one."""
        try:
            return Journal(self._path, create=create)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._lose(error)
        return None

    def _recall(self, journal: Journal) -> None:
        """Read what an earlier run wrote down."""
        for record, _ in journal.records():
            if self.head is None:
                self.head = record
            elif "found" in record:
                self.done[record["slab"]] = record["found"]
            else:
                self.deaths[record["slab"]] += 1

    def _append(self, record: dict[str, Any]) -> None:
        if self._journal is None:
            return
        try:
            self._journal.append(record)
        except OSError as error:
            self._journal.close()
            self._journal = None
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Go on without a journal."""
        self._notes.append(
            f"What is done of it is not kept, {error.strerror or error}; if the run is "
            "ended, the next one computes all slabs."
        )
