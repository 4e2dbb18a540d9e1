"""Fails, or kills the process at, each call that changes the disk, one after the other.

Run as a program: ``python -m faults.calls FOLDER ENDING START SUFFIX STEP``. ENDING is
the name of an error of the operating system or "exit", START is "fresh" or "redo" (the
results of other settings are there), each STEPth call is tried. Prints JSON. Each run
is a process forked from one that is warm.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from faults import small_batch
from napari_unet import disk
from napari_unet.batch import run as batch_run
from napari_unet.batch.locks import Locks
from napari_unet.batch.report import TABLE
from napari_unet.errors import OutputError
from napari_unet.events import Warned

WORDS = {
    "ENOSPC": "no space left on the disk (",
    "EDQUOT": "your share of the disk is used up (",
    "EIO": "Input/output error",
    "EACCES": "no permission to write in",
}
TOLD, SILENT, WRONG, BROKEN = 0, 3, 4, 5
"""How a run ended: told its error, met none, told it wrongly, ended otherwise."""


class Counter:
    """Ends the process or fails at call number `at`."""

    def __init__(self, ending: str, at: int) -> None:
        self.ending, self.at, self.count = ending, at, 0
        self.call = ""

    def __call__(self, call: str, path: str) -> None:
        self.count += 1
        if self.count != self.at:
            return
        self.call = call
        if self.ending == "exit":
            os._exit(137)
        number = getattr(errno, self.ending)
        raise OSError(number, os.strerror(number))


def main(folder: Path, ending: str, start: str, suffix: str, step: int) -> dict:
    # an owner that died before it wrote its name is found out by waiting
    batch_run.Locks = partial(Locks, stale=2.0)
    net = small_batch.network()
    source = small_batch.images(folder / "in")
    small_batch.run(source, folder / "warm", net)  # nothing is imported in a fork
    prepared, wanted = folder / "prepared", folder / "out"
    prepared.mkdir()
    old: dict[str, str] = {}
    if start == "redo":
        apart(lambda: small_batch.run(source, wanted, net, suffix=suffix, tile=(16,)))
        old = small_batch.tree(wanted)
        shutil.copytree(wanted, prepared, dirs_exist_ok=True, symlinks=True)
    apart(lambda: small_batch.run(source, wanted, net, suffix=suffix))
    new, fates = small_batch.tree(wanted), small_batch.fates(wanted)
    known: dict[str, set[str]] = {}
    for name, sha256 in [*old.items(), *new.items()]:
        if name != TABLE:  # which holds what is done so far
            known.setdefault(name, set()).add(sha256)
    problems: list[str] = []
    number, tried = 1, 0
    while True:
        shutil.rmtree(wanted)
        shutil.copytree(prepared, wanted)
        run = lambda: one(source, wanted, net, suffix, ending, number)  # noqa: E731, B023
        code = apart(run, watched=known, output=wanted, problems=problems)
        if code == SILENT:
            break
        tried += 1
        if code not in (TOLD, 137):
            problems.append(f"call {number}: ended with {code}")
        seen = small_batch.tree(wanted)
        problems += [
            f"call {number}: {name} is not whole"
            for name, sha256 in seen.items()
            if name[0] != "." and name != TABLE and sha256 not in known.get(name, ())
        ]
        again = apart(lambda: small_batch.run(source, wanted, net, suffix=suffix))
        if again or small_batch.tree(wanted) != new:
            left = set(small_batch.tree(wanted).items()) ^ set(new.items())
            problems.append(f"call {number}: not resumed, {again}, {sorted(left)}")
        if small_batch.fates(wanted) != fates:
            problems.append(f"call {number}: other records")
        number += step
    every = sorted(set(problems))
    return {"calls": number - 1, "tried": tried, "problems": every[:20]}


def one(source, output, net, suffix, ending: str, number: int) -> int:
    """Run once with a fault; the exit code says how it was told."""
    counter = Counter(ending, number)
    Chunks(output).counter = counter
    said = []
    with disk.observed(counter):
        try:
            events = small_batch.run(source, output, net, suffix=suffix)
            said = [e.message for e in events if isinstance(e, Warned)]
        except OutputError as error:
            said = [str(error)]
    if not counter.call:
        return SILENT
    if counter.call == "remove" and not said:
        return TOLD  # what is left behind is removed by the next run
    return TOLD if any(WORDS[ending] in text for text in said) else WRONG


class Chunks:
    """Tells a counter of the files that zarr makes and renames in a hidden folder."""

    def __init__(self, output: Path) -> None:
        self.output, self.counter = str(output), None
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.counter is None or event not in ("open", "os.rename"):
            return
        path = str(arguments[0])
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if path.startswith(self.output) and ".part.zarr/" in path:
            self.counter("open" if event == "open" else "rename", path)


def apart(run, watched=None, output=None, problems=None) -> int:
    """Run in a forked process, look on, and give its exit code."""
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            result = run()
            code = result if isinstance(result, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG if watched else 0)
        if done:
            return os.waitstatus_to_exitcode(status)
        problems += look(output, watched)
        time.sleep(0.001)


def look(output: Path, known: dict[str, set[str]]) -> list[str]:
    """Whatever stands under a final name while a run is under way must be whole."""
    found = []
    for name, whole in known.items():
        path = output / name
        if path.is_file():  # a folder may be renamed while it is read
            sha256 = small_batch.digest(path)
            if sha256 not in whole:
                found.append(f"{name} was seen half-written")
    return found


if __name__ == "__main__":
    place, ending, start, suffix, step = sys.argv[1:]
    print(json.dumps(main(Path(place), ending, start, suffix, int(step))))
