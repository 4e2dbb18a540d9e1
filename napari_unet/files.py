"""Atomic writing: nothing ever stands half-written under its final name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import OutputError, UNetError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20
_FLUSHERS = 16
_IS_WINDOWS = os.name == "nt"


class Commit:
    """A file or a folder that appears complete under its name, or not at all.

    Parameters
    ----------
    path : path-like
        The final name. Its folder is created.
    overwrite : bool
        Whether an existing `path` may be replaced.

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

    def __init__(self, path: Path | str, *, overwrite: bool = True) -> None:
        self.path = Path(path)
        with telling_write_errors(self.path):
            if self.path.exists() and not overwrite:
                raise OutputError(
                    f"{self.path.name} is there already", hint="Choose another name."
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.part = _hidden(self.path, f".part{self.path.suffix}")

    def done(self) -> None:
        """Flush what was written to the disk and rename it; on failure remove it.

        Raises
        ------
        OutputError
            If the disk is full, writing is not permitted, or the folder vanished.
        """
        try:
            with telling_write_errors(self.path):
                _flush(self.part)
                _replace(self.part, self.path)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Remove what was written so far."""
        _discard(self.part)


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
def telling_write_errors(path: Path | str) -> Iterator[None]:
    """Turn the operating system's write errors into one clear sentence.

    Libraries wrap a full disk in errors of their own, so after any error but ours the
    free space is looked at too.
    """
    path = Path(path)
    try:
        yield
    except UNetError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path.name} could not be written", found=_reason(error, path)
        ) from error
    except Exception as error:
        if not _is_full(path):
            raise
        raise OutputError(
            f"{path.name} could not be written", found=_no_space(path)
        ) from error


def reserve(path: Path, size: int) -> None:
    """Make a file of `size` bytes whose space is really there.

    A memory-mapped file with holes kills the process when the disk runs full; this
    fails beforehand instead.

    Parameters
    ----------
    path : pathlib.Path
        Made if absent, lengthened if shorter.
    size : int
        Bytes.

    Raises
    ------
    OSError
        If there is no space.
    """
    with path.open("r+b" if path.exists() else "w+b") as file:
        start = file.seek(0, os.SEEK_END)
        if hasattr(os, "posix_fallocate") and size > start:
            os.posix_fallocate(file.fileno(), start, size - start)
        while (missing := size - file.seek(0, os.SEEK_END)) > 0:
            file.write(bytes(min(missing, _CHUNK)))


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


def _flush(part: Path) -> None:
    """Force a file, or every file of a folder, to the disk."""
    if part.is_dir():
        with ThreadPoolExecutor(_FLUSHERS) as pool:  # waiting for the disk, together
            list(pool.map(_sync, part.rglob("*")))
    _sync(part)


def _sync(path: Path) -> None:
    """Flush one file or folder; folders cannot be flushed on every system."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        handle = os.open(path, flags)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        _rename(path, old)
    try:
        _rename(part, path)
    except BaseException:
        if old is not None:
            _rename(old, path)
        raise
    _sync(path.parent)
    if old is not None:
        _discard(old)


def _rename(source: Path, target: Path) -> None:
    """Rename; on Windows a virus scanner may hold the file for a moment."""
    for wait in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0):
        try:
            return os.replace(source, target)
        except PermissionError:
            if not _IS_WINDOWS:
                raise
            time.sleep(wait)
    return os.replace(source, target)


def _hidden(path: Path, ending: str) -> Path:
    """Make up a hidden name beside `path`."""
    return path.with_name(f".{uuid.uuid4().hex[:12]}{ending}")


def _discard(part: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            part.unlink()


def _reason(error: OSError, path: Path) -> str:
    """Say why writing failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space(path)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in {path.parent}"
    return error.strerror or str(error)


def _no_space(path: Path) -> str:
    """Say that the disk is full, and how much is left."""
    try:
        left = f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB"
    except OSError:
        left = "unknown"
    return f"no space left on the disk ({left} free)"


def _is_full(path: Path) -> bool:
    """Whether hardly anything can be written any more."""
    try:
        return shutil.disk_usage(path.parent).free < _CHUNK
    except OSError:
        return False
