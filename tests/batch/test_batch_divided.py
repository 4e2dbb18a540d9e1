"""Who does which slab, with workers that are made up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from napari_unet.batch import slabs
from napari_unet.batch.divided import Divided, Notebook, folder_of
from napari_unet.batch.failures import MOST_DEATHS, PoisonError
from napari_unet.batch.isolated import Died
from napari_unet.batch.lanes import Waiting
from napari_unet.batch.made import Made
from napari_unet.batch.shares import Order, Share, Shares
from napari_unet.config import BatchConfig
from napari_unet.errors import ImageError, OutputError
from napari_unet.events import Cancelled, CancelToken, Finished, Progress, Warned

SLABS = 5


@dataclass
class Units:
    """Does units at once, unless one is to fail; notes which and how many."""

    target: Path
    fails: dict[int, list[Exception]] = field(default_factory=dict)
    token: CancelToken = field(default_factory=CancelToken)
    stop_at: int = -1
    lanes: int = 2
    done: Counter[int] = field(default_factory=Counter)
    known: list[str] = field(default_factory=list)
    seen: list[list[float]] = field(default_factory=list)
    most: int = 0
    _now: set[int] = field(default_factory=set)

    def __call__(self, job, folder, *args, name=""):
        if job == slabs.BEGIN:
            past = args[0]
            Path(folder).mkdir(exist_ok=True)
            head = {"part": "a", "slabs": [[n, n + 1, 0, 4] for n in range(SLABS)]}
            yield Warned("odd")
            yield Finished({"head": past or head})
        elif job == slabs.SLAB:
            yield from self._slab(*args)
        else:
            self.seen = args[1]
            yield Finished(Made({"threads": "1"}, ("sum",)))

    def _slab(self, head, number, known):
        assert number not in self._now
        self._now.add(number)
        self.most = max(self.most, len(self._now))
        try:
            yield Progress(1, 2)
            yield Waiting()
            if number == self.stop_at:
                self.token.set()
            if self.token.is_set():
                yield Cancelled()
                return
            if self.fails.get(number):
                raise self.fails[number].pop(0)
            if known:
                self.known.append(known)
                yield Finished({"slab": {"sha256": known}})
                return
            self.done[number] += 1
            found = {"sha256": f"sum {number}", "seen": [0.0, float(number)]}
            yield Finished({"slab": found})
        finally:
            self._now.discard(number)

    def run(self):
        """Do the stack; give the events that are not `Waiting`."""
        divided = Divided(self.target, self, self, self.token)
        return [e for e in divided.events(2, 1) if not isinstance(e, Waiting)]

    @property
    def folder(self):
        return folder_of(self.target)


@pytest.fixture
def units(tmp_path):
    return lambda **fields: Units(tmp_path / "a.ome.zarr", **fields)


def test_every_slab_is_done_once(units):
    all_well = units()
    events = all_well.run()
    assert events[-1] == Finished(Made({"threads": "1"}, ("sum",)))
    assert all_well.done == Counter(range(SLABS))
    assert all_well.most == 2
    assert sorted(all_well.seen) == [[0.0, float(n)] for n in range(SLABS)]
    shares = [e.done / e.total for e in events if isinstance(e, Progress)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert not all_well.folder.exists()


def test_deaths_count_for_each_slab(units):
    """Many may die over a stack, as long as no slab has too many."""
    deaths = {n: [Died("gone")] * (MOST_DEATHS - 1) for n in range(SLABS)}
    events = units(fails=deaths).run()
    assert events[-1].result.deaths == SLABS * (MOST_DEATHS - 1)
    said = [e.message for e in events if isinstance(e, Warned)]
    assert said.count("gone. Slab 1 is computed again.") == MOST_DEATHS - 1


def test_too_many_deaths_end_it_also_over_several_runs(units):
    deaths = [Died("gone")] * (MOST_DEATHS - 1)
    with pytest.raises(OutputError):
        units(fails={3: [*deaths, OutputError("The disk is full")]}).run()
    again = units(fails={3: [Died("gone")]})
    with pytest.raises(PoisonError):
        again.run()
    assert not again.folder.exists()


def test_a_stop_and_a_full_disk_keep_what_is_done(units):
    first = units(stop_at=2)
    assert isinstance(first.run()[-1], Cancelled)
    second = units(fails={4: [OutputError("The disk is full")]})
    with pytest.raises(OutputError):
        second.run()
    third = units()
    assert isinstance(third.run()[-1], Finished)
    before = first.done + second.done
    assert {f"sum {n}" for n in before} == set(third.known)
    assert before + third.done == Counter(range(SLABS))
    assert sorted(third.seen) == [[0.0, float(n)] for n in range(SLABS)]


def test_an_error_that_would_come_again_leaves_nothing(units):
    broken = units(fails={1: [ImageError("it is bad")]})
    with pytest.raises(ImageError):
        broken.run()
    assert not broken.folder.exists()


def test_a_damaged_journal_is_read_as_far_as_it_goes(units):
    run = units(stop_at=4)
    run.run()
    journal = run.folder / "slabs.journal"
    journal.write_bytes(journal.read_bytes()[:-1])
    with Notebook(run.folder) as book:
        assert 0 < len(book.done) < len(run.done)


def test_workers_are_left_to_those_who_have_none(tmp_path):
    stack, other = (
        Order(tmp_path, tmp_path / name, "", BatchConfig()) for name in "ab"
    )
    shares = Shares({"one": "", "two": "", "three": ""})
    lanes = Share(shares, stack)
    assert lanes.lanes == 3
    with shares.busy("one", stack), shares.busy("two", stack):
        assert (shares.free, lanes.lanes) == ("three", 3)
        with shares.wanting(other):
            assert (lanes.lanes, shares.lanes(other)) == (2, 1)
        with shares.busy("three", other):
            assert (shares.free, lanes.lanes) == (None, 2)
    with shares.busy("one", other), shares.wanting(other):
        assert lanes.lanes == 1
