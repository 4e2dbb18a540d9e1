"""The child process: events, Stop, loss, end."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_unet.errors import ImageError, UsageError
from napari_unet.events import Cancelled, Finished, Metric, Preview, Progress, Started
from napari_unet.execution.child_process import Child
from napari_unet.execution.protocol import Failed, UnexpectedError


class Log:
    """Gathers events and lets a test wait for one of a type."""

    def __init__(self):
        self.events = []
        self._came = threading.Condition()

    def __call__(self, event):
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def wait_for(self, kind):
        with self._came:
            assert self._came.wait_for(
                lambda: any(isinstance(e, kind) for e in self.events), 30
            )


@pytest.fixture(scope="module")
def child():
    with Child(allow="toy_jobs", stop_after=0.5) as child:
        yield child


def run(child, name, *args, **kwargs):
    log = Log()
    assert child.run(f"toy_jobs:{name}", *args, on_event=log, **kwargs).wait(30)
    return log.events


def test_events_come_in_order_and_results_are_plain(child):
    events = run(child, "count", 3)
    assert events[0] == Started("count", total=3)
    assert events[1:4] == [Metric("i", float(i), i) for i in range(3)]
    answer = {"path": str(Path("a") / "b"), "scores": (0.5, 1.0)}
    assert events[4:] == [Finished(answer)]


def test_process_stays_warm(child):
    first, second = run(child, "pid")[-1].result, run(child, "pid")[-1].result
    assert first == second == child.pid != os.getpid()


def test_prints_do_not_disturb_and_input_is_empty(child):
    assert run(child, "talkative") == [Finished(True)]


def test_what_threads_say_is_logged_once(child, caplog):
    said = [f"{what} in a thread" for what in ("printed", "warned", "raised")]
    assert run(child, "threaded") == [Finished("done")]
    assert all(words in caplog.text for words in said)
    assert run(child, "silent")[-1] == Finished()
    assert len(caplog.records) == 1


def test_job_without_last_event_is_finished(child):
    assert run(child, "silent") == [Started("silent"), Finished()]


def test_large_previews_are_dropped(child):
    events = run(child, "previews")
    assert [type(e) for e in events] == [Preview, Finished]
    np.testing.assert_array_equal(events[0].data, [0, 1])
    np.testing.assert_array_equal(events[1].result, [2.5, 2.5, 2.5])


def test_unwanted_previews_are_dropped(child):
    assert [type(e) for e in run(child, "previews", previews=False)] == [Finished]


def test_users_errors_cross_as_they_are(child):
    error = run(child, "refuses")[-1].error
    assert type(error) is ImageError
    assert str(error) == "No image: found nothing. Give one."


def test_other_errors_become_one_sentence_with_details(child):
    events = run(child, "breaks")
    assert events[0] == Progress(1, 2)
    error = events[-1].error
    assert isinstance(error, UnexpectedError)
    assert "ZeroDivisionError, by zero" in str(error)
    assert "Traceback" not in str(error)
    assert "Traceback" in error.details


@pytest.mark.parametrize("name", ["unpicklable", "foreign"])
def test_results_that_cannot_cross_are_errors(child, name):
    events = run(child, name)
    assert [type(e) for e in events] == [Failed]
    assert run(child, "pid")[-1].result == child.pid


@pytest.mark.parametrize("target", ["os:abort", "napari_unet.api:drain"])
def test_only_the_allowed_package_runs(child, target):
    log = Log()
    assert child.run(target, on_event=log).wait(30)
    assert isinstance(log.events[-1].error, UsageError)


def test_missing_function_is_told(child):
    assert "does not exist" in str(run(child, "nothing")[-1].error)


def test_stop_is_answered_by_the_job(child):
    pid = run(child, "pid")[-1].result
    log = Log()
    job = child.run("toy_jobs:endless", on_event=log)
    log.wait_for(Started)
    job.cancel()
    assert job.wait(30)
    assert log.events[-1] == Cancelled("as asked")
    assert run(child, "pid")[-1].result == pid


def test_stop_ends_a_process_that_does_not_answer(child):
    pid = run(child, "pid")[-1].result
    log = Log()
    job = child.run("toy_jobs:stubborn", on_event=log)
    log.wait_for(Started)
    job.cancel()
    assert job.wait(30)
    assert isinstance(log.events[-1], Cancelled)
    assert run(child, "pid")[-1].result != pid
    assert not psutil.pid_exists(pid)


def test_a_job_asked_for_while_the_process_is_ended_gets_another(child, monkeypatch):
    log, ending, go_on = Log(), threading.Event(), threading.Event()
    stuck = child.run("toy_jobs:stubborn", on_event=log, turn="first")
    log.wait_for(Started)
    worker, end = child._worker, child._worker._end

    def end_slowly():
        ending.set()
        go_on.wait(30)
        end()

    monkeypatch.setattr(worker, "_end", end_slowly)
    pid = child.pid
    stuck.cancel()
    assert ending.wait(30)
    try:
        assert run(child, "pid")[-1].result != pid
    finally:
        go_on.set()
    assert stuck.wait(30)
    assert isinstance(log.events[-1], Cancelled)


@pytest.mark.parametrize(
    ("stop_after", "last"), [(None, Cancelled("stopped")), (20.0, Finished("kept"))]
)
def test_job_with_something_to_keep_gets_its_time_to_stop(child, stop_after, last):
    log = Log()
    job = child.run("toy_jobs:careful", on_event=log, stop_after=stop_after)
    log.wait_for(Started)
    job.cancel()
    assert job.wait(30)
    assert log.events[-1] == last


def test_killed_process_is_an_error_and_the_next_job_runs(child):
    log = Log()
    job = child.run("toy_jobs:stubborn", on_event=log)
    log.wait_for(Started)
    psutil.Process(child.pid).kill()
    assert job.wait(30)
    assert [type(e) for e in log.events] == [Started, Failed]
    assert "process died (out of memory?)" in str(log.events[-1].error)
    assert isinstance(run(child, "pid")[-1], Finished)


def test_process_killed_while_idle_is_replaced(child):
    process = psutil.Process(run(child, "pid")[-1].result)
    process.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert run(child, "pid")[-1].result != process.pid


def test_next_job_may_start_from_the_last_event(child):
    log = Log()

    def restart(event):
        if isinstance(event, Finished):
            child.run("toy_jobs:silent", on_event=log)

    child.run("toy_jobs:pid", on_event=restart)
    log.wait_for(Finished)
    assert isinstance(log.events[-1], Finished)


def test_one_job_at_a_time(child):
    job = child.run("toy_jobs:endless", on_event=Log())
    with pytest.raises(RuntimeError, match="one job"):
        child.run("toy_jobs:pid", on_event=Log())
    job.cancel()
    assert job.wait(30)


@pytest.mark.parametrize("name", ["endless", "stubborn"])
def test_closing_ends_job_and_process(name):
    child, log = Child(allow="toy_jobs", stop_after=0.3), Log()
    job = child.run(f"toy_jobs:{name}", on_event=log)
    log.wait_for(Started)
    pid = child.pid
    child.close()
    assert job.wait(30)
    assert isinstance(log.events[-1], Cancelled)
    assert child.pid is None
    assert not psutil.pid_exists(pid)


def test_process_leaves_when_its_parent_is_killed():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from napari_unet.execution.child_process import Child;"
        "c = Child(allow='toy_jobs');"
        "c.run('toy_jobs:pid', on_event=lambda e: (print(e.result, flush=True)))"
        ".wait(); import time; time.sleep(60)"
    )
    folder = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", script, folder], stdout=subprocess.PIPE
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(30)
    assert not child.is_running()


def test_child_knows_neither_qt_nor_torch(child):
    modules = run(child, "modules")[-1].result
    assert "toy_jobs" in modules
    assert not {"PyQt6", "PySide6", "napari", "qtpy", "torch"} & set(modules)


@pytest.mark.skipif(
    sys.platform != "win32" and psutil.Process().nice() >= 19,
    reason="this process has the lowest priority there is",
)
@pytest.mark.parametrize("gives_way", [True, False])
def test_gives_way_to_its_parent_when_asked(gives_way):
    with Child(allow="toy_jobs", gives_way=gives_way) as child:
        child.run("toy_jobs:count", {"n": 1}, on_event=Log()).wait(30)
        theirs = psutil.Process(child.pid).nice()
    ours = psutil.Process().nice()
    if sys.platform == "win32":
        expected = psutil.BELOW_NORMAL_PRIORITY_CLASS if gives_way else ours
        assert theirs == expected
    else:
        assert (theirs > ours) is gives_way
