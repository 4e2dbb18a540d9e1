"""Glimpses: the view as another network sees it, such as one that is being trained.

Like previews they go ahead of what runs. The newest wins.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import PredictConfig
from napari_unet.errors import UNetError
from napari_unet.events import Event, Finished, Progress
from napari_unet.execution.protocol import Failed, is_last
from napari_unet.gui.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet.gui.layers import Layers
    from napari_unet.gui.results import Results
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Staging

_FIRST_AFTER = 2.0
"""Seconds of training after which there is something to see."""
_APART = 1.0
"""Least seconds between two glimpses of a training, and their share of its time:"""
_REST = 3.0
"""so many times as long as a glimpse takes, the training has for itself."""


class Glimpses:
    """Predicts the view for a moment.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the image is.
    results : Results
        Shows what comes out.
    staging : Staging
        Takes the pixels there and back.
    """

    def __init__(
        self, session: Session, layers: Layers, results: Results, staging: Staging
    ) -> None:
        self._session = session
        self._layers = layers
        self._results = results
        self._staging = staging

    def ask(
        self,
        suffix: str,
        image: str,
        target: str,
        arguments: dict[str, Any],
        then: Callable[[UNetError | None], None],
    ) -> None:
        """Predict the view of an image into the layer with a suffix.

        Parameters
        ----------
        suffix : str
            Such as ``"preview"``.
        image : str
            Name of the image layer.
        target : str
            The job, which takes ``image``, ``output``, ``config`` and ``region``.
        arguments : dict
            The rest of its arguments.
        then : callable
            Called when it has ended, with the error if there was one.

        Raises
        ------
        UNetError
            If the image is gone, or nothing of it is in view.
        """
        settings = dict(self._session.state.settings or {})
        config = PredictConfig.build(**settings, channels=self._session.state.channels)
        pixels, output = self._layers.pixels(image), self._staging.new_place()
        region: dict[str, slice] = {}

        def prepare(token: Any, progress: Any) -> dict[str, Any]:
            source = self._staging.source(pixels, token, progress)
            return {
                "image": source, "output": str(output), "config": config, **arguments,
            }  # fmt: skip

        def late() -> dict[str, Any]:
            region.update(self._layers.visible_region(image))
            return {"region": region}

        def take(event: Event) -> None:
            if not is_last(event):
                return
            error = event.error if isinstance(event, Failed) else None
            if isinstance(event, Finished):
                error = self._show(image, suffix, output, config.kind, region)
            shutil.rmtree(output.parent, ignore_errors=True)
            then(error)

        self._session.tasks.start(Task(target, prepare, take, turn="first", late=late))

    def refresh(self) -> None:
        """Predict the view by the model in use, where it was shown before."""
        state = self._session.state
        if state.model is None or state.image is None or not state.image.flat:
            return
        image = state.image.name
        if self._results.has(image, "preview"):
            model = {"model": state.model.path}
            job = "napari_unet.api:iter_predict"
            self._session.attempt(
                lambda: self.ask("preview", image, job, model, self._tell)
            )

    def of_training(self, output: str, image: str) -> Callable[[Event], None]:
        """Make what shows a training while it runs, given each of its events."""
        return _OfTraining(self, self._session, output, image)

    def _tell(self, error: UNetError | None) -> None:
        """Say why there is no glimpse."""
        if error is not None:
            self._session.say(str(error), "bad")

    def _show(
        self, image: str, suffix: str, output: Path, kind: str, region: Any
    ) -> UNetError | None:
        """Show a result from memory."""
        start = {axis: part.start for axis, part in region.items()}
        try:
            self._results.add(image, suffix, np.load(output), kind, start)
        except UNetError as error:
            return error
        return None


class _OfTraining:
    """Looks at a training again and again, and first after some seconds."""

    def __init__(
        self, glimpses: Glimpses, session: Session, output: str, image: str
    ) -> None:
        self._glimpses, self._session = glimpses, session
        self._output, self._image = output, image
        self._next = 0.0
        self._asked: float | None = None
        self._told = False

    def __call__(self, event: Event) -> None:
        """Ask for the view if the last one is not too near."""
        now = time.monotonic()
        if isinstance(event, Progress) and event.note.startswith("step"):
            self._next = self._next or now + _FIRST_AFTER
            self._ask(now)

    def _ask(self, now: float) -> None:
        """Ask for the view, unless it is too early or it cannot be shown."""
        state = self._session.state
        if now < self._next or self._asked is not None:
            return
        if state.image is None or state.image.name != self._image:
            return
        if not state.image.flat:
            return
        self._asked = now
        try:
            self._glimpses.ask(
                "preview",
                self._image,
                "napari_unet.api:iter_training_view",
                {"training": self._output},
                self._took,
            )
        except UNetError as error:
            self._took(error)

    def _took(self, error: UNetError | None) -> None:
        """Rest in proportion to what it took."""
        now = time.monotonic()
        took = now - (self._asked or now)
        self._asked, self._next = None, now + max(_APART, _REST * took)
        if error is not None and not self._told:
            self._told = True
            self._session.warn(f"The view was not shown meanwhile: {error}")
