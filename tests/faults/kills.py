"""Kills a batch of 30 stacks at random moments: ``python -m faults.kills DIR TIMES``.

After each kill the batch is run again; its tree must be that of a run nobody killed,
and at most one image may have been begun twice. Prints JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from faults import small_batch
from faults.calls import apart, look
from napari_unet.batch.ledger import LEDGER
from napari_unet.batch.report import TABLE

IMAGES = 30


def main(folder: Path, times: int) -> dict:
    net = small_batch.network()
    source = small_batch.images(folder / "in", IMAGES, (4,))
    settings = {"axes": "TYX", "tiling": "exact", "tile": (16,)}
    small_batch.run(source, folder / "warm", net, **settings)  # all is imported
    output = folder / "out"
    run = lambda: small_batch.run(source, output, net, **settings)  # noqa: E731
    begin = time.monotonic()
    apart(run)
    length = time.monotonic() - begin
    wanted = small_batch.tree(output)
    known = {name: {sha256} for name, sha256 in wanted.items() if name != TABLE}
    moments = random.Random(7)
    problems: list[str] = []
    unfinished = 0
    for turn in range(times):
        shutil.rmtree(output)
        kill_after(run, moments.random() * length, output, known, problems)
        unfinished += any(not (output / name).exists() for name in wanted)
        again = apart(run)
        if again or small_batch.tree(output) != wanted:
            problems.append(f"turn {turn}: not resumed")
        twice = [n for n in begun(output).values() if n > 1]
        if twice not in ([], [2]):
            problems.append(f"turn {turn}: begun again {twice}")
    every = sorted(set(problems))
    return {"times": times, "unfinished": unfinished, "problems": every[:20]}


def kill_after(run, seconds: float, output: Path, known, problems: list[str]) -> None:
    """Start a run and end it without warning, looking at its results meanwhile."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if output.exists():
            problems += look(output, known)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def begun(output: Path) -> Counter:
    """How often work on each image began."""
    lines = (output / LEDGER).read_bytes().splitlines()
    records = [json.loads(line) for line in lines if line.endswith(b"}")]
    return Counter(
        r["input"]
        for r in records
        if r["outcome"] == "started" and not r["next_sha256"]
    )


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
