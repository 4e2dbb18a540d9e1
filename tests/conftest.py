"""Settings of the whole test run, made before anything heavy is imported."""

import os
import sys
import tempfile

import pytest
from hypothesis import settings

# Two computing threads, also in child processes, and no more for numba, which tells
# PyTorch's OpenMP its own number; napari keeps its settings
# in memory, so that those of the user neither count nor change; nor does the
# user's cache of checkpoints.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="napari-unet-tests-")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ["NAPARI_CONFIG"] = ""
os.environ.setdefault("QT_API", "pyqt6")

settings.register_profile("unhurried", deadline=None, derandomize=True)
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot do, and say why."""
    reasons = {
        "gui": "" if _has_display() else "no display; use xvfb-run",
        "gpu": "" if _has_gpu(items) else "no CUDA device",
    }
    for item in items:
        for name, reason in reasons.items():
            if reason and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def _has_display() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY"))


def _has_gpu(items: list[pytest.Item]) -> bool:
    """Whether there is a GPU; torch is only asked where a test needs to know."""
    if not any(item.get_closest_marker("gpu") for item in items):
        return False
    import torch

    return torch.cuda.is_available()
