"""What do more workers gain?

    OMP_NUM_THREADS=1 python -m benchmarks.workers --files [--count 32] [--rounds 5]
    OMP_NUM_THREADS=1 python -m benchmarks.workers --slabs [--rounds 5]

The same work by one worker and by two, each worker pinned to a core of its own, rounds
taking turns; medians. --slabs: one stack whose result is OME-Zarr, a 2D network over
planes and a 3D one over a volume; one worker does all of it, two divide it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import tifffile
import torch

from napari_unet import checkpoints
from napari_unet.batch.crew import Crew
from napari_unet.batch.inputs import gather
from napari_unet.batch.run import run_batch
from napari_unet.config import BatchConfig
from napari_unet.events import Finished
from napari_unet.execution.cluster import LocalCluster
from napari_unet.images.intensity import Normalization
from napari_unet.images.sinks import OutputSpec, sink_for
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = BatchConfig(device="cpu", precision="float32")


def main() -> None:
    """Print seconds and what two workers gain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--slabs", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=32)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.files:
            files(Path(folder), args.rounds, args.count)
        if args.slabs:
            slabs(Path(folder), args.rounds)


def files(folder: Path, rounds: int, count: int) -> None:
    """Compare workers on files."""
    model = saved(folder / "net.safetensors", (16, 32, 64, 128))
    source = images(folder / "in", count, (2048, 2048))
    throughput(folder, rounds, source, model, f"{count} files", CONFIG)


def slabs(folder: Path, rounds: int) -> None:
    """Compare workers on one stack of planes and on one volume."""
    config = CONFIG.model_copy(update={"suffix": ".ome.zarr"})
    for name, widths, ndim, shape in (
        ("planes", (16, 32, 64, 128), 2, (48, 1024, 1024)),
        ("volume", (8, 16, 32), 3, (512, 128, 128)),
    ):
        place = folder / name
        source = stack(place / "stack.ome.zarr", shape, "TYX" if ndim == 2 else "ZYX")
        model = saved(place / "net.safetensors", widths, ndim)
        words = f"one stack of {' x '.join(map(str, shape))}, {ndim}D network"
        throughput(place, rounds, source, model, words, config)


def stack(path: Path, shape: tuple[int, ...], axes: str) -> Path:
    """Write one stack of noise as OME-Zarr."""
    path.parent.mkdir(parents=True)
    noise = np.random.default_rng(1)
    sink = sink_for(path)
    sink.open(OutputSpec(axes, shape, np.dtype(np.uint8), "image"))
    for number in range(shape[0]):
        plane = noise.integers(0, 200, (1, *shape[1:]), np.uint8)
        sink.write((slice(number, number + 1), *map(slice, shape[1:])), plane)
    sink.close()
    return path


def throughput(
    folder: Path,
    rounds: int,
    source: Path,
    model: Path,
    words: str,
    config: BatchConfig,
) -> None:
    """Print seconds of one worker and of two, and their ratio."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with pinned(1) as one, pinned(2) as two:
        for number in range(-1, rounds):  # the first opens the model
            for cluster in (one, two)[:: 1 if number % 2 else -1]:
                output = folder / f"{number} {len(cluster.processes)}"
                begin = time.perf_counter()
                run(cluster, source, model, output, config)
                took = time.perf_counter() - begin
                if number >= 0:
                    seconds[len(cluster.processes)].append(took)
    for workers, times in seconds.items():
        print(f"{workers} workers: {statistics.median(times):.2f} s for {words}")
    ratios = [a / b for a, b in zip(seconds[1], seconds[2], strict=True)]
    print(f"speed-up {statistics.median(ratios):.2f} ({min(ratios):.2f} at least)")


@contextmanager
def pinned(workers: int) -> Iterator[LocalCluster]:
    """Start workers, each on a core of its own, before they start threads."""
    cluster = LocalCluster(workers)
    cores = sorted(os.sched_getaffinity(0))
    for process, core in zip(cluster.processes, cores, strict=False):
        psutil.Process(process.pid).cpu_affinity([core])
    try:
        yield cluster
    finally:
        cluster.close()


def run(
    cluster: LocalCluster, source: Path, model: Path, output: Path, config: BatchConfig
) -> None:
    """Do a batch; the workers stay, with the model open."""
    config = config.model_copy(update={"workers": len(cluster.processes)})
    crew = Crew(Kept(cluster), model, output, config, {})
    *_, last = run_batch(
        gather([source], output), checkpoints.load(model), output, config,
        segment=crew, crew=crew,
    )  # fmt: skip
    crew._locks.close()
    assert isinstance(last, Finished), last
    assert last.result.count("failed") == 0, last.result


class Kept:
    """A cluster that outlives the crew."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.client, self.mend = cluster.client, cluster.mend

    def close(self) -> None:
        """Stay."""


def network(widths: tuple[int, ...], ndim: int = 2) -> Network:
    """Make a network of random weights."""
    torch.manual_seed(0)
    shape = UNetSpec(widths=widths, ndim=ndim)
    spec = ModelSpec(
        ndim=ndim,
        in_channels=1,
        out_channels=2,
        architecture=shape.model_dump(mode="json"),
        normalization=(Normalization(kind="zscore"),),
    )
    return Network(UNet(shape), spec, digest="d")


def saved(path: Path, widths: tuple[int, ...], ndim: int = 2) -> Path:
    """Write a network."""
    checkpoints.save(network(widths, ndim), path)
    return path


def images(folder: Path, count: int, shape: tuple[int, int]) -> Path:
    """Write images of noise."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1)
    for number in range(count):
        pixels = noise.integers(0, 200, shape, np.uint8)
        tifffile.imwrite(folder / f"{number:05}.tif", pixels)
    return folder


if __name__ == "__main__":
    main()
