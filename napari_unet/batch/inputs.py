"""Which images a batch is about, and what their results are called."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.batch.ledger import LEDGER, latest
from napari_unet.batch.names import fold, unedited
from napari_unet.batch.overrides import Overrides
from napari_unet.batch.report import REPORTS
from napari_unet.errors import UNetError, UsageError
from napari_unet.images.readers import series_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_TEMPORARY = ("~", ".tmp", ".part", ".partial", ".crdownload", ".swp")
_SYSTEM = ("thumbs.db", "desktop.ini", "icon\r", LEDGER, *REPORTS)


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
    label : str
        Name from which the result takes its own, empty for the file's; of a file found
        in a folder within a folder, its way from there.
    series : str or None
        Which image in the file, None for the only one.
    axes : str or None
        Its axes, where the table of the batch names them.
    channels : tuple of int or None
        Its channels, likewise.
    """

    path: Path
    size: int = 0
    mtime_ns: int = 0
    fault: str = ""
    label: str = ""
    series: str | None = None
    axes: str | None = None
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Inputs:
    """The images of a batch in order, and what the user should know about them."""

    images: tuple[Input, ...]
    notes: tuple[str, ...] = ()


def gather(
    inputs: Sequence[str | Path],
    output: str | Path,
    pattern: str = "*",
    *,
    series: str | None = None,
    table: str | Path | None = None,
) -> Inputs:
    """List the images named by files and folders.

    A folder stands for the files directly inside it that match `pattern`, by name; a
    pattern with a slash goes into the folders below, ``**/`` at any depth. Hidden and
    temporary files are passed over, and so are results that an earlier batch wrote
    there. A Zarr folder is one image. A file named outright is always taken.

    Parameters
    ----------
    inputs : sequence of path-like
        Files and folders.
    output : path-like
        Folder of the results.
    pattern : str
        Shell pattern for the files of folders, such as ``*.tif`` or ``**/*.tif``; case
        does not count.
    series : str, optional
        "all" makes each series of a file an image of its own.
    table : path-like, optional
        CSV file with axes, channels or series for some of the files, see
        `napari_unet.batch.overrides`.

    Returns
    -------
    Inputs
        Each image once.

    Raises
    ------
    UsageError
        If a path does not exist, the results would land among the images, the table
        cannot be used, or no image is left.
    """
    images: dict[str, Input] = {}
    notes: list[str] = []
    told = Overrides(table) if table else None
    for path in map(Path, inputs):
        _refuse_bad_place(path, Path(output))
        found = {path: ""} if _is_single(path) else _members(path, pattern, notes)
        images |= {
            _identity(p): replace(examine(p), label=label)
            for p, label in found.items()
            if not _is_within(p, Path(output))
        }
    if told is not None:
        images = {name: told.applied(image) for name, image in images.items()}
        notes += told.unused()
    every = [part for image in images.values() for part in _parts(image, series)]
    if not images:
        raise UsageError(
            "There is nothing to do",
            found=f"no file that matches {pattern!r}",
            hint="Name image files or a folder that holds some.",
        )
    return Inputs(tuple(every), tuple(notes))


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


def _members(folder: Path, pattern: str, notes: list[str]) -> dict[Path, str]:
    """Files and Zarr folders in a folder that fit, with what to name results after."""
    parts = [part for part in pattern.lower().split("/") if part not in ("", ".")]
    if len(parts) > 1 or parts == ["**"]:
        found = _below(folder, parts if parts[-1] != "**" else [*parts, "*"], ())
        return {path: "_".join(way) for path, way in found.items()}
    seen = _visible(folder)
    deeper = [p.name for p in seen if not _is_single(p)]
    if deeper:
        notes.append(
            f"{folder.name} holds {len(deeper)} more folders that were not opened, "
            f"such as {deeper[0]}; name them, or use a pattern such as '**/*.tif'."
        )
    return {p: "" for p in seen if _is_single(p) and _fits(p.name, parts[-1:])}


def _below(
    folder: Path, parts: Sequence[str], way: tuple[str, ...]
) -> dict[Path, tuple[str, ...]]:
    """Files in a folder and those below it; folders behind links are not entered."""
    found: dict[Path, tuple[str, ...]] = {}
    deep = parts[0] == "**"
    for path in _visible(folder):
        here = (*way, path.name)
        if not _is_single(path):
            if path.is_symlink():
                continue
            if deep:
                found |= _below(path, parts, here)
            elif len(parts) > 1 and _fits(path.name, parts[:1]):
                found |= _below(path, parts[1:], here)
        elif _fits(path.name, parts[-1:]) and (len(parts) == 1 or parts[:-1] == ["**"]):
            found[path] = here
    if deep and len(parts) > 2:  # two asterisks stand for no folder too
        found |= _below(folder, parts[1:], way)
    return found


def _parts(image: Input, series: str | None) -> list[Input]:
    """All series of a file as images of their own, if that is asked for."""
    if series != "all" or image.series is not None or image.fault:
        return [image]
    try:
        names = series_of(image.path)
    except UNetError:
        return [image]  # which is told when it is its turn
    if len(names) < 2:
        return [image]
    return [replace(image, series=name) for name in names]


def _is_within(path: Path, output: Path) -> bool:
    """Whether a file lies in the folder of the results."""
    return output.is_dir() and path.parent.resolve().is_relative_to(output.resolve())


def _visible(folder: Path) -> list[Path]:
    """List a folder by name, without hidden, temporary and our own files."""
    ours = _results_in(folder)
    return [p for p in _sorted(folder) if not _is_passed_over(p.name, ours)]


def _sorted(folder: Path) -> list[Path]:
    """List a folder by name."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        found = error.strerror or str(error)
        raise UsageError(f"The folder {folder} cannot be read", found=found) from error


def _results_in(folder: Path) -> set[str]:
    """Folded names of the results that an earlier batch wrote into a folder."""
    records = latest(folder / LEDGER).values()
    return {fold(name) for record in records for name in record.files.values()}


def _is_passed_over(name: str, ours: set[str]) -> bool:
    """Whether a name is hidden, temporary, or a result of ours."""
    low = name.lower()
    return (
        low.startswith(".")
        or low.endswith(_TEMPORARY)
        or low in _SYSTEM
        or fold(unedited(name)) in ours
    )


def _fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits a shell pattern in small letters; none stands for all."""
    return all(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)


def _identity(path: Path) -> str:
    """Where a path leads, so that a file named twice is done once."""
    return str(path.parent.resolve() / path.name)


def _folder_state(folder: Path) -> tuple[int, int]:
    """Sum of the bytes and latest change of all files in a folder."""
    states = list(_states(folder))
    newest = max((s.st_mtime_ns for s in states), default=0)
    return sum(s.st_size for s in states), newest


def _states(folder: Path) -> Iterator[os.stat_result]:
    """States of all regular files below a folder; one may vanish meanwhile."""
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            state = path.stat()
            if stat.S_ISREG(state.st_mode):
                yield state
