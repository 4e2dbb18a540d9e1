"""The calls that change a disk, one function each, so that a test can fail any of them.

Every file of this package is written through these, by way of `napari_unet.files`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Observer = Callable[[str, str], None]

_IS_WINDOWS = os.name == "nt"
_CHUNK = 1 << 20
_BUSY = (errno.EBUSY, errno.ETXTBSY, errno.ESTALE, errno.EAGAIN)
"""What shares answer while a scanner or another computer holds a file for a moment."""
_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
"""What file systems answer that have no flushing of folders, such as SMB shares."""
_observers: list[Observer] = []


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Call a function before each change of the disk.

    Parameters
    ----------
    observer : callable
        Gets the name of the call (open, write, flush, rename, remove, make, reserve)
        and the path. What it raises takes the place of the call.
    """
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


class File(io.FileIO):
    """A raw file that tells before it is opened and before each write."""

    def __init__(self, path: Path, mode: str) -> None:
        self._path = str(path)
        _before("open", path)
        super().__init__(path, mode)

    def write(self, data: object) -> int:
        """Write some bytes; see `io.RawIOBase.write`."""
        _before("write", self._path)
        return super().write(data)  # type: ignore[arg-type]


def opened(path: Path, mode: str = "xb+") -> io.BufferedRandom:
    """Open a file to write; "xb+" makes it new, "ab+" adds to it."""
    return io.BufferedRandom(File(path, mode))


def sync(path: Path) -> None:
    """Flush one file or folder; folders cannot be flushed on every system or share."""
    _before("flush", path)
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        handle = os.open(path, flags)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH or not path.is_dir():
            raise
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Rename over what is there; a virus scanner or a share may hold it a moment."""
    _before("rename", target)
    _patiently(lambda: os.replace(source, target))


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there, for good."""
    if not path.is_dir():
        if not path.parent.exists():
            make_folder(path.parent)
        _before("make", path)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it, if it is there."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            _before("remove", path)
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            _before("remove", path)
            _patiently(path.unlink)


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
    _before("reserve", path)
    with path.open("r+b" if path.exists() else "w+b") as file:
        start = file.seek(0, os.SEEK_END)
        if hasattr(os, "posix_fallocate") and size > start:
            os.posix_fallocate(file.fileno(), start, size - start)
        while (missing := size - file.seek(0, os.SEEK_END)) > 0:
            file.write(bytes(min(missing, _CHUNK)))


def lengthen(path: Path, size: int) -> None:
    """Make a file `size` bytes long; what is added has holes where the system can.

    Raises
    ------
    OSError
        If the file system has no files of that size.
    """
    _before("reserve", path)
    with path.open("r+b") as file:
        file.truncate(size)


def _patiently(call: Callable[[], None]) -> None:
    """Try again for some seconds where others may hold a file for a moment."""
    for wait in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0):
        try:
            return call()
        except OSError as error:
            held = _IS_WINDOWS and isinstance(error, PermissionError)
            if not held and error.errno not in _BUSY:
                raise
            time.sleep(wait)
    return call()


def _before(call: str, path: Path | str) -> None:
    """Tell the observers what comes."""
    for observer in _observers:
        observer(call, str(path))
