"""The upper half of the Train page's actions: strokes, and the classes to paint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.session import Session
    from napari_unet.gui.stroke_layers import StrokeLayers


class Painting:
    """Makes stroke layers, chooses what is painted and knows what was.

    Parameters
    ----------
    session : Session
        Shared with the other pages.
    layers : Layers
        Where the images are.
    strokes : StrokeLayers
        Where the strokes are.
    """

    def __init__(self, session: Session, layers: Layers, strokes: StrokeLayers) -> None:
        self._session = session
        self._layers = layers
        self._strokes = strokes

    def refresh(self) -> None:
        """Look at the stroke layers again; an image's own strokes are chosen first."""
        state = self._session.state
        names = self._strokes.names()
        self._session.update(stroke_layers=names)
        chosen = state.strokes.name if state.strokes else ""
        if chosen not in names:
            image = state.image.name if state.image else ""
            own = [name for name in names if name.startswith(f"{image} · ")]
            chosen = own[0] if own else (names[0] if names else "")
        self.choose(chosen)

    def new(self) -> None:
        """Add a stroke layer to the image, or go on with the one it has."""
        image = self._session.state.image
        if image is None or image.axes is None:
            return
        name = f"{image.name} · strokes"
        if name in self._strokes.names():
            self._strokes.paint(name, self._session.state.painting)
        else:
            name = self._strokes.new(image.name)
        self.choose(name)
        self._session.say(
            "Paint some background, then click object and paint some of those."
        )

    def choose(self, name: str) -> None:
        """Learn from another stroke layer."""
        self._look(name)

    def paint(self, number: int) -> None:
        """Paint a class."""
        strokes = self._session.state.strokes
        if strokes is not None:
            self._strokes.paint(strokes.name, number)
        self._session.update(painting=number)

    def add_class(self) -> None:
        """Offer one more class."""
        number = self._session.state.classes + 1
        self._session.update(classes=number)
        self.paint(number)

    def recount(self) -> None:
        """Count the strokes of the plane in view again."""
        strokes = self._session.state.strokes
        if strokes is not None:
            self._look(strokes.name, everywhere=False)

    def _look(self, name: str, everywhere: bool = True) -> None:
        """Count the strokes of a layer."""
        image = self._session.state.image
        if not name or image is None:
            self._session.update(strokes=None)
            return
        self._strokes.dress(name)
        facts = self._strokes.facts(name, image.name, everywhere=everywhere)
        self._session.update(strokes=facts)
