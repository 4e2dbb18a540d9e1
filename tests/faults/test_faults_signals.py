"""A run that is asked to stop: once, twice, or by a scheduler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from napari_unet import checkpoints
from napari_unet.batch.ledger import LEDGER, latest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
FIVE_SECONDS = 5.0
SLACK = 20.0
"""More than that is a hang, however busy the machine is."""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model, and enough images that a run lasts until it is stopped."""
    from faults import small_batch

    folder = tmp_path_factory.mktemp("signals")
    checkpoints.save(small_batch.network(), folder / "net.safetensors")
    (folder / "in").mkdir()
    for number in range(400):
        pixels = np.full((300, 300), number % 200, np.uint8)
        pixels[::2] = 7
        tifffile.imwrite(folder / "in" / f"{number:03}.tif", pixels)
    return folder


@pytest.fixture
def begun(work, tmp_path):
    """A run of the command line that has done its first images."""
    command = [
        sys.executable, "-m", "napari_unet", "batch", str(work / "in"), "--model",
        str(work / "net.safetensors"), "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    end = time.monotonic() + 120
    while len(done(tmp_path / "out")) < 2 and time.monotonic() < end:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


def done(output):
    records = latest(output / LEDGER).values()
    return {r.input for r in records if r.outcome == "done"}


def check_order(output, at_once=False):
    """Nothing is left of the run but results, and the image under way can be redone.

    Where it ended at once, what was being written is left too; the next run removes it.
    """
    outcomes = [r.outcome for r in latest(output / LEDGER).values()]
    assert outcomes.count("stopped") <= 1
    assert set(outcomes) <= {"done", "stopped"}
    assert not (output / ".unet-locks").exists()
    left = [p.name for p in output.iterdir() if p.suffix != ".journal"]
    hidden = [name for name in left if name.startswith(".")]
    assert len(hidden) <= at_once
    assert all(name.endswith(".part.tif") for name in hidden)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_once_records_and_ends(begun, tmp_path, name):
    child = psutil.Process(begun.pid).children()[0]
    begun.send_signal(getattr(signal, name))
    if name == "SIGUSR1":  # SLURM may send it to every process, and again
        child.send_signal(signal.SIGUSR1)
        begun.send_signal(signal.SIGUSR1)
    _, said = begun.communicate(timeout=FIVE_SECONDS + SLACK)
    assert begun.returncode == 130, said
    assert "run it again to go on" in said
    check_order(tmp_path / "out")
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_twice_ends_at_once(begun, tmp_path):
    begun.send_signal(signal.SIGINT)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=SLACK)
    assert begun.returncode == 130, said
    check_order(tmp_path / "out", at_once=True)


def test_a_killed_run_takes_its_process_along(begun, tmp_path):
    child = psutil.Process(begun.pid).children()[0]
    begun.kill()
    begun.wait()
    child.wait(SLACK)
    count = len(done(tmp_path / "out"))
    assert count >= 2
    assert Path(tmp_path / "out" / ".unet-locks").exists()
