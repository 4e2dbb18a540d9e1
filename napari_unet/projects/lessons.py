"""What a project teaches: its painted images, found again, with strokes and boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_unet.errors import ProjectError
from napari_unet.images.source import ImageSource
from napari_unet.projects import places, stroke_files
from napari_unet.training.boxes import Box

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.projects.project import Project
    from napari_unet.projects.schema import Picture, Region


@dataclass(frozen=True)
class Lesson:
    """One image of a project, as `napari_unet.api.iter_finetune` takes it."""

    image: ImageSource
    strokes: ImageSource
    boxes: tuple[Box, ...]


def lessons(
    project: Project, changed: Literal["refuse", "use"] = "refuse"
) -> list[Lesson]:
    """Find the images that were painted on or have a complete box.

    Parameters
    ----------
    project : Project
        Its strokes are read where they lie.
    changed : {"refuse", "use"}
        What to do with an image whose file is not as it was when it was painted on.

    Raises
    ------
    ProjectError
        If nothing is painted, or an image is missing, has changed, or was never in a
        file.
    """
    found = []
    for picture in project.contents.pictures:
        if picture.boxes or is_painted(project, picture):
            image = image_source(picture, _found(picture, project.folder, changed))
            found.append(Lesson(image, stroke_source(project, picture), boxes(picture)))
    if not found:
        raise ProjectError(
            f"Nothing is painted in the project {project.contents.name}",
            hint="Open it in napari and paint some strokes.",
        )
    return found


def is_painted(project: Project, picture: Picture) -> bool:
    """Whether a picture has strokes."""
    strokes = project.strokes(picture.id)
    flat = strokes.reshape(-1)
    return any(flat[a:b].any() for a, b in stroke_files.slabs(strokes))


def boxes(picture: Picture) -> tuple[Box, ...]:
    """Complete boxes of a picture, as training takes them."""
    return tuple(_box(region) for region in picture.boxes)


def _box(region: Region) -> Box:
    return Box(dict(region.bounds), region.unpainted)


def stroke_source(
    project: Project, picture: Picture, path: Path | None = None
) -> ImageSource:
    """Say where the strokes of a picture lie, or a copy of them, and what they mean."""
    return ImageSource(
        str(path or project.path_of(picture)),
        axes="".join(picture.sizes),
        scale=picture.scale,
        units=picture.units,
        name=f"{picture.name} · strokes",
    )


def image_source(picture: Picture, path: Path) -> ImageSource:
    """Say where an image lies and how it was read when it was painted on."""
    return ImageSource(
        str(path),
        axes=picture.axes,
        series=picture.series,
        scale=picture.scale,
        units=picture.units,
        name=picture.name,
    )


def _found(picture: Picture, folder: Path, changed: str) -> Path:
    """Find the file of an image, or say why it cannot be used."""
    path, state = places.locate(picture, folder)
    if path is not None and (state != "changed" or changed == "use"):
        return path
    name = picture.name
    if state == "changed":
        raise ProjectError(
            f"The image {name} has changed since it was painted on",
            found=str(path),
            hint="If its strokes still fit, say so with --changed-images use.",
        )
    if state == "no file":
        raise ProjectError(
            f"The image {name} was painted on in napari and lies in no file",
            hint="Save it in napari as TIFF, open that and the project, and paint.",
        )
    raise ProjectError(
        f"The image {name} is missing",
        found=f"nothing at {picture.path}",
        hint=f"Put it beside the folder {folder.name}.",
    )
