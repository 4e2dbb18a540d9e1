from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_thousand_mutated_checkpoints(tmp_path):
    """Each is opened or refused; none hangs, crashes or raises anything else."""
    done = subprocess.run(
        [sys.executable, "-m", "hostile.fuzz", tmp_path, "1000"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[1])},
    )
    endings = json.loads(done.stdout)
    assert set(endings) == {"opened", "refused"}, done.stderr[-3000:]
    assert sum(endings.values()) == 1000
    assert endings["refused"] > 500
