"""Several runs on one output folder: ``python -m faults.race FOLDER PROCESSES TIMES``.

Each of the processes, forked at the same moment, does the same images; each image
notes who did it. Prints JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

from napari_unet.batch.inputs import gather
from napari_unet.batch.ledger import LEDGER, latest
from napari_unet.batch.run import run_batch
from napari_unet.config import BatchConfig
from napari_unet.events import Finished

IMAGES = 12


def main(folder: Path, processes: int, times: int) -> dict:
    from faults import small_batch

    net = small_batch.network()
    source, output = folder / "in", folder / "out"
    source.mkdir()
    for number in range(IMAGES):
        (source / f"{number:02}.tif").write_text(f"image {number}")
    problems: list[str] = []
    for turn in range(times):
        shutil.rmtree(output, ignore_errors=True)
        begin = time.monotonic() + 0.1
        pids = []
        for _ in range(processes):
            pid = os.fork()
            if pid == 0:
                one(source, output, net, begin, folder / "who")
            pids.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        done = (folder / "who").read_text().split()
        (folder / "who").unlink()
        if any(codes):
            problems.append(f"turn {turn}: ended with {codes}")
        if sorted(done) != [f"{number:02}.tif" for number in range(IMAGES)]:
            problems.append(f"turn {turn}: done {sorted(done)}")
        records = latest(output / LEDGER).values()
        if [r.outcome for r in records] != ["done"] * IMAGES:
            problems.append(f"turn {turn}: {[r.outcome for r in records]}")
        if (output / ".unet-locks").exists():
            problems.append(f"turn {turn}: locks are left")
    return {"turns": times, "problems": problems}


def one(source: Path, output: Path, net, begin: float, who: Path) -> None:
    """Take part; never returns."""
    code = 1
    try:
        while time.monotonic() < begin:
            pass
        config, found = BatchConfig(), gather([source], output)
        events = list(run_batch(found, net, output, config, segment=noting(who)))
        summary = events[-1].result
        code = 0 if summary.count("done") + summary.count("skipped") == IMAGES else 2
    finally:
        os._exit(code)


def noting(who: Path):
    """Make a segmenter that notes each image it does."""

    def segment(source, target, network, config, cancel=None):
        handle = os.open(who, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{source.name}\n".encode())
        os.close(handle)
        time.sleep(0.003)
        target.write_text(source.read_text().upper())
        yield Finished(str(target))

    return segment


if __name__ == "__main__":
    place, processes, times = sys.argv[1:]
    print(json.dumps(main(Path(place), int(processes), int(times))))
