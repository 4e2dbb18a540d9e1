"""Zip archives and folders as sources of named members, read by exact name only."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_MOST_MEMBERS = 100_000
_MOST_RATIO = 20
_SLACK = 1 << 20
_UNREADABLE = (
    *(zipfile.BadZipFile, OSError, zlib.error, NotImplementedError, EOFError),
    *(RuntimeError, ValueError),
)
"""What zipfile raises on damaged members."""
_UNSAFE = re.compile(r"^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)|[\x00-\x1f\u202a-\u202e]")
_DEEPEST = 2
_MOST_NAMES = 10_000


class Source(ABC):
    """A package: its members by name, with ``/`` between folders.

    Attributes
    ----------
    path : pathlib.Path
        The folder or zip archive.
    """

    path: Path

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all members; in folders down to two levels."""

    @abstractmethod
    def read(self, name: str, most: int) -> bytes:
        """Return the bytes of a member of at most `most` bytes.

        Raises
        ------
        ModelError
            If it is absent, too large or outside the package.
        """

    @abstractmethod
    def file(self, name: str, most: int) -> AbstractContextManager[Path]:
        """Lend a member as a file on disk, under a name of the same ending."""


class Folder(Source):
    """A package unpacked on disk; members outside it are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Return the names of all files down to two levels."""
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        found = islice(_files(self.path, _DEEPEST), _MOST_NAMES)
        return sorted(p.relative_to(self.path).as_posix() for p in found)

    def read(self, name: str, most: int) -> bytes:
        """Return the bytes of a member of at most `most` bytes."""
        return self._inside(name, most).read_bytes()

    @contextmanager
    def file(self, name: str, most: int) -> Iterator[Path]:
        """Lend the file itself."""
        yield self._inside(name, most)

    def _inside(self, name: str, most: int) -> Path:
        path = (self.path / check_name(name, self.path)).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise _outside(self.path, name)
        if not path.is_file():
            raise _absent(self.path, name)
        if path.stat().st_size > most:
            raise _too_large(self.path, name)
        return path


class Zip(Source):
    """A package in a zip archive; names are relative to `root` inside it."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = file
        self._root = _common_root(file.namelist())

    def names(self) -> list[str]:
        """Return the names of all members."""
        inside = [n for n in self._zip.namelist() if n.startswith(self._root)]
        return sorted(n.removeprefix(self._root) for n in inside if n[-1:] != "/")

    def read(self, name: str, most: int) -> bytes:
        """Return the bytes of a member of at most `most` bytes."""
        check_name(name, self.path)
        try:
            info = self._zip.getinfo(self._root + name)
        except KeyError:
            raise _absent(self.path, name) from None
        if info.file_size > most:
            raise _too_large(self.path, name)
        return member(self.path, self._zip, info)

    @contextmanager
    def file(self, name: str, most: int) -> Iterator[Path]:
        """Lend a private copy."""
        with tempfile.TemporaryDirectory(prefix="napari-unet-") as folder:
            path = Path(folder) / PurePosixPath(name).name
            path.write_bytes(self.read(name, most))
            yield path


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the files below a folder, its own first; folder links are not followed."""
    folders = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _is_file(entry):
                yield Path(entry.path)
            elif depth > 1 and entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
    for inner in folders:
        yield from _files(inner, depth - 1)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to one; links in a loop are none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _common_root(names: list[str]) -> str:
    """Return the one folder that holds everything in an archive, with a slash."""
    tops = {n.partition("/")[0] for n in names if not n.startswith("__MACOSX")}
    has_root = len(tops) == 1 and any("/" in n for n in names)
    return f"{tops.pop()}/" if has_root else ""


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive after checking its directory.

    Raises
    ------
    ModelError
        If it is damaged, holds unsafe, encrypted, doubled or too many names, links,
        or members that expand more than 20 times.
    """
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise damaged(path, "a zip archive that is cut off or damaged") from error
    try:
        _check_directory(path, file)
    except ModelError:
        file.close()
        raise
    return file


def member(path: Path, file: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a member of the archive `path`.

    Raises
    ------
    ModelError
        If they are damaged.
    """
    try:
        return file.read(info)
    except _UNREADABLE as error:
        raise damaged(path, f"{info.filename}: {error}") from error


def check_local_headers(path: Path, file: zipfile.ZipFile) -> None:
    """Refuse archives whose members are named otherwise than the directory says."""
    for info in file.infolist():
        try:
            file.open(info).close()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise damaged(path, f"an ambiguous archive ({error})") from error


def check_name(name: str, path: Path) -> str:
    """Return `name` if it stays inside its archive or folder."""
    if _UNSAFE.search(name):
        raise _outside(path, name)
    return name


def damaged(path: Path, found: str) -> ModelError:
    """Make the error for a broken file."""
    return ModelError(
        f"{path.name} is damaged", found=found, hint="Download or save it again."
    )


def _check_directory(path: Path, file: zipfile.ZipFile) -> None:
    members = file.infolist()
    names = [m.filename for m in members]
    if len(names) > _MOST_MEMBERS:
        raise damaged(path, f"{len(names)} members")
    if len(set(names)) < len(names):
        raise damaged(path, "an ambiguous archive with two members of one name")
    for member in members:
        check_name(member.filename, path)
        if member.flag_bits & 1:
            raise damaged(path, "an encrypted archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise damaged(path, f"a link inside the archive ({member.filename})")
        if member.file_size > _MOST_RATIO * member.compress_size + _SLACK:
            raise damaged(
                path,
                f"{member.filename} grows from {member.compress_size} to "
                f"{member.file_size} bytes",
            )
    if sum(m.compress_size for m in members) > path.stat().st_size:
        raise damaged(path, "an ambiguous archive with overlapping members")


def _outside(path: Path, name: str) -> ModelError:
    return ModelError(
        f"{path.name} points outside itself",
        found=repr(name),
        hint="Such a package is not opened.",
    )


def _absent(path: Path, name: str) -> ModelError:
    return ModelError(f"{path.name} lacks a file it names", found=f"no {name}")


def _too_large(path: Path, name: str) -> ModelError:
    return ModelError(f"{name} in {path.name} is larger than such a file should be")
