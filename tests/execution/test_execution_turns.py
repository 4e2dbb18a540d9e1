"""Requests between the pieces of a job, and work in spare time."""

import itertools
import threading

import psutil
import pytest
from test_execution_child import Log

from napari_unet.errors import ImageError
from napari_unet.events import Cancelled, Finished, Metric, Started
from napari_unet.execution.child_process import Child
from napari_unet.execution.inline import Inline
from napari_unet.execution.protocol import Failed, is_last

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def child():
    with Child(allow="toy_jobs", stop_after=0.5) as child:
        yield child


class Diary:
    """Notes the events of several jobs in the order in which they came."""

    def __init__(self):
        self.entries = []
        self._came = threading.Condition()

    def of(self, name):
        def note(event):
            with self._came:
                self.entries.append((name, event))
                self._came.notify_all()

        return note

    def wait_for(self, name, count=1):
        with self._came:
            assert self._came.wait_for(lambda: len(self.events(name)) >= count, 30)

    def wait_to_see(self, name, event):
        with self._came:
            assert self._came.wait_for(lambda: event in self.events(name), 30)

    def events(self, name):
        return [event for who, event in self.entries if who == name]

    def place(self, name, kind):
        return next(
            i
            for i, (who, e) in enumerate(self.entries)
            if who == name and isinstance(e, kind)
        )


def start(child, diary, name, job, *args, turn="usual", **kwargs):
    return child.run(
        f"toy_jobs:{job}", *args, turn=turn, on_event=diary.of(name), **kwargs
    )


def test_a_request_is_answered_between_two_pieces(child):
    alone, diary = Diary(), Diary()
    start(child, alone, "job", "sleepy", "job", 30).wait(30)
    job = start(child, diary, "job", "sleepy", "job", 30)
    diary.wait_for("job", 3)
    request = start(child, diary, "view", "sleepy", "view", 4, turn="first")
    assert request.wait(30)
    assert job.wait(30)
    assert diary.events("view")[-1] == Finished(0 + 1 + 4 + 9)
    begin = diary.place("view", Started)
    assert {who for who, _ in diary.entries[begin : begin + 6]} == {"view"}
    assert 0 < begin < diary.place("job", Finished) - 6
    assert diary.events("job") == alone.events("job")


def test_the_newest_request_replaces_the_ones_before(child):
    diary = Diary()
    job = start(child, diary, "job", "sleepy", "job", 40)
    names = [f"view {number}" for number in range(5)]
    diary.wait_for("job", 2)
    first = start(child, diary, names[0], "sleepy", names[0], 1000, turn="first")
    diary.wait_for(names[0], 3)
    others = [
        start(child, diary, name, "sleepy", name, 3, turn="first", pause=0.1)
        for name in names[1:]
    ]
    for handle in (first, *others, job):
        assert handle.wait(30)
    assert [type(diary.events(name)[-1]) for name in names] == [
        *[Cancelled] * 4,
        Finished,
    ]
    assert isinstance(diary.events("job")[-1], Finished)


def test_a_replaced_request_cleans_up(child, tmp_path):
    diary, file = Diary(), tmp_path / "word"
    old = start(child, diary, "old", "leaves_word", str(file), turn="first")
    diary.wait_for("old", 3)
    new = start(child, diary, "new", "sleepy", "new", 1, turn="first")
    assert old.wait(30)
    assert new.wait(30)
    assert file.read_text() == "gone"
    assert diary.place("old", Cancelled) < diary.place("new", Finished)


def test_a_flood_of_requests_does_not_starve_the_job(child):
    diary = Diary()
    job = start(child, diary, "job", "sleepy", "job", 100, pause=0.001)
    diary.wait_for("job", 2)
    views = []
    for number in range(12):
        name = f"view {number}"
        views.append(start(child, diary, name, "sleepy", name, 1000, turn="first"))
        diary.wait_for(name, 2)
    views[-1].cancel()
    for handle in (*views, job):
        assert handle.wait(30)
    begins = [i for i, (_, e) in enumerate(diary.entries) if isinstance(e, Started)]
    for begin, end in itertools.pairwise(begins[1:]):
        assert "job" in {who for who, _ in diary.entries[begin:end]}
    assert isinstance(diary.events("job")[-1], Finished)


@pytest.mark.parametrize("name", ["refuses", "breaks", "unpicklable", "foreign"])
def test_an_error_of_a_request_is_its_own(child, name):
    diary = Diary()
    job = start(child, diary, "job", "sleepy", "job", 20)
    diary.wait_for("job", 2)
    assert start(child, diary, "view", name, turn="first").wait(30)
    assert job.wait(30)
    error = diary.events("view")[-1]
    assert isinstance(error, Failed)
    assert type(error.error) is ImageError or name != "refuses"
    assert diary.events("job")[-1] == Finished(sum(i**2 for i in range(20)))


def test_stop_stops_the_job_and_the_request(child):
    diary, pid = Diary(), child.pid
    job = start(child, diary, "job", "sleepy", "job", 10_000, stop_after=20)
    diary.wait_for("job", 2)
    view = start(child, diary, "view", "sleepy", "view", 10_000, turn="first")
    diary.wait_for("view", 2)
    job.cancel()
    assert job.wait(30)
    assert view.wait(30)
    for name in ("job", "view"):
        assert diary.events(name)[-1] == Cancelled(f"{name} stopped")
    assert child.pid == pid


def test_stop_takes_no_longer_because_of_a_stuck_request(child):
    diary, pid = Diary(), child.pid
    job = start(child, diary, "job", "sleepy", "job", 10_000)
    diary.wait_for("job", 2)
    view = start(child, diary, "view", "stubborn", turn="first")
    diary.wait_for("view")
    job.cancel()
    assert job.wait(30)
    assert view.wait(30)
    assert {type(diary.events(n)[-1]) for n in ("job", "view")} == {Cancelled}
    assert not psutil.pid_exists(pid)


def test_stopping_a_request_does_not_cost_the_job(child):
    diary = Diary()
    job = start(child, diary, "job", "sleepy", "job", 40)
    diary.wait_for("job", 2)
    view = start(child, diary, "view", "stuck", turn="first", stop_after=0.1)
    diary.wait_for("view")
    view.cancel()
    assert view.wait(30)
    assert job.wait(30)
    assert isinstance(diary.events("job")[-1], Finished)


def test_stopping_a_request_does_not_cost_the_next_one(child):
    diary = Diary()
    view = start(child, diary, "view", "stuck", turn="first", stop_after=0.1)
    diary.wait_for("view")
    view.cancel()
    newer = start(child, diary, "newer", "sleepy", "newer", 2, turn="first")
    assert newer.wait(30)
    assert isinstance(diary.events("newer")[-1], Finished)


def test_a_stuck_request_alone_is_ended(child):
    diary = Diary()
    view = start(child, diary, "view", "stubborn", turn="first", stop_after=0.1)
    diary.wait_for("view")
    view.cancel()
    assert view.wait(30)
    assert isinstance(diary.events("view")[-1], Cancelled)


def test_spare_time_work_waits_for_a_job_and_goes_on_after_it(child):
    diary = Diary()
    spare = start(child, diary, "spare", "sleepy", "spare", 20, turn="last")
    diary.wait_for("spare", 3)
    job = start(child, diary, "job", "sleepy", "job", 5)
    assert job.wait(30)
    assert spare.wait(30)
    begin = diary.place("job", Started)
    assert {who for who, _ in diary.entries[begin : begin + 7]} == {"job"}
    assert diary.events("spare")[-1] == Finished(sum(i**2 for i in range(20)))


def test_a_killed_process_ends_all_of_them(child):
    diary = Diary()
    jobs = [
        start(child, diary, turn, "sleepy", turn, 10_000, turn=turn)
        for turn in ("last", "usual", "first")
    ]
    diary.wait_for("first", 2)
    psutil.Process(child.pid).kill()
    for job in jobs:
        assert job.wait(30)
        assert isinstance(diary.events(job.turn)[-1], Failed)
    log = Log()
    assert child.run("toy_jobs:pid", on_event=log).wait(30)
    assert isinstance(log.events[-1], Finished)


def test_inline_answers_between_two_pieces():
    runner, diary = Inline(allow="toy_jobs"), Diary()

    def ask(event):
        diary.of("job")(event)
        if event == Metric("job", 1.0, 1):
            start(runner, diary, "view", "sleepy", "view", 2, turn="first", pause=0)

    job = runner.run("toy_jobs:sleepy", "job", 4, on_event=ask, pause=0)
    assert runner.job is job
    assert [who for who, _ in diary.entries] == ["job"] * 3 + ["view"] * 4 + ["job"] * 3
    assert is_last(diary.entries[-1][1])


def test_a_job_hears_what_it_is_told_and_rests(child):
    diary = Diary()
    job = start(child, diary, "job", "listening")
    diary.wait_for("job", 2)
    job.tell({"strokes": [1, 2]})
    diary.wait_to_see("job", Metric("heard", 2.0, 0))
    job.pause()
    request = start(child, diary, "view", "sleepy", "view", 4, turn="first")
    assert request.wait(30)
    begin = len(diary.events("job"))
    again = start(child, diary, "view", "sleepy", "view", 20, turn="first")
    assert again.wait(30)
    assert len(diary.events("job")) == begin
    job.pause(False)
    diary.wait_for("job", begin + 2)
    job.pause()
    job.cancel()
    assert job.wait(30)
    assert diary.events("job")[-1] == Cancelled("as asked")
    assert child.pid is not None


def test_inline_a_handler_may_tell_something():
    told, heard = [], []

    def handle(event):
        if not told:
            told.append(runner.job.tell([7]))
            runner.job.pause()
        if event == Metric("heard", 1.0, 0):
            heard.append(event)
            runner.job.cancel()

    runner = Inline(allow="toy_jobs")
    runner.run("toy_jobs:listening", on_event=handle)
    assert len(heard) == 1
