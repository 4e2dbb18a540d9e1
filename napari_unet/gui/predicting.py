"""The Predict page's actions: the view, or everything."""

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

    def preview(self, settings: Mapping[str, Any]) -> None:
        """Predict what the canvas shows."""
        self._session.attempt(lambda: self._begin(settings, "preview"))

    def predict(self, settings: Mapping[str, Any]) -> None:
        """Predict the whole image."""
        self._session.attempt(lambda: self._begin(settings, "prediction"))

    def _begin(self, settings: Mapping[str, Any], suffix: str) -> None:
        """Start a prediction of the view or of everything."""
        state = self._session.state
        if self._session.is_busy() or state.image is None or state.model is None:
            return
        image, model = state.image.name, state.model.path
        config = PredictConfig.build(**settings, channels=state.channels)
        pixels = self._layers.pixels(image)
        preview = suffix == "preview"
        region = self._layers.visible_region(image) if preview else None
        output = self._staging.new_file()

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                "image": self._staging.source(pixels, token, progress),
                "model": model,
                "output": str(output),
                "config": config,
                "region": region,
            }

        def finish(_: Any) -> str:
            start = {axis: part.start for axis, part in (region or {}).items()}
            self._show(image, suffix, output, config.kind, start)
            return "Previewed the view" if preview else f"Predicted {image}"

        title = "Predicting the view" if preview else f"Predicting {image}"
        kind = "preview" if preview else "predict"
        target = "napari_unet.api:iter_predict"
        self._session.begin(kind, title, target, prepare, finish)

    def _show(
        self, image: str, suffix: str, output: Path, kind: str, start: dict[str, int]
    ) -> None:
        """Show a result: a preview from memory, a whole prediction from its file."""
        if suffix == "preview":
            result = np.load(output)
            output.unlink()
            self._results.add(image, suffix, result, kind, start)
            return
        result = np.load(output, mmap_mode="r")
        try:
            self._results.add(image, suffix, result, kind, start, output)
        except UNetError:
            del result  # a mapped file cannot be removed everywhere
            output.unlink(missing_ok=True)
            raise
        self._results.remove(image, "preview")
