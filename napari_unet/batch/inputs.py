"""Which images a batch is about, and what their results are called."""

from __future__ import annotations

import fnmatch
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.batch.ledger import LEDGER, latest
from napari_unet.batch.names import fold, unedited
from napari_unet.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_TEMPORARY = ("~", ".tmp", ".part", ".partial", ".crdownload", ".swp")
_SYSTEM = ("thumbs.db", "desktop.ini", "icon\r", LEDGER)


@dataclass(frozen=True)
class Input:
    """One image to do.

    Attributes
    ----------
    path : pathlib.Path
        Where it lies.
    size, mtime_ns : int
        Its bytes and the time of its last change, to see whether it changed.
    fault : str
        Why it cannot be an image, empty for a regular file or a Zarr folder.
    """

    path: Path
    size: int = 0
    mtime_ns: int = 0
    fault: str = ""


@dataclass(frozen=True)
class Inputs:
    """The images of a batch in order, and what the user should know about them."""

    images: tuple[Input, ...]
    notes: tuple[str, ...] = ()


def gather(
    inputs: Sequence[str | Path], output: str | Path, pattern: str = "*"
) -> Inputs:
    """List the images named by files and folders.

    A folder stands for the files directly inside it that match `pattern`, by name;
    hidden and temporary files are passed over, and so are results that an earlier batch
    wrote there. A Zarr folder is one image. A file named outright is always taken.

    Parameters
    ----------
    inputs : sequence of path-like
        Files and folders.
    output : path-like
        Folder of the results.
    pattern : str
        Shell pattern for the files of folders, such as ``*.tif``; case does not count.

    Returns
    -------
    Inputs
        Each image once.

    Raises
    ------
    UsageError
        If a path does not exist, the results would land among the images, or no image
        is left.
    """
    images: dict[str, Input] = {}
    notes: list[str] = []
    for path in map(Path, inputs):
        _refuse_bad_place(path, Path(output))
        named = [path] if _is_single(path) else _members(path, pattern, notes)
        images |= {_identity(p): examine(p) for p in named}
    if not images:
        raise UsageError(
            "There is nothing to do",
            found=f"no file that matches {pattern!r}",
            hint="Name image files or a folder that holds some.",
        )
    return Inputs(tuple(images.values()), tuple(notes))


def examine(path: Path) -> Input:
    """Look at a file without opening it, so that a pipe or a device cannot hang us."""
    try:
        state = path.stat()
    except OSError as error:
        fault = "a link that leads nowhere" if path.is_symlink() else error.strerror
        return Input(path, fault=fault or "a file that cannot be looked at")
    if stat.S_ISDIR(state.st_mode):
        return Input(path, *_folder_state(path))
    regular = stat.S_ISREG(state.st_mode)
    fault = "" if regular else "a pipe or a device, no regular file"
    return Input(path, state.st_size, state.st_mtime_ns, fault)


def is_zarr(path: Path) -> bool:
    """Whether a folder is one Zarr image."""
    return path.is_dir() and (
        path.suffix == ".zarr" or any((path / mark).is_file() for mark in _ZARR_MARKS)
    )


def _refuse_bad_place(path: Path, output: Path) -> None:
    """Refuse a path that does not exist or that lies where the results go."""
    if not os.path.lexists(path):
        raise UsageError(
            f"{path} does not exist", hint="Check the name, or leave it out."
        )
    if output.exists() and not output.is_dir():
        raise UsageError(f"The output folder {output} is a file")
    home = path.parent if _is_single(path) else path
    if home.resolve() == output.resolve():
        raise UsageError(
            "The results would land among the images",
            found=f"{output} for both",
            hint="Choose another output folder.",
        )


def _is_single(path: Path) -> bool:
    """Whether a path is one image rather than a folder of them."""
    return not path.is_dir() or is_zarr(path)


def _members(folder: Path, pattern: str, notes: list[str]) -> list[Path]:
    """Files and Zarr folders directly inside a folder, by name."""
    ours = _results_in(folder)
    seen = [p for p in _sorted(folder) if not _is_passed_over(p.name, ours)]
    deeper = [p.name for p in seen if not _is_single(p)]
    if deeper:
        notes.append(
            f"{folder.name} holds {len(deeper)} more folders that were not opened, "
            f"such as {deeper[0]}; name them to do them too."
        )
    return [p for p in seen if _is_single(p) and _matches(p.name, pattern)]


def _sorted(folder: Path) -> list[Path]:
    """List a folder by name."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        found = error.strerror or str(error)
        raise UsageError(f"The folder {folder} cannot be read", found=found) from error


def _results_in(folder: Path) -> set[str]:
    """Folded names of the results that an earlier batch wrote into a folder."""
    return {fold(record.output) for record in latest(folder / LEDGER).values()}


def _is_passed_over(name: str, ours: set[str]) -> bool:
    """Whether a name is hidden, temporary, or a result of ours."""
    low = name.lower()
    return (
        low.startswith(".")
        or low.endswith(_TEMPORARY)
        or low in _SYSTEM
        or fold(unedited(name)) in ours
    )


def _matches(name: str, pattern: str) -> bool:
    """Whether a name fits a shell pattern, whatever the case."""
    return fnmatch.fnmatchcase(name.lower(), pattern.lower())


def _identity(path: Path) -> str:
    """Where a path leads, so that a file named twice is done once."""
    return str(path.parent.resolve() / path.name)


def _folder_state(folder: Path) -> tuple[int, int]:
    """Sum of the bytes and latest change of all files in a folder."""
    states = [os.stat(p) for p in _files(folder)]
    newest = max((s.st_mtime_ns for s in states), default=0)
    return sum(s.st_size for s in states), newest


def _files(folder: Path) -> Iterable[Path]:
    """All regular files below a folder."""
    return (p for p in folder.rglob("*") if p.is_file())
