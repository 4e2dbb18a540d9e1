"""Strokes that may be wrong, and the way to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.config import FinetuneConfig
from napari_unet.gui.learning import Suspect
from napari_unet.gui.teaching import Taught
from napari_unet.gui.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_unet.events import CancelToken
    from napari_unet.gui.keeping import Keeping
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session
    from napari_unet.gui.teaching import Teaching

_SURE = 0.5
"""Least contradiction of a stroke that is listed."""
_MOST = 20


class Auditing:
    """Looks for strokes that the others contradict.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the image is.
    projects : Projects
        Shows other images.
    keeping : Keeping
        Knows whose strokes a layer holds.
    teaching : Teaching
        Takes images and strokes to the computing process.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        projects: Projects,
        keeping: Keeping,
        teaching: Teaching,
    ) -> None:
        self._session = session
        self._layers = layers
        self._projects = projects
        self._keeping = keeping
        self._teaching = teaching
        self._taught = Taught([], {})

    def check(self, settings: Mapping[str, Any]) -> None:
        """Train a few times without some of the strokes and judge those."""
        job = ("audit", "Checking the strokes", "iter_audit")
        self._session.attempt(lambda: self._begin(settings, *job, self._suspects))

    def patches(self, settings: Mapping[str, Any]) -> None:
        """Show some patches as the network would see them in training."""
        job = ("patches", "Making patches", "iter_patches")
        self._session.attempt(lambda: self._begin(settings, *job, self._show_patches))

    def go_to(self, number: int) -> None:
        """Go to one of the strokes that were found, on whichever image it is."""
        suspects = self._session.state.suspects
        if 0 <= number < len(suspects):
            self._session.attempt(lambda: self._go_to(suspects[number]))

    def _go_to(self, suspect: Suspect) -> None:
        """Show an image where it is not shown, and a place on it."""
        strokes = self._session.state.strokes
        here = self._keeping.picture_of(strokes.name) if strokes else ""
        if suspect.picture not in ("", here):
            self._projects.show(suspect.picture)
        image = self._session.state.image
        if image is not None:
            self._layers.go_to(image.name, dict(suspect.place))

    def _begin(
        self,
        settings: Mapping[str, Any],
        kind: str,
        title: str,
        job: str,
        take: Callable[[Any], str],
    ) -> None:
        """Start a job on a copy of the strokes."""
        state = self._session.state
        if self._session.is_busy() or state.image is None or state.strokes is None:
            return
        config = FinetuneConfig.build(
            **settings, channels=state.channels, strokes=state.kind
        )
        base = state.start.path if state.start else None
        taught = self._teaching.gather()

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            self._taught = taught(token, progress)
            return {**self._taught.arguments, "model": base, "config": config}

        self._session.begin(kind, title, f"napari_unet.api:{job}", prepare, take)

    def _suspects(self, found: Sequence[Mapping[str, Any]]) -> str:
        """List the strokes that are contradicted, the worst first."""
        pictures = self._taught.pictures
        suspects = tuple(
            Suspect(
                pictures[stroke["image"]],
                tuple(stroke["place"].items()),
                int(stroke["painted"]),
                int(stroke["found"]) + 1,
                float(stroke["contradiction"]),
            )
            for stroke in found
            if stroke["contradiction"] > _SURE
        )[:_MOST]
        self._session.update(suspects=suspects)
        if not suspects:
            return "No stroke is contradicted by the others"
        return f"{count(len(suspects), 'stroke')} to look at, the worst first"

    def _show_patches(self, found: Mapping[str, Any]) -> str:
        """Show the patches."""
        made = self._session.state.patches_made + 1
        patches = (found["images"], found["targets"])
        self._session.update(patches=patches, patches_made=made)
        return ""
