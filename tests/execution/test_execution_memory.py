"""What the computing process keeps for shapes that never come again."""

import subprocess
import sys

import pytest

GROWTH = """
import numpy as np, psutil, sys
from napari_unet.execution import memory
memory.keep()
import torch
layers = torch.nn.Sequential(*(torch.nn.Conv2d(16, 16, 3) for _ in range(8)))
sizes = np.random.default_rng(0).permutation(300) + 20
def forward(sizes):
    with torch.inference_mode():
        for size in sizes:
            layers(torch.zeros(1, 16, 20, int(size)))
    memory.give_back()
    return psutil.Process().memory_info().rss
first = forward(sizes[:100])
print((forward(sizes[100:]) - first) / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc gives memory back")
def test_memory_does_not_grow_with_every_new_shape():
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 8
