"""Copies of a project, in another place or to be mailed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import disk, files
from napari_unet.projects import places, schema, stroke_files
from napari_unet.projects.folders import FILE

if TYPE_CHECKING:
    from napari_unet.projects.project import Project

_CHUNK = 1 << 20


def copy(project: Project, folder: Path | str) -> None:
    """Copy a project to a new folder.

    Rounds inside the project come along; images stay where they are. What is not
    painted takes no disk in the copy either.

    Raises
    ------
    OutputError
        If it cannot be written, or the folder is there already.
    """
    folder = Path(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    contents = project.contents
    pictures = [_moved(p, project.folder, folder) for p in contents.pictures]
    rounds = [_moved(r, project.folder, folder) for r in contents.rounds]
    contents = contents.model_copy(
        update={
            "name": folder.name[:200],
            "pictures": tuple(pictures),
            "rounds": tuple(rounds),
        }
    )
    with files.commit(folder, overwrite=False) as part:
        disk.make_folder(part)
        _copy_strokes(project, part)
        _copy_rounds(project.rounds_folder, part / "rounds")
        files.write(part / FILE, schema.write(contents))


def _copy_strokes(project: Project, folder: Path) -> None:
    """Write all strokes again, without what is empty."""
    for picture in project.contents.pictures:
        path = folder / "strokes" / f"{picture.id}.npy"
        shape, dtype = picture.plane_shape, picture.dtype
        stroke_files.create(path, shape, dtype)
        target = stroke_files.opened(path, shape, dtype)
        stroke_files.copy(project.strokes(picture.id), target)
        stroke_files.flush(path, target)


def _moved(entry: Any, old: Path, new: Path) -> Any:
    """Write the path of a picture or round for another folder of the project."""
    if entry.path is None:
        return entry
    path = places.read(entry.path, old)
    if path.is_relative_to(old / "rounds"):
        path = new / path.relative_to(old)
    return entry.model_copy(update={"path": places.written(path, new)})


def _copy_rounds(source: Path, target: Path) -> None:
    """Copy the checkpoints inside a project."""
    for path in sorted(source.glob("*")) if source.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            disk.make_folder(target)
            with files.writing(target / path.name) as file, path.open("rb") as old:
                shutil.copyfileobj(old, file, _CHUNK)
