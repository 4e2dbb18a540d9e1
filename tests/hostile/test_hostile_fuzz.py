from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = int(os.environ.get("UNET_MUTANTS", "200"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_mutated_checkpoints(tmp_path):
    """Each is opened or refused; none hangs, crashes or raises anything else.

    ``make fuzz`` tries thousands.
    """
    check("hostile.fuzz", tmp_path, {"opened", "refused"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_mutated_images(tmp_path):
    """Each is read or refused, in 10 s and 1 GiB; none comes out in another shape."""
    check("hostile.fuzz_images", tmp_path, {"read", "refused"})


def check(program, folder, allowed):
    path = [os.fspath(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", program, folder, str(COUNT)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    endings = json.loads(done.stdout)
    assert set(endings) == allowed, done.stderr[-3000:]
    assert sum(endings.values()) == COUNT
    assert endings["refused"] > COUNT // 2
