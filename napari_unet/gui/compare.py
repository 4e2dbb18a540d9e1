"""What the round before makes of the view, shown while a key is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.errors import UNetError
    from napari_unet.gui.glimpses import Glimpses
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.results import Results
    from napari_unet.gui.session import Session
    from napari_unet.gui.state import Model

_BEFORE = "before"
_NOW = ("preview", "prediction")


class Compare:
    """Shows the view by the model before in place of that by the one in use.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the image is.
    results : Results
        Shows and hides.
    glimpses : Glimpses
        Predicts.
    """

    def __init__(
        self, session: Session, layers: Layers, results: Results, glimpses: Glimpses
    ) -> None:
        self._session = session
        self._layers = layers
        self._results = results
        self._glimpses = glimpses
        self._held = False
        self._shown: object = None

    def press(self) -> None:
        """Show the round before for as long as the key is held."""
        state = self._session.state
        before = self._before()
        if before is None or state.image is None or not state.image.flat:
            self._session.say(_why(before is None))
            return
        self._held, image = True, state.image.name
        self._session.attempt(lambda: self._show(before, image))

    def release(self) -> None:
        """Show again what was shown."""
        image = self._session.state.image
        if self._held and image is not None:
            self._turn(image.name, before=False)
            self._session.say("")
        self._held = False

    def _before(self) -> Model | None:
        """Say what to compare with: while training, the model in use."""
        state = self._session.state
        training = state.activity is not None and state.activity.kind == "train"
        return state.model if training else state.before

    def _show(self, before: Model, image: str) -> None:
        """Show what is there already, or predict it."""
        self._session.say(f"This is what {before.name} makes of it.")
        key = (before, image, self._layers.visible_region(image))
        if key == self._shown and self._results.has(image, _BEFORE):
            self._turn(image, before=True)
            return

        def then(error: UNetError | None) -> None:
            if error is not None:
                self._session.say(str(error), "bad")
                return
            self._shown = key
            self._turn(image, before=self._held)

        job, model = "napari_unet.api:iter_predict", {"model": before.path}
        self._glimpses.ask(_BEFORE, image, job, model, then)

    def _turn(self, image: str, *, before: bool) -> None:
        """Show one and hide the other."""
        self._results.set_visible(image, (_BEFORE,), before)
        self._results.set_visible(image, _NOW, not before)


def _why(no_round: bool) -> str:
    """Say why nothing can be compared."""
    if no_round:
        return "There is no round before this one to compare with."
    return "Switch the viewer to 2D to compare rounds."
