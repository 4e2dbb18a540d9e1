"""The Predict page's action on everything; see `previews` for the view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import PredictConfig
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari_unet.events import CancelToken
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.results import Results
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Staging


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
        image, model = state.image.name, state.model.path
        config = PredictConfig.build(**settings, channels=state.channels)
        pixels = self._layers.pixels(image)
        output = self._staging.new_file()

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                "image": self._staging.source(pixels, token, progress),
                "model": model,
                "output": str(output),
                "config": config,
            }

        def finish(_: Any) -> str:
            self._show(image, output, config.kind)
            return f"Predicted {image}"

        target = "napari_unet.api:iter_predict"
        title = f"Predicting {image}"
        self._session.begin("predict", title, target, prepare, finish)

    def _show(self, image: str, output: Path, kind: str) -> None:
        """Show a result from its file, in place of the last preview."""
        result = np.load(output, mmap_mode="r")
        try:
            self._results.add(image, "prediction", result, kind, file=output)
        except UNetError:
            del result  # a mapped file cannot be removed everywhere
            output.unlink(missing_ok=True)
            raise
        self._results.remove(image, "preview")
