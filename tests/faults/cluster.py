"""Kills workers at random moments: ``python -m faults.cluster FOLDER``.

A batch of images, then one stack whose slabs are shared out, is done by one process and
by clusters of 1, 2 and 4 workers; after an image or a slab was done some worker is
killed a little later. The process with the ledger is killed over the stack too. The
trees must be equal. Prints JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from faults import small_batch
from napari_unet import api, checkpoints
from napari_unet.batch.crew import Crew
from napari_unet.batch.inputs import gather
from napari_unet.batch.ledger import LEDGER, latest
from napari_unet.batch.run import run_batch
from napari_unet.config import BatchConfig
from napari_unet.events import Finished, Progress
from napari_unet.execution.cluster import LocalCluster
from napari_unet.images.sinks import OutputSpec, sink_for

IMAGES = 30
"""And planes of the stack, each of which is a slab."""
KILLS = 3
LONGEST = 0.5
"""Seconds between an image or a slab that is done and a kill."""
_OWNER = """
import sys
from pathlib import Path
from faults import cluster
output, source, model = map(Path, sys.argv[1:])
cluster.killing(source, model, output, 2, None, steps=cluster.IMAGES)
"""


def main(folder: Path) -> dict:
    model = folder / "net.safetensors"
    checkpoints.save(small_batch.network(), model)
    problems: list[str] = []
    images = small_batch.images(folder / "in", IMAGES)
    planes = stack(folder / "stack.ome.zarr")
    found = {
        "images": compared(images, model, folder / "images", problems, steps=1),
        "slabs": compared(planes, model, folder / "slabs", problems, steps=IMAGES),
        "owner": owners(planes, model, folder / "slabs", problems),
    }
    return {**found, "problems": problems}


def stack(path: Path) -> Path:
    pixels = np.random.default_rng(5).integers(0, 200, (IMAGES, 25, 31), np.uint8)
    sink = sink_for(path)
    sink.open(OutputSpec("TYX", pixels.shape, pixels.dtype, "image"))
    sink.write(tuple(slice(0, n) for n in pixels.shape), pixels)
    sink.close()
    return path


def compared(
    source: Path, model: Path, folder: Path, problems: list[str], steps: int
) -> dict:
    """Compare trees; say how many workers were killed, how many of them at work."""
    api.run_batch(
        [source], model, folder / "alone", device="cpu", measure=True,
        suffix=suffix(steps),
    )  # fmt: skip
    wanted, found = small_batch.tree(folder / "alone"), {}
    for workers in (1, 2, 4):
        output, moments = folder / f"with {workers}", random.Random(workers)
        killed = killing(source, model, output, workers, moments, steps=steps)
        deaths = sum(r.deaths for r in latest(output / LEDGER).values())
        found[workers] = {"killed": killed, "under way": deaths}
        if small_batch.tree(output) != wanted:
            problems.append(f"{folder.name}: another tree with {workers} workers")
        if not killed:
            problems.append(f"{folder.name}: nobody was killed of {workers} workers")
    return found


def suffix(steps: int) -> str:
    return ".ome.tif" if steps == 1 else ".ome.zarr"


def killing(
    source: Path, model: Path, output: Path, workers: int, moments, *, steps: int
) -> int:
    """Do a batch; return how many workers were killed, none without `moments`.

    One at most after each image or slab that is done, so that none is hit three times.
    """
    config = BatchConfig(device="cpu", measure=True, suffix=suffix(steps))
    cluster = LocalCluster(workers)
    crew = Crew(cluster, model, output, config, {})
    crew.least = 1
    rest, done, killed, due = crew.rest, 0, 0, None
    after = set(moments.sample(range(1, IMAGES * 2 // 3), KILLS)) if moments else set()

    def resting():
        nonlocal due, killed
        rest()
        if due is not None and time.monotonic() > due:
            moments.choice(cluster.processes).kill()
            killed, due = killed + 1, None

    crew.rest = resting
    try:
        for event in run_batch(
            gather([source], output), checkpoints.load(model), output, config,
            segment=crew, crew=crew,
        ):  # fmt: skip
            if isinstance(event, Progress) and int(event.done * steps) > done:
                now = int(event.done * steps)
                if after & set(range(done + 1, now + 1)):
                    due = time.monotonic() + moments.random() * LONGEST
                done = now
    finally:
        crew.close()
    assert isinstance(event, Finished), event
    return killed


def owners(source: Path, model: Path, folder: Path, problems: list[str]) -> dict:
    """Kill the process with the ledger after a slab or two; then let one finish."""
    output, moments = folder / "owners", random.Random(7)
    found = os.pathsep.join(filter(None, sys.path))
    env = {**os.environ, "PYTHONPATH": found}
    command = [sys.executable, "-c", _OWNER, str(output), str(source), str(model)]
    for _ in range(KILLS):
        before = noted(output)
        with subprocess.Popen(command, env=env) as owner:
            while owner.poll() is None and noted(output) <= before:
                time.sleep(0.01)
            time.sleep(moments.random() * LONGEST)
            owner.kill()
    slabs = noted(output)
    if not slabs:
        problems.append("no slabs were kept when the owner was killed")
    subprocess.run(command, env=env, check=True)
    if small_batch.tree(output) != small_batch.tree(folder / "alone"):
        problems.append("another tree after kills of the owner")
    return {"killed": KILLS, "slabs kept": slabs}


def noted(output: Path) -> int:
    """Slabs that a journal tells of."""
    with contextlib.suppress(FileNotFoundError):  # it went with the last slab
        for path in output.glob(".unet-*.slabs/slabs.journal"):
            return path.read_bytes().count(b"\nrec") - 1
    return 0


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
