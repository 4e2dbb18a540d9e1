"""A disk that forgets, when the power is cut, whatever was not flushed.

`Platter` watches the calls of `napari_unet.disk`: the bytes of a file last once it was
flushed, a name once its folder was. `left` gives what the disk holds after a cut.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

from faults.small_batch import digest
from napari_unet.batch.ledger import LEDGER, latest
from napari_unet.batch.locks import LOCKS


class Platter:
    """What of a folder lasts.

    Parameters
    ----------
    root : pathlib.Path
        The folder, which is there already.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._held: dict[int, int] = {}  # open, so that no number comes twice
        self._lock = threading.Lock()
        self.flush(root)

    def flush(self, path: Path) -> None:
        """Take note of a file or folder as it is now."""
        with self._lock:
            number = self._number(path)
            if path.is_dir():
                inside = path.iterdir()
                self._names[number] = {p.name: self._number(p) for p in inside}
            else:
                self._bytes[number] = path.read_bytes()

    def _number(self, path: Path) -> int:
        """Which file or folder lies under a name; the same wherever it is moved."""
        handle = os.open(path, os.O_RDONLY)
        number = os.fstat(handle).st_ino
        if number in self._held:
            os.close(handle)
        else:
            self._held[number] = handle
        return number

    def left(self, target: Path, *, names_last: bool = False) -> Path:
        """Write down what a cut of the power leaves.

        Parameters
        ----------
        target : pathlib.Path
            A new folder.
        names_last : bool
            Whether names that were not flushed are there all the same, as on file
            systems that write names before bytes.
        """
        self._write(self.root.stat().st_ino, target, self.root if names_last else None)
        return target

    def _write(self, number: int, target: Path, now: Path | None) -> None:
        names = self._names.get(number, {})
        if now is not None:
            names = {p.name: self._number(p) for p in now.iterdir()}
        target.mkdir()
        for name, inside in names.items():
            if name == LOCKS:  # its owner, this process, is alive
                continue
            if os.path.isdir(f"/proc/self/fd/{self._held[inside]}"):
                self._write(inside, target / name, now and now / name)
            else:
                (target / name).write_bytes(self._bytes.get(inside, b""))

    def close(self) -> None:
        """Let go of all files."""
        for handle in self._held.values():
            os.close(handle)


class Checker:
    """Looks before each call whether all that is recorded would outlast a cut.

    Parameters
    ----------
    output : pathlib.Path
        Folder of the results.
    every : int
        Each so many calls there is a cut.

    Attributes
    ----------
    cuts : list of pathlib.Path
        What was left after each of them, beside `output`.
    problems : list of str
        What was recorded and would have been lost.
    """

    def __init__(self, output: Path, every: int) -> None:
        self.platter = Platter(output)
        self.output, self.every = output, every
        self.cuts: list[Path] = []
        self.calls = self.kept = 0
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, call: str, path: str) -> None:
        with self._lock:
            self.calls += 1
            number = self.calls
            if number % self.every == 0:
                self._cut(f"cut {number}", number % (2 * self.every) == 0)
            self._check(number)
        if call == "flush" and self.output in (Path(path), *Path(path).parents):
            self.platter.flush(Path(path))

    def _check(self, number: int) -> None:
        """Compare the records, flushed or not, with what would be left of results."""
        done = [r for r in latest(self.output / LEDGER).values() if r.outcome == "done"]
        if len(done) == self.kept:
            return
        self.kept = len(done)
        left = self.platter.left(self.output.with_name("look"))
        for record in done:
            path = left / record.output
            if not path.exists() or digest(path) != record.output_sha256:
                self.problems.append(f"call {number}: {record.output} would be lost")
        shutil.rmtree(left)

    def _cut(self, name: str, names_last: bool) -> None:
        """Keep what is left now."""
        cut = self.platter.left(self.output.with_name(name), names_last=names_last)
        self.cuts.append(cut)
