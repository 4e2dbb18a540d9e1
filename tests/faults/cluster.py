"""Kills workers at random moments: ``python -m faults.cluster FOLDER``.

A batch is done by one process, then by clusters of 1, 2 and 4 workers; after an image
was done some worker is killed a little later. The trees must be equal. Prints JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from faults import small_batch
from napari_unet import api, checkpoints
from napari_unet.batch.crew import Crew
from napari_unet.batch.inputs import gather
from napari_unet.batch.ledger import LEDGER, latest
from napari_unet.batch.run import run_batch
from napari_unet.config import BatchConfig
from napari_unet.events import Finished, Progress
from napari_unet.execution.cluster import LocalCluster

IMAGES = 30
KILLS = 3
LONGEST = 0.5
"""Seconds between an image that is done and a kill."""


def main(folder: Path) -> dict:
    source, model = (
        small_batch.images(folder / "in", IMAGES),
        folder / "net.safetensors",
    )
    checkpoints.save(small_batch.network(), model)
    api.run_batch([source], model, folder / "alone", device="cpu", measure=True)
    wanted = small_batch.tree(folder / "alone")
    found, problems = {}, []
    for workers in (1, 2, 4):
        output = folder / f"with {workers}"
        killed = killing(source, model, output, workers, random.Random(workers))
        deaths = sum(r.deaths for r in latest(output / LEDGER).values())
        found[workers] = {"killed": killed, "under way": deaths}
        if small_batch.tree(output) != wanted:
            problems.append(f"another tree with {workers} workers")
        if not killed:
            problems.append(f"nobody was killed of {workers} workers")
    return {"images": len(wanted), "workers": found, "problems": problems}


def killing(source: Path, model: Path, output: Path, workers: int, moments) -> int:
    """Do a batch; return how many workers were killed.

    One at most after each image that is done, so that none is hit three times.
    """
    config = BatchConfig(device="cpu", measure=True)
    cluster = LocalCluster(workers)
    crew = Crew(cluster, model, output, config, {})
    rest, done, killed, due = crew.rest, 0, 0, None
    after = set(moments.sample(range(1, IMAGES * 2 // 3), KILLS))

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
            if isinstance(event, Progress) and int(event.done) > done:
                done = int(event.done)
                if done in after:
                    due = time.monotonic() + moments.random() * LONGEST
    finally:
        crew.close()
    assert isinstance(event, Finished), event
    return killed


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
