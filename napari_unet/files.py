"""Atomic writing: nothing ever stands half-written under its final name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet import disk
from napari_unet.disk import reserve as reserve
from napari_unet.disk_errors import telling_write_errors as telling_write_errors
from napari_unet.errors import OutputError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from typing import Any

_CHUNK = 1 << 20
_FLUSHERS = 16
_MARK = 12
_LEFT = re.compile(r"\.[0-9a-f]{20}\.(part|old|pages|new)(\..*)?")


class Commit:
    """A file or a folder that appears complete under its name, or not at all.

    Parameters
    ----------
    path : path-like
        The final name. Its folder is created.
    overwrite : bool
        Whether an existing `path` may be replaced.
    needed : int
        Bytes it takes at most, for the message about a full disk; 0 where unknown.

    Attributes
    ----------
    path : pathlib.Path
        The final name.
    part : pathlib.Path
        A hidden name beside it with the same suffix, to be filled by the caller.

    Raises
    ------
    OutputError
        If `path` is taken or its folder cannot be made.
    """

    def __init__(
        self, path: Path | str, *, overwrite: bool = True, needed: int = 0
    ) -> None:
        self.path = Path(path)
        self._needed = needed
        with telling_write_errors(self.path, needed):
            if self.path.exists() and not overwrite:
                raise OutputError(
                    f"{self.path.name} is there already", hint="Choose another name."
                )
            disk.make_folder(self.path.parent)
        self.part = _hidden(self.path, f".part{self.path.suffix}")

    def done(self) -> None:
        """Flush what was written to the disk and rename it; on failure remove it.

        Raises
        ------
        OutputError
            If the disk is full, writing is not permitted, or the folder vanished.
        """
        try:
            with telling_write_errors(self.path, self._needed):
                flush(self.part)
                _replace(self.part, self.path)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Remove what was written so far."""
        disk.remove(self.part)


@contextlib.contextmanager
def commit(path: Path | str, *, overwrite: bool = True) -> Iterator[Path]:
    """Write a file or a folder so that it appears complete or not at all.

    Yields a temporary path in the same folder, which the caller fills. It is flushed to
    the disk and renamed to `path` on success, and removed on any error.

    Parameters
    ----------
    path : path-like
        The final name. Its folder is created.
    overwrite : bool
        Whether an existing `path` may be replaced.

    Yields
    ------
    pathlib.Path
        A hidden name beside `path` with the same suffix.

    Raises
    ------
    OutputError
        If writing fails: full disk, no permission, vanished folder, `path` taken.
    """
    staged = Commit(path, overwrite=overwrite)
    try:
        with telling_write_errors(staged.path):
            yield staged.part
        staged.done()
    except BaseException:
        staged.undo()
        raise


@contextlib.contextmanager
def writing(part: Path) -> Iterator[io.BufferedRandom]:
    """Open a new file to be filled, such as the `Commit.part` of a result.

    Yields
    ------
    io.BufferedRandom
        Closed at the end; errors of the last bytes are raised, not lost.
    """
    file = disk.opened(part)
    try:
        yield file
    except BaseException:
        file.raw.close()  # what is still buffered would fail again
        raise
    file.close()


def write(path: Path | str, data: bytes, *, overwrite: bool = True) -> None:
    """Write a whole file, read it back, and only then let it appear.

    Raises
    ------
    OutputError
        If it cannot be written, or the disk does not give back what was written.
    """
    staged = Commit(path, overwrite=overwrite, needed=len(data))
    try:
        with telling_write_errors(staged.path, len(data)):
            with writing(staged.part) as file:
                file.write(data)
            if staged.part.read_bytes() != data:
                raise OutputError(
                    f"{staged.path.name} could not be written",
                    found="other bytes on the disk than were written",
                    hint="Check the disk.",
                )
        staged.done()
    except BaseException:
        staged.undo()
        raise


def write_json(path: Path | str, value: Any) -> None:
    """Write plain values as JSON, pure ASCII; see `write`."""
    write(path, json.dumps(value, indent=1).encode() + b"\n")


def append(path: Path, line: bytes) -> None:
    """Add a line to a file in one write and flush it; a torn line before is closed.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with telling_write_errors(path, len(line)):
        new = not path.exists()
        with disk.opened(path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
        disk.sync(path)
        if new:
            disk.sync(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder to a name that is free, for good.

    Raises
    ------
    OutputError
        If it cannot be done.
    """
    with telling_write_errors(target):
        disk.rename(source, target)
        disk.sync(target.parent)


def staged(path: Path) -> Path:
    """Give the hidden name of a result that is whole but not yet recorded."""
    suffix = "".join(path.suffixes[-2:])
    return path.with_name(f".{mark(path)}{'0' * 8}.new{suffix}")


def flush(part: Path) -> None:
    """Force a file, or every file of a folder, to the disk."""
    if part.is_dir():
        with ThreadPoolExecutor(_FLUSHERS) as pool:  # waiting for the disk, together
            list(pool.map(disk.sync, part.rglob("*")))
    disk.sync(part)


def place(source: Path, path: Path) -> None:
    """Give a result that is whole and flushed its name, in the place of what is there.

    Raises
    ------
    OutputError
        If it cannot be done; what was there before stays.
    """
    with telling_write_errors(path):
        _replace(source, path)


def sweep(path: Path) -> None:
    """Remove what a killed process left of its work on `path`.

    Only for who alone may write `path`. What it had moved away to make room comes back
    where nothing took its place.
    """
    for left in sorted(path.parent.glob(f".{mark(path)}*")):
        if not _LEFT.fullmatch(left.name):
            continue
        if left.name.endswith(".old") and not os.path.lexists(path):
            move(left, path)
        else:
            disk.remove(left)


def digest(path: Path | str) -> str:
    """SHA-256 of a file, or of all files of a folder with their names, as hex."""
    path = Path(path)
    total = hashlib.sha256()
    if path.is_dir():
        for member in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(member.relative_to(path).as_posix().encode() + b"\0")
            total.update(bytes.fromhex(digest(member)))
        return total.hexdigest()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _replace(part: Path, path: Path) -> None:
    """Rename over `path`; what a folder replaces is moved away first."""
    if path.is_dir() and not path.is_symlink() and not part.is_dir():
        raise OutputError(
            f"{path.name} could not be written",
            found="a folder of that name",
            hint="Choose another name.",
        )
    old = None
    if part.is_dir() and (path.exists() or path.is_symlink()):
        old = _hidden(path, ".old")
        disk.rename(path, old)
    try:
        disk.rename(part, path)
    except BaseException:
        if old is not None:
            disk.rename(old, path)
        raise
    disk.sync(path.parent)
    if old is not None:
        disk.remove(old)


def _hidden(path: Path, ending: str) -> Path:
    """Make up a hidden name beside `path`, which `sweep` knows again."""
    return path.with_name(f".{mark(path)}{uuid.uuid4().hex[:8]}{ending}")


def littered(folder: Path) -> set[str]:
    """List whose leftovers lie in a folder, as `mark` names them."""
    names = (p.name for p in folder.iterdir() if _LEFT.fullmatch(p.name))
    return {name[1 : 1 + _MARK] for name in names}


def mark(path: Path) -> str:
    """Beginning of the hidden names that belong to `path`."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:_MARK]
