"""Projects that nobody made: strokes painted without one, kept until they are used."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet import disk
from napari_unet.errors import UNetError
from napari_unet.projects import folders, schema
from napari_unet.projects.project import Project
from napari_unet.projects.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_unet.projects.newcomers import NewPicture
    from napari_unet.projects.schema import Contents, Picture


@dataclass(frozen=True)
class Found:
    """Strokes of an earlier session on an image that is open now.

    Attributes
    ----------
    folder : pathlib.Path
        The project that holds them.
    picture : Picture
        Their image.
    saved : float
        When they were last painted on, in seconds since 1970.
    painted : int
        Pixels.
    """

    folder: Path
    picture: Picture
    saved: float
    painted: int


def begin(place: Path, name: str) -> Project:
    """Make a project for strokes that have none.

    Parameters
    ----------
    place : pathlib.Path
        The recovery folder.
    name : str
        Of the image.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:40] or "image"
    stamp = time.strftime("%Y-%m-%d-%H%M%S")
    number = 1
    while (folder := place / f"{stamp}-{stem}-{number}").exists():
        number += 1
    return Project.create(folder, name)


def matching(place: Path, new: NewPicture) -> list[Found]:
    """Find strokes of earlier sessions on an image, the latest first.

    Its pixels are looked at only where a project has an image of that shape.
    """
    found = []
    for folder, contents in _projects(place):
        looked = Project(folder, contents, None)
        picture = looked.find(new)
        if picture is not None and (painted := _painted(looked, picture)):
            saved = looked.path_of(picture).stat().st_mtime
            found.append(Found(folder, picture, saved, painted))
    return sorted(found, key=lambda one: -one.saved)


def drop_if_empty(project: Project) -> bool:
    """Remove a closed project of the recovery folder in which nothing is painted."""
    if any(p.boxes or _painted(project, p) for p in project.contents.pictures):
        return False
    drop(project)
    return True


def drop(project: Project) -> None:
    """Remove a closed project that was copied elsewhere."""
    disk.remove(project.folder)


def _projects(place: Path) -> Iterator[tuple[Path, Contents]]:
    """List the projects in a folder that can be read."""
    if not place.is_dir():
        return
    for folder in sorted(place.iterdir()):
        try:
            yield folder, schema.read(folders.read(folder), folder.name)
        except UNetError:
            continue


def _painted(project: Project, picture: Picture) -> int:
    """Count the painted pixels of a picture; 0 if its strokes cannot be read."""
    try:
        return sum(Tally(project.strokes(picture.id)).counts.values())
    except UNetError:
        return 0
