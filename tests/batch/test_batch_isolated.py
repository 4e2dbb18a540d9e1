"""A computing process may die, hang or swell: the rest goes on."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil
import pytest

from napari_unet.batch import isolated
from napari_unet.batch.inputs import gather
from napari_unet.batch.ledger import Ledger
from napari_unet.batch.run import run_batch
from napari_unet.config import BatchConfig
from napari_unet.events import Cancelled, CancelToken, Finished, Progress, Warned
from napari_unet.execution.child_process import Child


@pytest.fixture
def apart(monkeypatch):
    monkeypatch.syspath_prepend(os.fspath(Path(__file__).parent))
    monkeypatch.setattr(isolated, "_JOB", "batch_toys:job")
    with contextlib.closing(isolated.Isolated("model")) as made:
        made._child = Child(allow="batch_toys", stop_after=1.0)
        yield made


@pytest.fixture
def run(apart, folder, tmp_path, network):
    def run(cancel=None, **settings):
        inputs, out = gather([folder], tmp_path / "out"), tmp_path / "out"
        config = BatchConfig.build(**settings)
        events = run_batch(inputs, network, out, config, segment=apart, cancel=cancel)
        return list(events)

    return run


def fates(events):
    assert isinstance(events[-1], Finished)
    return {Path(i.input).name: (i.status, i.reason) for i in events[-1].result.items}


def test_an_image_over_which_processes_die_is_left_out(run, folder, tmp_path):
    for name, text in {"a": "fine", "b": "die", "c": "bad", "d": "fine"}.items():
        (folder / f"{name}.tif").write_text(text)
    events = run()
    found = fates(events)
    assert [found[f"{name}.tif"][0] for name in "abcd"] == [
        "done", "failed", "failed", "done",
    ]  # fmt: skip
    assert "3 computing processes died" in found["b.tif"][1]
    assert found["c.tif"][1] == "it is bad."
    died = [e.message for e in events if isinstance(e, Warned) and "died" in e.message]
    assert len(died) == 4  # thrice it died, and the verdict
    record = Ledger(tmp_path / "out")["../in/b.tif"]
    assert (record.deaths, record.outcome, record.passing) == (3, "failed", False)
    assert "failed before" in "".join(e.message for e in run() if isinstance(e, Warned))
    assert Ledger(tmp_path / "out")["../in/b.tif"] == record


def test_a_process_that_dies_once_or_twice_costs_nothing(run, folder, tmp_path):
    (folder / "a.tif").write_text(f"die until {tmp_path / 'tries'}")
    assert fates(run())["a.tif"] == ("done", "")
    record = Ledger(tmp_path / "out")["../in/a.tif"]
    assert record.deaths == 2
    assert record.numerics == {"threads": "1"}


def test_too_long_is_a_failure_of_the_image(run, folder):
    for name in ("do", "hang"):
        (folder / f"{name}.tif").write_text(name)
    found = fates(run(time_limit=8 / 60))
    assert found["do.tif"][0] == "done"
    assert "took longer than it may" in found["hang.tif"][1]


def test_too_large_is_a_failure_of_the_image(run, folder):
    for name in ("swell", "well"):
        (folder / f"{name}.tif").write_text(name)
    found = fates(run(memory_limit=0.4))
    assert "took more memory than it may" in found["swell.tif"][1]
    assert found["well.tif"][0] == "done"


@pytest.mark.parametrize("text", ["slow", "hang"])
def test_a_stop_ends_the_process_and_counts_as_no_death(
    run, apart, folder, tmp_path, text
):
    (folder / "a.tif").write_text(text)
    token = CancelToken()
    inner = Child.run

    def stopping(self, *args, on_event, **kwargs):
        def hear(event):
            on_event(event)
            if isinstance(event, Progress):
                token.set()

        return inner(self, *args, on_event=hear, **kwargs)

    apart._child.run = stopping.__get__(apart._child)
    begin = time.monotonic()
    assert isinstance(run(cancel=token)[-1], Cancelled)
    assert time.monotonic() - begin < 60
    record = Ledger(tmp_path / "out")["../in/a.tif"]
    assert (record.outcome, record.deaths) == ("stopped", 0)


def test_a_generator_that_is_dropped_ends_the_process(apart, folder, network, tmp_path):
    (folder / "a.tif").write_text("hang")
    events = apart(folder / "a.tif", tmp_path / "o", network, BatchConfig())
    next(events)
    pid = apart._child.pid
    events.close()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(10)
    assert not psutil.pid_exists(pid)


def test_memory_that_is_only_mapped_does_not_count(tmp_path):
    import numpy as np

    np.zeros(40_000_000, np.uint8).tofile(tmp_path / "large")
    before = isolated.own_memory(os.getpid())
    mapped = np.memmap(tmp_path / "large", np.uint8, "r")
    assert mapped.sum() == 0
    assert isolated.own_memory(os.getpid()) - before < 20_000_000
    assert before > 10_000_000
    assert isolated.own_memory(2**22 + 1) == 0
