"""What does a batch cost beside the network?

    OMP_NUM_THREADS=1 python -m benchmarks.batch

Measures what each image costs the process that owns the ledger, the scheduler and the
worker, and simulates 10,000 files on 100 workers with that.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.workers import CONFIG, images, network, saved
from napari_unet import checkpoints
from napari_unet.batch.inputs import gather
from napari_unet.batch.lanes import Waiting
from napari_unet.batch.made import Made
from napari_unet.batch.run import run_batch
from napari_unet.events import Finished
from napari_unet.execution.child_process import Child
from napari_unet.execution.cluster import LocalCluster
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.networks.network import Network

FILES, WORKERS = 10_000, 100
FLUSHES = 4
"""Of the ledger and the folder, for each image."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder))


def simulate(folder: Path) -> None:
    """Print what an image costs whom, and how long many of them take."""
    costs = {
        "owner: ledger, locks, names, an image": owner(),
        "owner: a flush to the disk": flush(folder),
        "owner: a look at an image under way": look(folder),
        "scheduler: there and back": there_and_back(),
        "worker: start, open the model": opening(folder),
        "hash and read again, a GB": hashing(folder),
    }
    for name, seconds in costs.items():
        print(f"{name:42} {seconds * 1e3:10.2f} ms")
    work_s, flush_s, look_s, back_s, open_s, _ = costs.values()
    owner_s = work_s + FLUSHES * flush_s
    print(f"\n{FILES} files, {WORKERS} workers, simulated:")
    for mean in (1, 5, 30, 120):
        total, busy = makespan(mean, owner_s, look_s * WORKERS, back_s, open_s)
        ideal = FILES * mean / WORKERS
        print(
            f"{mean:4} s an image: {total / 60:7.1f} min, {ideal / total:4.0%} of the"
            f" ideal, owner busy {busy / total:4.0%}"
        )


def makespan(
    mean: float, owner_s: float, round_s: float, back_s: float, open_s: float
) -> tuple[float, float]:
    """Simulate workers that wait for one owner.

    Images take gamma-distributed times (coefficient of variation 0.5). Before and after
    each the owner, who serves one worker at a time, works half of `owner_s`, and it
    looks at all that are under way, `round_s`, once for each image.

    Returns
    -------
    tuple of float
        Seconds until the last image is recorded, and of them those the owner works.
    """
    times = random.Random(1)
    free, left, owner, busy = [(open_s, n) for n in range(WORKERS)], FILES, 0.0, 0.0
    begun = [False] * WORKERS
    heapq.heapify(free)
    while free:
        ready, worker = heapq.heappop(free)
        work = (begun[worker] + (left > 0)) * owner_s / 2 + round_s
        owner = max(owner, ready + back_s) + work
        busy += work
        begun[worker] = left > 0
        if left:
            left -= 1
            took = times.gammavariate(4, mean / 4)
            heapq.heappush(free, (owner + back_s + took, worker))
    return owner, busy


class Instant:
    """A crew whose images are done at once, after some looks."""

    def __init__(self, lanes: int, looks: int) -> None:
        self.lanes, self._looks = lanes, looks

    def tend(self) -> Iterator[Any]:
        """Nobody comes or goes."""
        return iter(())

    def rest(self) -> None:
        """Go on at once."""

    def __call__(self, source: Path, target: Path, *_: Any, **__: Any) -> Iterator[Any]:
        """Write some bytes."""
        for _ in range(self._looks):
            yield Waiting()
        target.write_bytes(b"x" * 1000)
        yield Finished(Made({"threads": "1"}, (hashlib.sha256(b"x").hexdigest(),)))


def owned(folder: Path, files: int, looks: int, net: Network) -> float:
    """Seconds of the processor in a batch whose images cost nothing."""
    source, output = folder / "in", folder / "out"
    crew = Instant(WORKERS, looks)
    found = gather([source], output)
    assert len(found.images) == files
    begin = time.process_time()
    *_, last = run_batch(found, net, output, CONFIG, segment=crew, crew=crew)
    took = time.process_time() - begin
    assert last.result.count("done") == files, last.result
    return took


def owner(files: int = 2000) -> float:
    """Seconds the owner works for an image, waiting for no disk."""
    net, memory = network((2, 4)), "/dev/shm"
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        tiny = images(Path(folder) / "in", files, (8, 8))
        return owned(tiny.parent, files, 0, net) / files


def flush(folder: Path, times: int = 50) -> float:
    """Seconds until some bytes are on the disk; median."""
    seconds = []
    with (folder / "flushed").open("ab") as file:
        for _ in range(times):
            file.write(b"x" * 800)
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def look(folder: Path, files: int = 100, looks: int = 200) -> float:
    """Seconds of one look at an image that is under way."""
    net = network((2, 4))
    first = images(folder / "look 0" / "in", files, (8, 8))
    second = images(folder / "look 1" / "in", files, (8, 8))
    without = owned(first.parent, files, 0, net)
    return max(owned(second.parent, files, looks, net) - without, 0) / files / looks


def there_and_back(times: int = 100) -> float:
    """Seconds of a task that does nothing, through TLS; median."""
    cluster, seconds = LocalCluster(1), []
    try:
        for number in range(times):
            begin = time.perf_counter()
            cluster.client.submit(int, number, pure=False).result()
            seconds.append(time.perf_counter() - begin)
    finally:
        cluster.close()
    return statistics.median(seconds)


def opening(folder: Path) -> float:
    """Seconds until a fresh process has opened the model, beside a warm image."""
    model = saved(folder / "opened.safetensors", (16, 32, 64, 128))
    source = next(images(folder / "opening", 1, (64, 64)).iterdir())
    seconds = []
    with Child() as child:
        for number in range(3):
            begin = time.perf_counter()
            job = child.run(
                "napari_unet.batch.unit:work_apart", str(source),
                str(folder / f"{number}.ome.tif"), str(model),
                checkpoints.load(model).digest, CONFIG, on_event=lambda _: None,
            )  # fmt: skip
            job.wait()
            seconds.append(time.perf_counter() - begin)
    return seconds[0] - seconds[-1]


def hashing(folder: Path, size: int = 256 << 20) -> float:
    """Seconds to hash a GB that was just written."""
    path = folder / "large"
    path.write_bytes(os.urandom(size))
    begin = time.perf_counter()
    digest(path)
    return (time.perf_counter() - begin) * (1e9 / size)


if __name__ == "__main__":
    main()
