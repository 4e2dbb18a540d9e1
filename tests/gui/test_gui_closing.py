"""A person closes napari while the dock trains: a real window, child and exit."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from napari_unet import checkpoints

pytestmark = pytest.mark.gui

PROGRAM = Path(__file__).with_name("close_while_training.py")


def test_napari_ends_with_the_round_kept(tmp_path):
    folders = {"XDG_DATA_HOME": tmp_path, "NAPARI_CONFIG": tmp_path / "settings.yaml"}
    env = os.environ | {name: str(path) for name, path in folders.items()}
    before = set(psutil.Process().children(recursive=True))
    done = subprocess.run(
        [sys.executable, PROGRAM],
        capture_output=True, text=True, env=env, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    asked, kept = done.stdout.splitlines()[-2:]
    assert asked.startswith("asked: ")
    path = Path(kept.removeprefix("kept: "))
    assert path.is_relative_to(tmp_path)
    assert checkpoints.load(path).spec.out_channels == 2
    assert path.with_suffix(".training").exists()  # it can go on
    assert set(psutil.Process().children(recursive=True)) <= before
