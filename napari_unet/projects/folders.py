"""The folder of a project: its ``project.json``, and who may change it."""

from __future__ import annotations

from pathlib import Path

from napari_unet.batch.locks import Lock, Locks
from napari_unet.errors import ProjectError
from napari_unet.projects import schema

FILE = "project.json"
_LOCK = "project"


def is_project(path: Path | str) -> bool:
    """Whether a path is a project folder or its ``project.json``."""
    path = Path(path)
    return path.name == FILE or (path / FILE).is_file()


def read(folder: Path) -> bytes:
    """Read ``project.json``, not more of it than it may hold."""
    path = folder / FILE
    if not path.is_file():
        raise ProjectError(f"{folder.name} is no annotation project")
    try:
        with path.open("rb") as file:
            return file.read(schema.MOST_BYTES + 1)
    except OSError as error:
        raise ProjectError(
            f"The project {folder.name} cannot be read", found=error.strerror or ""
        ) from None


def locked(folder: Path) -> tuple[Locks, Lock]:
    """Take a project for this program."""
    locks = Locks(folder)
    lock = locks.take(_LOCK)
    if lock is None:
        owner = locks.others.get(_LOCK)
        locks.close()
        raise ProjectError(
            f"The project {folder.name} is open elsewhere",
            found=str(owner) if owner else "",
            hint="Close it there first.",
        )
    return locks, lock
