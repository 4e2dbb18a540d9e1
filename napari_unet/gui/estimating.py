"""What a batch would take, told from the plan of its first image."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from napari_unet.config import BatchConfig
from napari_unet.events import Event, Finished
from napari_unet.gui import words
from napari_unet.gui.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.gui.session import Session


class Estimating:
    """Plans the first file of a batch and takes the others for alike, by their bytes.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: Task | None = None

    def ask(self, settings: Mapping[str, Any]) -> None:
        """Say what the chosen files would take; says nothing where that fails."""
        state = self._session.state
        self._session.update(estimate="")
        if state.model is None or not state.files:
            return
        paths, model = [file.path for file in state.files], state.model.path
        config = BatchConfig.build(**settings)
        sizes: list[int] = []

        def prepare(*_: Any) -> dict[str, Any]:
            sizes.extend(map(_bytes, paths))
            return {"image": paths[0], "model": model, "config": config}

        task = Task(
            "napari_unet.api:iter_forecast",
            prepare,
            lambda event: self._take(task, event, sizes, config),
            turn="last",
        )
        self._task = task
        self._session.tasks.start(task)

    def _take(
        self, task: Task, event: Event, sizes: list[int], config: BatchConfig
    ) -> None:
        """Show what the plan says."""
        if task is not self._task or not isinstance(event, Finished):
            return
        times = sum(sizes) / max(sizes[0], 1)
        seconds, written = event.result["seconds"], event.result["output_bytes"]
        if config.probabilities and (model := self._session.state.model):
            channels = model.facts["out_channels"] if config.kind != "logits" else 1
            written += 4 * channels * math.prod(event.result["output_shape"])
        self._session.update(
            estimate=f"About {words.seconds(seconds * times)} · "
            f"up to {words.size(written * times)} of results"
        )


def _bytes(path: str) -> int:
    """Size of a file; of a folder, that of all files in it."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    walked = (os.path.join(top, f) for top, _, files in os.walk(path) for f in files)
    return sum(map(os.path.getsize, walked))
