"""Where the images of a project lie: near it by relative path, elsewhere by absolute.

An image inside the project, or in the folder that the project lies in, is written
relative to the project, so that both can be moved or mailed together.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Literal

from napari_unet.errors import ProjectError
from napari_unet.projects import marks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.projects.schema import Picture

State = Literal["there", "moved", "changed", "missing", "no file"]
_MOST_LOOKED_AT, _DEEPEST = 20_000, 4


def written(path: Path | str, folder: Path) -> str:
    """Write a path as it stands in a project.

    Parameters
    ----------
    path : path-like
        A file or folder.
    folder : pathlib.Path
        The project.

    Returns
    -------
    str
        Relative with ``/`` where the path lies in the project or beside it.
    """
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    if path.is_relative_to(folder.parent):
        return Path(os.path.relpath(path, folder)).as_posix()
    return str(path)


def read(text: str, folder: Path) -> Path:
    """Path that a project means.

    Raises
    ------
    ProjectError
        If it is relative and leads out of the folder that the project lies in.
    """
    if PureWindowsPath(text).is_absolute() or PurePosixPath(text).is_absolute():
        return Path(text)
    parts = PurePosixPath(text).parts
    if ".." in parts[1:] or PureWindowsPath(text).drive:
        raise ProjectError(
            "The project refers to a file outside its surroundings", found=repr(text)
        )
    return folder.joinpath(*parts)


def locate(picture: Picture, folder: Path) -> tuple[Path | None, State]:
    """Find the image of a picture again.

    Parameters
    ----------
    picture : Picture
        Its path is looked at first, then files of that name in and beside the project.
    folder : pathlib.Path
        The project.

    Returns
    -------
    path : pathlib.Path or None
        None where there is none.
    state : str
        "there" or "moved", unchanged; "changed", with other contents; "missing"; or "no
        file" where the image was never in one.

    Raises
    ------
    ProjectError
        As `read`.
    """
    if picture.path is None:
        return None, "no file"
    recorded = read(picture.path, folder)
    if _is_it(recorded, picture):
        return recorded, "there"
    name = PureWindowsPath(picture.path).name
    for found in _named(name, folder):
        if _is_it(found, picture):
            return found, "moved"
    return (recorded, "changed") if recorded.exists() else (None, "missing")


def _is_it(path: Path, picture: Picture) -> bool:
    """Whether a path holds the image that was painted on."""
    try:
        regular = path.is_file() or path.is_dir()
        return regular and marks.of_file(path) == picture.file
    except OSError:
        return False


def _named(name: str, folder: Path) -> Iterator[Path]:
    """Look for files or folders of a name in the project and beside it."""
    seen = 0
    for top in (folder, folder.parent):
        for place, folders, files in os.walk(top):
            seen += len(files) + len(folders)
            if name in files or name in folders:
                yield Path(place) / name
            deep = len(Path(place).relative_to(top).parts) >= _DEEPEST
            folders[:] = [] if deep else [f for f in folders if not f.endswith(".zarr")]
            if seen > _MOST_LOOKED_AT:
                return
