"""Complete boxes: parts of an image, or all of it, in which nothing was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.gui.pointing import Pointing
from napari_unet.projects.schema import Region

if TYPE_CHECKING:
    from napari_unet.gui.keeping import Keeping
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.projects import Projects
    from napari_unet.gui.session import Session


class Boxes:
    """Lets boxes be drawn on the image, and keeps them in its project.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the images are.
    projects : Projects
        Keeps the boxes.
    keeping : Keeping
        Knows whose strokes a layer holds.
    """

    def __init__(
        self, session: Session, layers: Layers, projects: Projects, keeping: Keeping
    ) -> None:
        self._session = session
        self._layers = layers
        self._projects = projects
        self._keeping = keeping
        self._pointing = Pointing(layers)

    def draw(self) -> None:
        """Let a rectangle be drawn in which nothing was left out."""
        state, picture = self._session.state, self._picture()
        if state.image is None or not picture:
            return
        layer = self._pointing.boxes_layer(state.image.name)
        if layer is None:
            layer = self._show(state.image.name, self._drawn(picture))
        self._layers.viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"
        self._session.say("Drag a box. What is not painted in it is background.")

    def mark_rest(self) -> None:
        """Say that what is not painted of an image is the class in hand, or not."""
        picture, number = self._picture(), self._session.state.painting
        if not picture:
            return
        known = self._of(picture)
        is_marked = [box.unpainted for box in known if not box.bounds] == [number]
        rest = [] if is_marked else [Region(unpainted=number)]
        self._keep(picture, [*(box for box in known if box.bounds), *rest])
        word = "is no longer taken as" if is_marked else "is"
        self._session.say(f"What is not painted {word} class {number}.")

    def show(self, image: str, picture: str) -> None:
        """Show the boxes of a picture on its image, where they are not shown."""
        drawn = self._drawn(picture)
        if drawn and self._pointing.boxes_layer(image) is None:
            self._show(image, drawn)

    def _show(self, image: str, drawn: list[dict[str, tuple[int, int]]]) -> Any:
        """Show rectangles, and watch these."""
        layer = self._pointing.draw_boxes(image, drawn)
        layer.events.data.connect(lambda _: self._take())
        return layer

    def _take(self) -> None:
        """Take the boxes as they are drawn."""
        state, picture = self._session.state, self._picture()
        if state.image is None or not picture:
            return
        if self._pointing.boxes_layer(state.image.name) is None:
            return
        kept = [box for box in self._of(picture) if not _is_drawn(box)]
        drawn = [Region(bounds=b) for b in self._pointing.regions(state.image.name)]
        self._keep(picture, [*kept, *drawn])

    def _drawn(self, picture: str) -> list[dict[str, tuple[int, int]]]:
        """Bounds of the boxes of a picture that are rectangles."""
        return [dict(box.bounds) for box in self._of(picture) if _is_drawn(box)]

    def _of(self, picture: str) -> tuple[Region, ...]:
        """Boxes of a picture."""
        project = self._projects.project
        return project.picture(picture).boxes if project is not None else ()

    def _keep(self, picture: str, boxes: list[Region]) -> None:
        """Keep other boxes of a picture."""
        project = self._projects.project
        if project is not None and tuple(boxes) != project.picture(picture).boxes:
            self._session.attempt(
                lambda: project.change_picture(picture, boxes=tuple(boxes))
            )
            self._projects.tell()

    def _picture(self) -> str:
        """Id of the picture that is painted on, or nothing."""
        strokes = self._session.state.strokes
        return self._keeping.picture_of(strokes.name) if strokes is not None else ""


def _is_drawn(box: Region) -> bool:
    """Whether a box is shown as one rectangle of a plane."""
    planes = [stop - first for a, (first, stop) in box.bounds.items() if a not in "YX"]
    return {"Y", "X"} <= set(box.bounds) and all(n == 1 for n in planes)
