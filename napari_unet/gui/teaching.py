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
    from napari_unet.gui.keeping import Keeping
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Pixels, Staging
    from napari_unet.gui.stroke_layers import StrokeLayers
    from napari_unet.projects.project import Project
    from napari_unet.projects.schema import Picture

    Gather = Callable[[CancelToken, Callable[[float], None]], "Taught"]


@dataclass(frozen=True)
class _Painted:
    """An image, an array with its strokes, and boxes, taken on the main thread."""

    picture: str
    image: Pixels | ImageSource
    strokes: Pixels
    boxes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Taught:
    """What a job that learns is given, for each image.

    Attributes
    ----------
    pictures : list of str
        Ids in the project, empty where an image is in none.
    arguments : dict
        ``images``, ``strokes`` and ``boxes`` of `iter_finetune`.
    """

    pictures: list[str]
    arguments: dict[str, Any]


class Teaching:
    """Gathers what was painted: on the chosen image, and on the others of the project.

    Parameters
    ----------
    session, layers, strokes, projects, keeping, staging
        As for the pages.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        strokes: StrokeLayers,
        projects: Projects,
        keeping: Keeping,
        staging: Staging,
    ) -> None:
        self._session = session
        self._layers = layers
        self._strokes = strokes
        self._projects = projects
        self._keeping = keeping
        self._staging = staging

    def gather(self) -> Gather:
        """Take hold of everything that was painted; call on the main thread.

        Returns
        -------
        callable
            Copies the strokes and what is not in files, in the background, and returns
            what is `Taught`.

        Raises
        ------
        UNetError
            If strokes do not fit the image.
        """
        painted = self._painted()

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Taught:
            examples = painted()
            images = [
                one.image
                if isinstance(one.image, ImageSource)
                else self._staging.source(one.image, token, progress)
                for one in examples
            ]
            return _told(examples, images, [self._copied(e.strokes) for e in examples])

        return prepare

    def outline(self) -> Gather:
        """As `gather`, for what looks at the strokes and not at the images.

        Nothing is copied that lies in a file; images in memory are stood for by zeros.
        """
        painted = self._painted()

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Taught:
            examples = painted()
            images = [
                one.image if isinstance(one.image, ImageSource) else one.image.blank()
                for one in examples
            ]
            strokes = [
                self._staging.source(one.strokes, token, progress) for one in examples
            ]
            return _told(examples, images, strokes)

        return prepare

    def _painted(self) -> Callable[[], list[_Painted]]:
        """Take hold of what was painted; the other images are found when called."""
        state = self._session.state
        if state.image is None or state.strokes is None:
            raise UsageError("There are no strokes yet", hint="Make a stroke layer.")
        picture = self._keeping.picture_of(state.strokes.name)
        project = self._projects.project
        known = [p for p in self._pictures() if p.id == picture]
        first = _Painted(
            picture,
            self._layers.pixels(state.image.name),
            self._strokes.pixels(state.strokes.name, state.image.name),
            lessons.boxes(known[0]) if known else (),
        )
        others = [p for p in self._pictures() if p.id != picture]
        shown = {p.id: self._projects.image_of(p) for p in others}
        sources = {i: self._layers.pixels(n) for i, n in shown.items() if n}

        def find() -> list[_Painted]:
            painted = [first]
            for other in others:
                assert project is not None
                painted += _of_project(project, other, sources.get(other.id))
            return painted

        return find

    def _pictures(self) -> tuple[Picture, ...]:
        """Pictures of the project, if there is one."""
        project = self._projects.project
        return project.contents.pictures if project is not None else ()

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


def _told(painted: list[_Painted], images: list[Any], strokes: list[Any]) -> Taught:
    """Put together what a job that learns is given."""
    boxes = [one.boxes for one in painted]
    return Taught(
        [one.picture for one in painted],
        {"images": images, "strokes": strokes, "boxes": boxes},
    )


def _of_project(
    project: Project, picture: Picture, pixels: Pixels | None
) -> list[_Painted]:
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
    return [_Painted(picture.id, image, strokes, lessons.boxes(picture))]
