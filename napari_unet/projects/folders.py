"""The folder of a project: its ``project.json``, and who may change it."""

from __future__ import annotations

from pathlib import Path

from napari_unet.batch.locks import STALE, Lock, Locks
from napari_unet.batch.owners import is_here, myself
from napari_unet.errors import ProjectError
from napari_unet.projects import schema

FILE = "project.json"
_LOCK = "project"


class SilentError(ProjectError):
    """A project is open on another computer, of which nobody knows yet if it lives."""


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


def locked(folder: Path, *, wait: bool = False) -> tuple[Locks, Lock]:
    """Take a project for this program.

    Parameters
    ----------
    folder : pathlib.Path
        The project.
    wait : bool
        Whether to wait, for half a minute at most, if another computer that has the
        project shows no life any more.

    Raises
    ------
    SilentError
        If another computer has it, which may have crashed; without `wait` only.
    ProjectError
        If a program that lives has it.
    """
    locks = Locks(folder)
    lock = locks.take_over(_LOCK) if wait else locks.take(_LOCK)
    if lock is not None:
        return locks, lock
    owner = locks.others.get(_LOCK)
    locks.close()
    what, found = f"The project {folder.name} is open elsewhere", str(owner or "")
    if wait or (owner is not None and is_here(owner, myself())):
        raise ProjectError(what, found=found, hint="Close it there first.")
    raise SilentError(
        what,
        found=found or "nobody who says so",
        hint=f"If that computer crashed, it is free in {STALE:.0f} seconds.",
    )
