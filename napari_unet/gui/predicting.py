"""The Predict page's action on everything; see `previews` for the view."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError, UNetError
from napari_unet.events import Cancelled, Written
from napari_unet.execution.protocol import Failed
from napari_unet.gui import geometry, words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari_unet.events import CancelToken, Event
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.looks import Looks
    from napari_unet.gui.results import Results
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Staging
    from napari_unet.gui.state import Model, State

LONG = 600.0
"""Seconds from which on a run is asked about first."""
_REDRAWN_AFTER = 0.1
_SHARE_OF_DISK = 0.4
"""Of the free space, what kept probabilities may take."""


@dataclass(eq=False)
class _Run:
    """A prediction of a whole image."""

    image: str
    model: Model
    config: PredictConfig
    output: Path
    keep: Path | None
    is_shown: bool = False
    drawn: float = 0.0

    def tidy(self) -> None:
        """Remove what nothing shows."""
        for path in (self.keep, None if self.is_shown else self.output):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


class Predicting:
    """Runs the model over the chosen image.

    Parameters
    ----------
    session : Session
        Shared with the other pages.
    layers : Layers
        Where the image is.
    results : Results
        Shows what comes out.
    looks : Looks
        Shows it in other ways.
    staging : Staging
        Takes the pixels there and back.
    """

    def __init__(
        self,
        session: Session,
        layers: Layers,
        results: Results,
        looks: Looks,
        staging: Staging,
    ) -> None:
        self._session = session
        self._layers = layers
        self._results = results
        self._looks = looks
        self._staging = staging

    def concern(self) -> str:
        """Say why a run should be asked about first, or nothing."""
        plan = self._session.state.plan
        if plan is None:
            return ""
        free = self._staging.room()
        if plan.output_bytes > free:
            return (
                f"The result takes {words.size(plan.output_bytes)}, and the disk has "
                f"{words.size(free)} left. It will not fit."
            )
        if plan.seconds > LONG:
            return (
                f"This will take about {words.seconds(plan.seconds)}. The result grows "
                "in the viewer meanwhile, and Stop keeps what is done."
            )
        return ""

    def predict(self, settings: Mapping[str, Any]) -> None:
        """Predict the whole image."""
        self._session.attempt(lambda: self._begin(settings))

    def set_settings(self, settings: Mapping[str, Any] | None) -> None:
        """Take the settings of the page, None while they cannot be read."""
        self._session.update(settings=settings)

    def _begin(self, settings: Mapping[str, Any]) -> None:
        """Start a prediction."""
        state = self._session.state
        if self._session.is_busy() or state.image is None or state.model is None:
            return
        image, model = state.image.name, state.model
        config = PredictConfig.build(**settings, channels=state.channels)
        pixels, view = self._layers.pixels(image), self._view(image)
        output = self._staging.new_file()
        keep = self._staging.new_file() if self._can_keep(state, config) else None
        run = _Run(image, model, config, output, keep)

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                "image": self._staging.source(pixels, token, progress),
                "model": model.path,
                "output": str(output),
                "config": config,
                "keep": keep and str(keep),
                "view": view,
            }

        def finish(_: Any) -> str:
            try:
                self._show(run)
            except UNetError:
                run.tidy()
                raise
            return f"Predicted {image}{_not_kept(run)}"

        target = "napari_unet.api:iter_shown"
        title = f"Predicting {image}"
        self._session.begin(
            *("predict", title, target, prepare, finish),
            watch=lambda event: self._watch(run, event),
        )

    def _view(self, image: str) -> dict[str, slice] | None:
        """Find what is looked at of an image, None where that is nothing."""
        try:
            return self._layers.looked_at(image)
        except UNetError:
            return None

    def _can_keep(self, state: State, config: PredictConfig) -> bool:
        """Whether the disk has room for the probabilities too."""
        if state.image is None or state.model is None or config.kind == "logits":
            return False
        channels = int(state.model.facts["out_channels"])
        needed = 4 * channels * math.prod(state.image.plane_shape)
        return needed < _SHARE_OF_DISK * self._staging.room()

    def _watch(self, run: _Run, event: Event) -> None:
        """Show what is written while the rest is computed; tidy up at the end."""
        if isinstance(event, Written):
            with contextlib.suppress(UNetError):
                self._grow(run, event.region)
        elif isinstance(event, Cancelled | Failed):
            self._session.tasks.aside(run.tidy, lambda _: None)

    def _grow(self, run: _Run, region: tuple[slice, ...]) -> None:
        """Show the file from its first part on, and draw parts that are in view."""
        if not run.is_shown:
            self._add(run)
            return
        now = time.monotonic()
        if now - run.drawn < _REDRAWN_AFTER:
            return
        run.drawn = now
        layer = self._layers.layer(run.image)
        axes = self._layers.axes_of(layer) or ""
        there = geometry.fit_region(region, axes, layer.ndim)
        self._results.refresh(run.image, "prediction", there)

    def _add(self, run: _Run) -> None:
        """Show the file of a result, in place of the last result."""
        run.is_shown = True
        result = np.load(run.output, mmap_mode="r")
        try:
            self._results.add(
                run.image, "prediction", result, run.config.kind, file=run.output
            )
        except UNetError:
            del result  # a mapped file cannot be removed everywhere
            run.is_shown = False
            raise
        self._looks.drop("prediction")

    def _show(self, run: _Run) -> None:
        """Show a complete result."""
        if not run.is_shown:
            self._add(run)
        elif not (layers := self._results.shown(run.image, "prediction")):
            raise ImageError(f"The result layer of {run.image} was removed")
        else:
            for layer in layers:
                layer.refresh()
        self._results.remove(run.image, "preview")
        self._looks.drop("preview")
        if run.keep is not None:
            self._looks.keep(run.image, "prediction", run.keep, run.model, run.config)


def _not_kept(run: _Run) -> str:
    """Say that a threshold cannot be changed afterwards for want of space."""
    if run.keep is not None or run.config.kind == "logits":
        return ""
    return "; its probabilities were not kept, as the disk has too little room"
