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
    done = subprocess.run(
        [sys.executable, "-m", "hostile.fuzz", tmp_path, str(COUNT)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[1])},
    )
    endings = json.loads(done.stdout)
    assert set(endings) == {"opened", "refused"}, done.stderr[-3000:]
    assert sum(endings.values()) == COUNT
    assert endings["refused"] > COUNT // 2
