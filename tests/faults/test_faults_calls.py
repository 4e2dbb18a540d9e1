"""Each call that changes the disk fails once, or kills the process once.

`make faults` tries every call; without it each test tries a few of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EVERY = os.environ.get("UNET_FAULTS") == "all"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CASES = [
    (ending, start, suffix)
    for suffix in (".ome.tif", ".ome.zarr")
    for start in ("fresh", "redo")
    for ending in ("exit", "ENOSPC", "EDQUOT", "EIO", "EACCES")
]
QUICK = {
    ("exit", "fresh", ".ome.tif"),
    ("exit", "redo", ".ome.zarr"),
    ("ENOSPC", "redo", ".ome.tif"),
    ("EACCES", "fresh", ".ome.zarr"),
}


@pytest.mark.parametrize(
    ("ending", "start", "suffix"), [c for c in CASES if EVERY or c in QUICK]
)
@pytest.mark.timeout(1800 if EVERY else 300)
def test_any_call_may_fail_or_be_the_last(quick_disk, ending, start, suffix):
    step = 1 if EVERY else 29
    found = harness("calls", quick_disk, ending, start, suffix, step)
    assert found["problems"] == []
    assert found["calls"] > 60
    assert found["tried"] >= found["calls"] // step


@pytest.mark.timeout(1800 if EVERY else 300)
def test_a_batch_killed_at_random_moments(quick_disk):
    times = 50 if EVERY else 3
    found = harness("kills", quick_disk, times)
    assert found["problems"] == []
    assert found["unfinished"] > times // 2


@pytest.mark.timeout(1800 if EVERY else 300)
@pytest.mark.parametrize("processes", [2, 3, 5, 8] if EVERY else [2, 8])
def test_runs_that_share_a_folder(quick_disk, processes):
    found = harness("race", quick_disk, processes, 5 if EVERY else 1)
    assert found["problems"] == []


@pytest.mark.skipif(not EVERY, reason="tests/batch has one kill; this is make faults")
@pytest.mark.timeout(1800)
def test_workers_killed_at_random_moments(tmp_path):
    assert harness("cluster", tmp_path)["problems"] == []


def harness(program: str, *arguments: object) -> dict:
    """Run a program of this folder in a fresh Python with one computing thread."""
    done = subprocess.run(
        [sys.executable, "-m", f"faults.{program}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(
                [os.fspath(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            ),
        },
    )
    print(program, *arguments, done.stdout)  # which pytest -rA shows
    return json.loads(done.stdout)
