"""The annotation project of a viewer: made, opened, saved and never lost."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import UNetError, UsageError
from napari_unet.gui.opening import is_file_of, open_picture
from napari_unet.gui.state import PictureRow, ProjectFacts
from napari_unet.projects import packing, places, recovery
from napari_unet.projects.folders import SilentError
from napari_unet.projects.newcomers import NewPicture
from napari_unet.projects.project import Project
from napari_unet.projects.schema import first_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from napari_unet.gui.layers import Layers
    from napari_unet.gui.session import Session
    from napari_unet.gui.stroke_layers import StrokeLayers
    from napari_unet.projects.schema import Picture


class _Held:
    """The project that is open, let go of when the viewer is gone."""

    def __init__(self, place: Path) -> None:
        self.project: Project | None = None
        self.place = place

    @property
    def is_unsaved(self) -> bool:
        """Whether nobody made the project."""
        return self.project is not None and self.project.folder.parent == self.place

    def close(self) -> None:
        """Let others have it; one that nobody made and nobody painted on goes."""
        project, unsaved = self.project, self.is_unsaved
        self.project = None
        if project is not None:
            project.close()
            if unsaved:
                recovery.drop_if_empty(project)


class Projects:
    """The project that strokes go to; where nobody made one, one is made unasked.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the images are.
    strokes : StrokeLayers
        Where strokes are shown.
    place : pathlib.Path
        Folder of the projects that nobody made.
    """

    def __init__(
        self, session: Session, layers: Layers, strokes: StrokeLayers, place: Path
    ) -> None:
        self._session = session
        self._layers = layers
        self._strokes = strokes
        self._place = place
        self._held = _Held(place)
        self._awaited: Path | None = None
        self._states: dict[str, places.State] = {}
        self._on_show: list[Callable[[str, str], None]] = []
        self._on_open: list[Callable[[], None]] = []
        weakref.finalize(layers.viewer, self._held.close)

    def on_show(self, call: Callable[[str, str], None]) -> None:
        """Call a function with image layer and picture id when strokes are shown."""
        self._on_show.append(call)

    def on_open(self, call: Callable[[], None]) -> None:
        """Call a function when another project takes the place of the open one."""
        self._on_open.append(call)

    @property
    def project(self) -> Project | None:
        """The project that is open."""
        return self._held.project

    @property
    def is_unsaved(self) -> bool:
        """Whether the project lies in the recovery folder."""
        return self._held.is_unsaved

    @property
    def rounds_folder(self) -> Path | None:
        """Where rounds go: into the project, once somebody saved it."""
        project = self.project
        return None if project is None or self.is_unsaved else project.rounds_folder

    def note_round(self, result: Mapping[str, Any]) -> None:
        """Note a training round, as a job tells it, in the project."""
        project = self.project
        if project is not None and "digest" in result:
            scores = result.get("score_before"), result.get("score_after")
            self._session.attempt(
                lambda: project.add_round(result["path"], result["digest"], *scores)
            )

    def strokes_of(self, image: str, dtype: Any = "uint8") -> tuple[str, np.ndarray]:
        """Find or make the strokes of an image: its picture's id, and the array.

        Raises
        ------
        UNetError
            If they cannot be written or read.
        """
        project = self._held.project
        if project is None:
            project = self._held.project = recovery.begin(self._place, image)
            project.change(classes=self._session.state.classes)
        new = self.described(image)
        picture = project.find(new) or project.add(new, dtype)
        self.tell()
        return picture.id, project.strokes(picture.id)

    def described(self, image: str) -> NewPicture:
        """Say what a project has to know of an image layer."""
        layer, pixels = self._layers.layer(image), self._layers.pixels(image)
        shape = tuple(int(n) for n in pixels.data.shape)
        path = self._layers.path_of(image)
        is_whole = path and is_file_of(Path(path), pixels.axes, shape)
        return NewPicture(
            image, pixels.axes, shape, pixels.data,
            path=Path(path) if is_whole else None,
            rgb=bool(layer.rgb), scale=pixels.scale, units=pixels.units,
        )  # fmt: skip

    def change(self, **fields: Any) -> None:
        """Change what the project knows beside strokes, such as its classes."""
        if self.project is not None:
            self.project.change(**fields)
            self.tell()

    def tell(self) -> None:
        """Show what the project is."""
        self._session.update(project=self._facts())

    def open(self, folder: Path | str) -> None:
        """Open a project in the place of the one that is open, and show its images."""
        self._session.attempt(lambda: self._open(Path(folder)))

    def save_as(self, folder: Path | str) -> None:
        """Copy the project to a folder of the user's and go on in that."""
        self._session.attempt(lambda: self._save_as(Path(folder)))

    def show(self, number: str) -> None:
        """Show an image of the project and its strokes."""
        self._session.attempt(lambda: self._show(number))

    def accept_change(self, number: str) -> None:
        """Take the strokes of an image as right though its file has changed."""
        project = self.project
        if project is not None:
            picture = project.picture(number)
            path, _ = places.locate(picture, project.folder)
            if path is not None:
                project.accept(number, path)
                self._states.pop(number, None)
            self.tell()

    def forget(self, number: str) -> None:
        """Take an image and its strokes out of the project."""
        if self.project is None:
            return
        if name := self._strokes.of_picture(number):
            self._strokes.remove(name)
        self._session.attempt(lambda: self.project.remove(number))  # type: ignore[union-attr]
        self.tell()

    def close(self) -> None:
        """Let go of the project; it stays open while its strokes are shown."""
        project = self.project
        if project is None:
            return
        if any(self._strokes.picture_of(name) for name in self._strokes.names()):
            self._session.attempt(project.flush)
            return
        self._held.close()

    def _open(self, folder: Path) -> None:
        """Open a project, after a while where another computer may have it."""
        if self._awaited == folder:
            return
        self._awaited = None
        try:
            self._show_opened(Project.open(folder))
        except SilentError as error:
            self._awaited = folder
            self._session.say(f"{error} Waiting.")
            self._session.tasks.aside(
                lambda: Project.open(folder, wait=True),
                lambda opened: self._opened_late(folder, opened),
            )

    def _opened_late(self, folder: Path, opened: Project | UNetError) -> None:
        """Show a project that was waited for, unless another was opened meanwhile."""
        wanted, self._awaited = self._awaited == folder, None
        if isinstance(opened, UNetError):
            self._session.fail(opened)
        elif wanted:
            self._session.attempt(lambda: self._show_opened(opened))
        else:
            opened.close()

    def _show_opened(self, opened: Project) -> None:
        """Take a project and show its first image."""
        for picture in opened.contents.pictures:
            try:
                opened.strokes(picture.id)
            except UNetError:
                opened.close()
                raise
        for name in self._strokes.names():
            if self._strokes.picture_of(name):
                self._strokes.remove(name)
        self._held.close()
        self._held.project = opened
        for call in self._on_open:
            call()
        classes = opened.contents.classes or first_classes()
        self._session.update(
            classes=classes, offer=None, kind=opened.contents.kind, suspects=()
        )
        self.tell()
        self._show_some(opened)
        self._session.say(f"Opened the project {opened.contents.name}.", "good")
        self._session.tasks.aside(lambda: _states(opened), self._look_at_states)

    def _show_some(self, project: Project) -> None:
        """Show the images that are open already, or else the first one."""
        shown = 0
        for picture in project.contents.pictures:
            if self.image_of(picture):
                self._show(picture.id)
                shown += 1
        if not shown and project.contents.pictures:
            self._show(project.contents.pictures[0].id)

    def _show(self, number: str) -> None:
        """Show an image, opening its file if need be, and its strokes."""
        project = self.project
        if project is None:
            return
        picture = project.picture(number)
        image = self.image_of(picture) or self._open_image(picture)
        if not self._strokes.of_picture(number):
            self._strokes.new(image, project.strokes(number), number)
        self._session.update(image=self._layers.image(image), strokes=None)
        for call in self._on_show:
            call(image, number)

    def image_of(self, picture: Picture) -> str:
        """Name of the open image that a picture is of, or nothing."""
        if self.project is None:
            return ""
        for name in self._layers.images():
            if self._layers.axes_of(self._layers.layer(name)) is None:
                continue
            found = self.project.find(self.described(name))
            if found is not None and found.id == picture.id:
                return name
        return ""

    def _open_image(self, picture: Picture) -> str:
        """Open the file of a picture."""
        assert self.project is not None
        path, state = places.locate(picture, self.project.folder)
        if path is None or state == "changed":
            raise UsageError(
                f"The image {picture.name} is {_STATES.get(state, 'in no file')}",
                hint="Open it in napari; its strokes are kept.",
            )
        return open_picture(self._layers.viewer, picture, path)

    def _save_as(self, folder: Path) -> None:
        """Copy the project and go on in the copy."""
        project = self.project
        if project is None:
            raise UsageError("There are no strokes yet", hint="Paint some first.")
        project.flush()
        packing.copy(project, folder)
        copied = Project.open(folder)
        for name in self._strokes.names():
            if picture := self._strokes.picture_of(name):
                self._strokes.put(name, copied.strokes(picture), picture)
        unsaved = self.is_unsaved
        self._held.project = copied
        project.close()
        if unsaved:
            recovery.drop(project)
        self.tell()
        self._session.say(f"Saved as {folder.name}; painting goes on in it.", "good")

    def _look_at_states(self, found: Any) -> None:
        """Show which images moved, changed or are missing."""
        if isinstance(found, dict):
            self._states = found
            self.tell()

    def _facts(self) -> ProjectFacts | None:
        """Sum up the project for the dock."""
        project = self.project
        if project is None:
            return None
        rows = tuple(
            PictureRow(
                p.id, p.name, len(p.boxes), _STATES.get(self._states.get(p.id, ""), "")
            )
            for p in project.contents.pictures
        )
        return ProjectFacts(
            project.contents.name, str(project.folder), self.is_unsaved, rows
        )


_STATES = {"changed": "changed", "missing": "missing"}


def _states(project: Project) -> dict[str, places.State]:
    """Where the images of a project are."""
    return {
        p.id: places.locate(p, project.folder)[1] for p in project.contents.pictures
    }
