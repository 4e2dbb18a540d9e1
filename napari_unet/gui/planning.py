"""What a prediction would take, found out in spare time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.config import PredictConfig
from napari_unet.errors import UNetError
from napari_unet.events import Cancelled, Event, Finished
from napari_unet.execution.protocol import Failed
from napari_unet.gui import buttons
from napari_unet.gui.state import Card
from napari_unet.gui.tasks import Task
from napari_unet.inference import card

if TYPE_CHECKING:
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.session import Session
    from napari_unet.gui.state import State


class Planning:
    """Keeps the plan of the next prediction up to date.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the image is.
    """

    def __init__(self, session: Session, layers: Layers) -> None:
        self._session = session
        self._layers = layers
        self._key: object = None
        self._task: Task | None = None

    def close(self) -> None:
        """Forget what was asked for; nothing more comes of it."""
        self._key, self._task = None, None

    def catch_up(self) -> None:
        """Plan again if image, model or settings changed and nothing runs."""
        state = self._session.state
        key = _key(state)
        if key == self._key or state.activity is not None:
            return
        self._key, self._task = key, None
        self._session.update(plan=None)
        if key is not None:
            try:
                self._start(state)
            except UNetError as error:
                self._session.update(plan=Card(str(error)))

    def _start(self, state: State) -> None:
        """Ask for the plan of an image that need not be sent for that."""
        assert state.image is not None
        assert state.model is not None
        settings = dict(state.settings or {})
        config = PredictConfig.build(**settings, channels=state.channels)
        pixels, model = self._layers.pixels(state.image.name), state.model.path

        def prepare(*_: Any) -> dict[str, Any]:
            return {"image": pixels.blank(), "model": model, "config": config}

        task = Task(
            "napari_unet.api:iter_forecast",
            prepare,
            lambda event: self._take(task, event),
            turn="last",
        )
        self._task = task
        self._session.tasks.start(task)

    def _take(self, task: Task, event: Event) -> None:
        """Show the plan, or why there is none."""
        if task is not self._task:
            return
        if isinstance(event, Finished):
            lines = tuple(card.lines(event.result).items())
            facts = event.result
            plan = Card(
                *(card.summary(facts), lines, facts["seconds"], facts["output_bytes"])
            )
            self._session.update(plan=plan)
        elif isinstance(event, Failed):
            self._session.update(plan=Card(str(event.error)))
        elif isinstance(event, Cancelled):  # its process was ended for another job
            self.close()


def _key(state: State) -> object:
    """List what a plan depends on, None where nothing can be predicted."""
    if state.settings is None or buttons.no_prediction(state):
        return None
    settings = {k: v for k, v in state.settings.items() if k != "threshold"}
    return state.image, state.model, state.channels, settings
