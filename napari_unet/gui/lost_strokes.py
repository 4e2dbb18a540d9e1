"""Strokes of an earlier session, kept in no project that anybody made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.gui.state import Offer
from napari_unet.projects import recovery

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session
    from napari_unet.projects.recovery import Found


class LostStrokes:
    """Finds them and offers them.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    projects : Projects
        Opens what is taken.
    place : pathlib.Path
        Folder of the projects that nobody made.
    """

    def __init__(self, session: Session, projects: Projects, place: Path) -> None:
        self._session = session
        self._projects = projects
        self._place = place
        self._asked: set[tuple[str, tuple[int, ...]]] = set()

    def look(self) -> None:
        """Look once for strokes of an earlier session on the image, in the background.

        They are offered in the dock.
        """
        image = self._session.state.image
        if image is None or image.axes is None or self._projects.project is not None:
            return
        if (image.name, image.shape) in self._asked or not self._place.is_dir():
            return
        self._asked.add((image.name, image.shape))
        new, name = self._projects.described(image.name), image.name
        self._session.tasks.aside(
            lambda: recovery.matching(self._place, new),
            lambda found: self._offer(name, found),
        )

    def take(self) -> None:
        """Go on with strokes of an earlier session."""
        if (offer := self._session.state.offer) is not None:
            self._projects.open(offer.folder)

    def decline(self) -> None:
        """Leave strokes of an earlier session where they are; they are kept."""
        self._session.update(offer=None)

    def _offer(self, image: str, found: list[Found] | Exception) -> None:
        """Offer the latest strokes of an image."""
        if (
            isinstance(found, Exception)
            or not found
            or self._projects.project is not None
        ):
            return
        latest = found[0]
        self._session.update(
            offer=Offer(str(latest.folder), image, latest.painted, latest.saved)
        )
