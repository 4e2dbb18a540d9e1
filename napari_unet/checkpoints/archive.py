"""Zip archives and folders as sources of named members, read by exact name only."""

from __future__ import annotations

import re
import stat
import zipfile
from typing import TYPE_CHECKING, Protocol

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_MOST_MEMBERS = 100_000
_MOST_RATIO = 20
_SLACK = 1 << 20
_UNSAFE = re.compile(r"^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)|[\x00-\x1f\u202a-\u202e]")
_DESCRIPTIONS = re.compile(
    r"^([^/]+/)?(rdf\.yaml|bioimageio\.yaml|[^/]+\.bioimageio\.yaml)$"
)


class Source(Protocol):
    """A package: members by name, relative to its description."""

    path: Path

    def description(self) -> str | None:
        """Name of the bioimage.io description, None if there is none."""
        ...

    def read(self, name: str, most: int) -> bytes:
        """Return the bytes of a member of at most `most` bytes."""
        ...


class Folder:
    """A package unpacked on disk; members outside it are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def description(self) -> str | None:
        """Name of the bioimage.io description, None if there is none."""
        names = sorted(p.name for p in self.path.iterdir() if p.suffix == ".yaml")
        return next((n for n in names if _DESCRIPTIONS.match(n)), None)

    def read(self, name: str, most: int) -> bytes:
        """Return the bytes of a member of at most `most` bytes."""
        path = (self.path / check_name(name, self.path)).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise _outside(self.path, name)
        if not path.is_file():
            raise _absent(self.path, name)
        if path.stat().st_size > most:
            raise _too_large(self.path, name)
        return path.read_bytes()


class Zip:
    """A package in a zip archive, perhaps one folder deep."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self.file = file

    def description(self) -> str | None:
        """Name of the bioimage.io description, None if there is none."""
        names = sorted(self.file.namelist())
        return next((n for n in names if _DESCRIPTIONS.match(n)), None)

    def read(self, name: str, most: int) -> bytes:
        """Return the bytes of a member of at most `most` bytes."""
        described = self.description() or ""
        if name != described:
            root = described.rpartition("/")[0]
            name = f"{root}/{name}" if root else name
        check_name(name, self.path)
        try:
            info = self.file.getinfo(name)
        except KeyError:
            raise _absent(self.path, name) from None
        if info.file_size > most:
            raise _too_large(self.path, name)
        return self.file.read(info)


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
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise damaged(path, "a zip archive that is cut off or damaged") from error
    try:
        _check_directory(path, file)
    except ModelError:
        file.close()
        raise
    return file


def check_local_headers(path: Path, file: zipfile.ZipFile) -> None:
    """Refuse archives whose members are named otherwise than the directory says."""
    for info in file.infolist():
        try:
            file.open(info).close()
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
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
