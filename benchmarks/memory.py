"""What memory does a prediction take: does it know the length of the stack, or more
than was planned?

    python -m benchmarks.memory [--planes 200 2000] [--size 512] [--volume]
    python -m benchmarks.memory --planner

Each image is a sparse .npy file, each run a fresh process of the command line; the
figure is the peak of its anonymous memory (RssAnon, read every 20 ms), which memory-
mapped files do not enter. With --volume the network is a 3D one with random weights.
--planner compares with what ``predict --plan`` says beforehand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from benchmarks.engines import random_network
from benchmarks.measuring import anonymous
from napari_unet.checkpoints.native import save

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = Path(__file__).parents[1] / "sample_data" / "nuclei.safetensors"
PLANNED = [
    ((2048, 4096), (32, 64, 128, 256, 512)),
    ((4096, 16384), (4, 8, 16, 32)),
    ((16384, 16384), (4, 8, 16, 32)),
    ((64, 512, 512), (16, 32, 64, 128)),
    ((400, 256, 256), (8, 16, 32)),
]
"""Images and widths of the networks."""


def main() -> None:
    """Print one row per image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--volume", action="store_true")
    parser.add_argument("--planner", action="store_true")
    parser.add_argument("--suffix", default=".ome.tif")
    parser.add_argument("extra", nargs="*", help="more options of napari-unet predict")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.planner:
            _planner(Path(folder))
            return
        model = args.model
        if args.volume:
            model = _model(Path(folder), 3, (8, 16, 32))
        for planes in args.planes:
            command = _command(
                Path(folder), (planes, args.size, args.size), model, args.suffix
            )
            peak, seconds = peak_anonymous([*command, *args.extra])
            print(f"{planes} planes: {peak / 1e6:.0f} MB anonymous, {seconds:.1f} s")


def peak_anonymous(command: list[str]) -> tuple[int, float]:
    """Run a command; return its peak anonymous memory in bytes and its seconds."""
    start, peak = time.perf_counter(), 0
    process = psutil.Popen(command)
    while process.poll() is None:
        try:
            members = [process, *process.children(recursive=True)]
            peak = max(peak, sum(anonymous(member.pid) for member in members))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    return peak, time.perf_counter() - start


def _planner(folder: Path) -> None:
    """Print what was planned and what it was."""
    for shape, widths in PLANNED:
        model = _model(folder, len(shape), widths)
        command = [*_command(folder, shape, model), "--precision", "float32"]
        planned = _planned(command)
        peak, seconds = peak_anonymous(command)
        size = " x ".join(map(str, shape))
        print(
            f"{size}, widths {widths[0]} to {widths[-1]}: {planned / 1e6:.0f} MB "
            f"planned, {peak / 1e6:.0f} MB taken ({peak / planned:.2f}), "
            f"{seconds:.1f} s",
            flush=True,
        )


def _planned(command: list[str]) -> int:
    """Bytes that the plan of a prediction tells, of network and program."""
    place = command.index("--output")
    asked = [*command[:place], *command[place + 2 :], "--plan", "--json"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    plan = json.loads(told.splitlines()[-1])
    return int(plan["device_bytes"]) + int(plan["host_bytes"])


def _model(folder: Path, ndim: int, widths: tuple[int, ...]) -> Path:
    """Save a network with random weights."""
    path = folder / f"{ndim}d_{len(widths)}_{widths[0]}.safetensors"
    if not path.exists():
        save(random_network(ndim, widths), path)
    return path


def _command(
    folder: Path, shape: Sequence[int], model: Path, suffix: str = ".ome.tif"
) -> list[str]:
    """Make an empty image, and return the command that predicts it."""
    name = "x".join(map(str, shape))
    image, target = folder / f"{name}.npy", folder / f"{name}{suffix}"
    np.lib.format.open_memmap(image, "w+", np.uint16, tuple(shape))
    command = [sys.executable, "-m", "napari_unet", "predict", str(image)]
    command += ["--axes", "ZYX"[-len(shape) :], "--model", str(model)]
    return [*command, "--output", str(target)]


if __name__ == "__main__":
    main()
