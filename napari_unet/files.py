"""Atomic writing: nothing ever stands half-written under its final name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20


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
    path = Path(path)
    with telling_write_errors(path):
        if path.exists() and not overwrite:
            raise OutputError(
                f"{path.name} is there already", hint="Choose another name."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part{path.suffix}")
    try:
        with telling_write_errors(path):
            yield part
            _flush(part)
            _replace(part, path)
    except BaseException:
        _discard(part)
        raise


@contextlib.contextmanager
def telling_write_errors(path: Path | str) -> Iterator[None]:
    """Turn the operating system's write errors into one clear sentence."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{Path(path).name} could not be written", found=_reason(error, Path(path))
        ) from error


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
    members = [part] if part.is_file() else [*part.rglob("*"), part]
    for member in members:
        _sync(member)


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
    """Rename over `path`; a folder already there is moved away first."""
    old = None
    if path.is_dir() and not path.is_symlink():
        old = path.with_name(f".{uuid.uuid4().hex[:12]}.old")
        os.rename(path, old)
    os.replace(part, path)
    _sync(path.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _discard(part: Path) -> None:
    """Remove what was written so far."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            part.unlink()


def _reason(error: OSError, path: Path) -> str:
    """Say why writing failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk ({_free(path)} free)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in {path.parent}"
    return error.strerror or str(error)


def _free(path: Path) -> str:
    """Free space where `path` lies, in words."""
    try:
        return f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB"
    except OSError:
        return "unknown"
