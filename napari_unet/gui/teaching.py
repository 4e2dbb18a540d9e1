"""What a training gets from the dock: images, their strokes and complete boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.errors import UNetError, UsageError
from napari_unet.images.source import ImageSource
from napari_unet.projects import lessons, places, stroke_files

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from napari_unet.events import CancelToken
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Pixels, Staging
    from napari_unet.gui.stroke_layers import StrokeLayers
    from napari_unet.projects.project import Project
    from napari_unet.projects.schema import Picture

    Prepare = Callable[[CancelToken, Callable[[float], None]], dict[str, Any]]


@dataclass(frozen=True)
class _Taught:
    """An image, an array with its strokes, and boxes, taken on the main thread."""

    image: Pixels | ImageSource
    strokes: Pixels
    boxes: tuple[Any, ...] = ()


class Teaching:
    """Gathers what was painted: on the chosen image, and on the others of the project.

    Parameters
    ----------
    session, layers, strokes, projects, staging
        As for the pages.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        strokes: StrokeLayers,
        projects: Projects,
        staging: Staging,
    ) -> None:
        self._session = session
        self._layers = layers
        self._strokes = strokes
        self._projects = projects
        self._staging = staging

    def gather(self) -> Prepare:
        """Take hold of everything that was painted; call on the main thread.

        Returns
        -------
        callable
            Copies the strokes and what is not in files, in the background, and returns
            the arguments ``images``, ``strokes`` and ``boxes`` of `iter_finetune`.

        Raises
        ------
        UNetError
            If strokes do not fit the image.
        """
        state = self._session.state
        if state.image is None or state.strokes is None:
            raise UsageError("There are no strokes yet", hint="Make a stroke layer.")
        picture = self._projects.picture_of(state.strokes.name)
        project = self._projects.project
        known = [p for p in self._pictures() if p.id == picture]
        first = _Taught(
            self._layers.pixels(state.image.name),
            self._strokes.pixels(state.strokes.name, state.image.name),
            lessons.boxes(known[0]) if known else (),
        )
        others = [p for p in self._pictures() if p.id != picture]
        shown = {p.id: self._projects.image_of(p) for p in others}
        sources = {i: self._layers.pixels(n) for i, n in shown.items() if n}

        def prepare(
            token: CancelToken, progress: Callable[[float], None]
        ) -> dict[str, Any]:
            taught = [first]
            if project is not None:
                for other in others:
                    taught += _of_project(project, other, sources.get(other.id))
            return self._stage(taught, token, progress)

        return prepare

    def _pictures(self) -> tuple[Picture, ...]:
        """Pictures of the project, if there is one."""
        project = self._projects.project
        return project.contents.pictures if project is not None else ()

    def _stage(
        self,
        taught: list[_Taught],
        token: CancelToken,
        progress: Callable[[float], None],
    ) -> dict[str, Any]:
        """Copy strokes, and images that lie in no file."""
        images = [
            one.image
            if isinstance(one.image, ImageSource)
            else self._staging.source(one.image, token, progress)
            for one in taught
        ]
        return {
            "images": images,
            "strokes": [self._copied(one.strokes) for one in taught],
            "boxes": [one.boxes for one in taught],
        }

    def _copied(self, strokes: Pixels) -> ImageSource:
        """Copy strokes as they are now."""
        path = self._staging.new_file()
        data: np.ndarray = strokes.data
        stroke_files.snapshot(data, path)
        return ImageSource(
            str(path),
            axes=strokes.axes,
            scale=strokes.scale,
            units=strokes.units,
            name=strokes.name,
        )


def _of_project(
    project: Project, picture: Picture, pixels: Pixels | None
) -> list[_Taught]:
    """Another image of the project, if it is painted on and unchanged."""
    from napari_unet.gui.staging import Pixels

    try:
        if not picture.boxes and not lessons.is_painted(project, picture):
            return []
        image: Pixels | ImageSource | None = pixels
        if image is None:
            path, state = places.locate(picture, project.folder)
            if path is None or state == "changed":
                return []
            image = lessons.image_source(picture, path)
        source = lessons.stroke_source(project, picture)
        data = project.strokes(picture.id)
    except UNetError:
        return []
    axes = "".join(picture.sizes)
    strokes = Pixels(data, axes, source.scale, source.units, source.name)
    return [_Taught(image, strokes, lessons.boxes(picture))]
