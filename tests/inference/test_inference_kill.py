"""kill -9 inside one stack: the same command goes on and makes the same bytes.

``UNET_KILLS=20`` kills at 20 random moments for each way instead of two.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from napari_unet import checkpoints
from napari_unet.cli import main
from napari_unet.cli.report import Report
from napari_unet.events import Progress
from napari_unet.files import digest
from napari_unet.inference.resuming.keeper import journal_of
from napari_unet.networks.network import Network

KILLS = int(os.environ.get("UNET_KILLS", "2"))
WAYS = {
    "stream": ["--tiling", "stream"],
    "blend": ["--tiling", "blend", "--tile", "48"],
    "instances": ["--tiling", "stream", "--kind", "instances"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import torch

    from napari_unet.images.intensity import Normalization
    from napari_unet.networks.spec import ModelSpec
    from napari_unet.networks.unet import UNet, UNetSpec

    torch.manual_seed(0)
    shape = UNetSpec(ndim=3, widths=(6, 8), out_channels=3)
    spec = ModelSpec(
        ndim=3, in_channels=1, out_channels=3, task="instances", activation="softmax",
        architecture=shape.model_dump(mode="json"),
        normalization=(Normalization(kind="zscore"),),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    checkpoints.save(Network(UNet(shape), spec), path)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("image") / "stack.tif"
    pixels = rng.integers(0, 4000, (300, 128, 128), dtype=np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


def command(image, model, output, way):
    settings = ["--device", "cpu", "--precision", "float32", "--axes", "ZYX"]
    return [
        "predict", str(image), "--model", str(model), "--output", str(output),
        *settings, *WAYS[way],
    ]  # fmt: skip


def killed(arguments, journal, seconds: float) -> bool:
    """Start a run and kill it some time after it begins to keep something."""
    program = [sys.executable, "-c", "import napari_unet.cli as c; c.main()"]
    process = subprocess.Popen(
        [*program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not journal.exists():
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    return process.wait() < 0


def work_seconds(arguments) -> float:
    """Run, and tell the time from the first finished piece on."""
    report, times = Report.__call__, []

    def timed(self, event) -> None:
        times.append(time.monotonic()) if isinstance(event, Progress) else None
        report(self, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Report, "__call__", timed)
        assert main(arguments) == 0
    return times[-1] - times[0]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("way", WAYS if KILLS > 2 else ["stream"])
def test_killed_at_random_moments(tmp_path, image, model, way, capfd) -> None:
    output = tmp_path / "whole" / "out.ome.tif"
    seconds = work_seconds(command(image, model, output, way))
    wanted, rng, gone_on, kills = digest(output), random.Random(way), 0, 0
    for number in range(KILLS):
        output = tmp_path / str(number) / "out.ome.tif"
        arguments = command(image, model, output, way)
        for _ in range(1 + (number > 1 and number % 2)):  # some are killed twice
            wait = rng.uniform(0, seconds)
            kills += killed(arguments, journal_of(output), wait)
        if not output.exists():
            assert main(arguments) == 0
        assert digest(output) == wanted
        assert [p.name for p in output.parent.iterdir()] == [output.name]
        gone_on += "An earlier run goes on" in capfd.readouterr().err
    print(f"{seconds:.1f} s, {way}: {kills} kills, {gone_on} of {KILLS} went on")
    assert kills
