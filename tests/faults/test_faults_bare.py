"""The command line where a system has next to nothing to offer."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from faults import small_batch
from napari_unet import checkpoints

EVERY = os.environ.get("UNET_FAULTS") == "all"


@pytest.mark.skipif(not EVERY, reason="starts Python twice; this is make faults")
@pytest.mark.skipif(os.name == "nt", reason="umask of POSIX")
def test_no_home_no_display_and_a_strict_umask(tmp_path):
    checkpoints.save(small_batch.network(), tmp_path / "net.safetensors")
    small_batch.images(tmp_path / "in")
    (tmp_path / "home").write_text("no folder can be made below this file")
    bare = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [
            sys.executable, "-m", "napari_unet", "batch", "in", "--model",
            "net.safetensors", "--output", "out",
        ],
        cwd=tmp_path, env=bare, umask=0o077, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 done, 0 skipped (done before), 0 failed")
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").iterdir()}
    assert modes == {0o600}
