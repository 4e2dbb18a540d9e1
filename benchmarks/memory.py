"""Does the memory of a prediction know the length of the stack?

    python -m benchmarks.memory [--planes 200 2000] [--size 512] [--volume]

Each stack is a sparse .npy file, each run a fresh process of the command line; the
figure is the peak of its anonymous memory (RssAnon, read every 20 ms), which memory-
mapped files do not enter. With --volume the network is a 3D one with random weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from napari_unet.checkpoints.native import save
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

MODEL = Path(__file__).parents[1] / "sample_data" / "nuclei.safetensors"


def peak_anonymous(command: list[str]) -> tuple[float, float]:
    """Run a command; return its peak anonymous memory (MB) and its seconds."""
    start, peak = time.perf_counter(), 0
    process = psutil.Popen(command)
    while process.poll() is None:
        try:
            members = [process, *process.children(recursive=True)]
            peak = max(peak, sum(_anonymous(member.pid) for member in members))
        except (psutil.NoSuchProcess, FileNotFoundError):
            pass
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    return peak / 1e3, time.perf_counter() - start


def _anonymous(pid: int) -> int:
    """RssAnon of one process in kB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0


def _volume_model(folder: Path) -> Path:
    """Save a small 3D network with random weights."""
    path = folder / "volume.safetensors"
    shape = UNetSpec(ndim=3, widths=(8, 16, 32))
    spec = ModelSpec(
        name="random volume",
        ndim=3,
        in_channels=1,
        out_channels=2,
        architecture=shape.model_dump(mode="json"),
    )
    save(Network(UNet(shape), spec), path)
    return path


def main() -> None:
    """Print one row per stack length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--volume", action="store_true")
    parser.add_argument("--suffix", default=".ome.tif")
    parser.add_argument("extra", nargs="*", help="more options of napari-unet predict")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = _volume_model(Path(folder)) if args.volume else args.model
        for planes in args.planes:
            stack = Path(folder) / f"stack{planes}.npy"
            np.lib.format.open_memmap(
                stack, "w+", np.uint16, (planes, args.size, args.size)
            )
            command = [sys.executable, "-m", "napari_unet", "predict", str(stack)]
            command += ["--axes", "ZYX", "--model", str(model), *args.extra]
            command += ["--output", str(Path(folder) / f"out{planes}{args.suffix}")]
            peak, seconds = peak_anonymous(command)
            print(f"{planes} planes: {peak:.0f} MB anonymous, {seconds:.1f} s")


if __name__ == "__main__":
    main()
