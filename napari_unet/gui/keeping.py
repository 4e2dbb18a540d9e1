"""Keeps what is painted: on the disk, also where a layer came from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.errors import UNetError
from napari_unet.projects import stroke_files

if TYPE_CHECKING:
    import numpy as np

    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session
    from napari_unet.gui.stroke_layers import StrokeLayers


class Keeping:
    """Brings strokes to the project's files.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    strokes : StrokeLayers
        Where strokes are shown.
    projects : Projects
        Where they are kept.
    """

    def __init__(
        self, session: Session, strokes: StrokeLayers, projects: Projects
    ) -> None:
        self._session = session
        self._strokes = strokes
        self._projects = projects
        self._mirrored: dict[str, str] = {}
        """Pictures of the project, by the layers from elsewhere that they copy."""
        strokes.on_paint(self._painted)
        projects.on_open(self._mirrored.clear)

    def autosave(self) -> None:
        """Bring what was painted to the disk, in the background."""
        project = self._projects.project
        if project is None:
            return
        self.check_disk()
        mirrors = self._mirrors()

        def save() -> None:
            for source, target in mirrors:
                stroke_files.copy_over(source, target)
            project.flush()

        self._session.tasks.aside(save, self._flushed)

    def check_disk(self) -> None:
        """Let strokes with holes rest while the disk is nearly full.

        Writing into a hole of a mapped file would end the program then.
        """
        project = self._projects.project
        if project is None:
            return
        short = project.is_short_of_disk()
        for name in self._strokes.names():
            if self._strokes.picture_of(name):
                self._strokes.let_paint(name, not short)
        if short:
            self._session.say("The disk is nearly full: make room, then Paint.", "bad")

    def _painted(self, name: str) -> None:
        """Note a stroke; one on a layer from elsewhere gets a file of its own."""
        picture = self.picture_of(name) or self._adopt(name)
        if picture and self._projects.project is not None:
            self._projects.project.touch(picture)

    def _adopt(self, name: str) -> str:
        """Keep a copy of strokes that lie in memory only; its picture, or nothing."""
        state = self._session.state
        chosen = state.strokes
        if state.image is None or chosen is None or chosen.name != name:
            return ""
        if not chosen.fits or self._strokes.layer_dtype(name) is None:
            return ""
        try:
            dtype = self._strokes.layer_dtype(name)
            picture, kept = self._projects.strokes_of(state.image.name, dtype)
        except UNetError as error:
            self._session.fail(error)
            return ""
        if kept.any():  # the strokes of another layer on this image
            return ""
        self._mirrored[name] = picture
        return picture

    def picture_of(self, name: str) -> str:
        """Id of the picture whose strokes a layer holds or mirrors, or nothing."""
        return self._strokes.picture_of(name) or self._mirrored.get(name, "")

    def _mirrors(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Arrays of layers that lie in memory, and where they are kept."""
        project = self._projects.project
        if project is None:
            return []
        names = [name for name in self._strokes.names() if name in self._mirrored]
        return [
            (self._strokes.array(name), project.strokes(self._mirrored[name]))
            for name in names
        ]

    def _flushed(self, result: Any) -> None:
        """Say what went wrong with saving."""
        if isinstance(result, UNetError):
            self._session.fail(result)
