"""Objects of a result, measured, and the way between a row and its object; no Qt."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels as LabelsLayer

from napari_unet import files
from napari_unet.errors import UsageError
from napari_unet.gui import words
from napari_unet.gui.derived import Classes
from napari_unet.gui.staging import Pixels
from napari_unet.gui.state import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_unet.events import CancelToken
    from napari_unet.gui.layers import Layers
    from napari_unet.gui.results import Results
    from napari_unet.gui.session import Session
    from napari_unet.gui.staging import Staging


class Measuring:
    """Measures the labels of a prediction in the computing process.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where the image is.
    results : Results
        Where its prediction is.
    staging : Staging
        Takes the pixels there.
    """

    def __init__(
        self, session: Session, layers: Layers, results: Results, staging: Staging
    ) -> None:
        self._session = session
        self._layers = layers
        self._results = results
        self._staging = staging

    def measure(self) -> None:
        """Measure the prediction of the chosen image."""
        self._session.attempt(self._begin)

    def export(self, path: Path | str) -> None:
        """Write the table as a CSV file of the user's.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if (measured := self._session.state.measured) is not None:
            files.write(path, measured.path.read_bytes())
            self._session.say(f"Wrote {Path(path).name}.", "good")

    def go_to(self, row: int) -> bool:
        """Show the object of a row in the viewer and select its label.

        Returns
        -------
        bool
            Whether the layer is still there.
        """
        measured = self._session.state.measured
        viewer = self._layers.viewer
        if measured is None or measured.layer not in viewer.layers:
            self._session.say("The measured layer is not there any more.")
            return False
        layer = viewer.layers[measured.layer]
        axes = self._layers.axes_of(self._layers.layer(measured.image)) or ""
        place = [_middle(measured, axis, row) for axis in axes[: layer.ndim]]
        world = layer.data_to_world(place)
        offset = viewer.dims.ndim - layer.ndim
        for axis, value in enumerate(world):
            if axis + offset not in viewer.dims.displayed:
                viewer.dims.set_point(axis + offset, float(value))
        shown = [axis - offset for axis in viewer.dims.displayed]
        viewer.scene.camera.center = [float(world[a]) if a >= 0 else 0.0 for a in shown]
        layer.selected_label = int(measured.column("label")[row])
        return True

    def row_at(self, world: Sequence[float]) -> int | None:
        """Find the row of the object at a place in the viewer."""
        measured = self._session.state.measured
        viewer = self._layers.viewer
        if measured is None or measured.layer not in viewer.layers:
            return None
        layer = viewer.layers[measured.layer]
        label = layer.get_value(world, world=True)
        if not label:
            return None
        axes = self._layers.axes_of(self._layers.layer(measured.image)) or ""
        place = layer.world_to_data(world)
        same = measured.column("label") == int(label)
        for axis, at in zip(axes, place, strict=False):
            if axis.lower() in measured.names:
                same &= measured.column(axis.lower()) == round(float(at))
        rows = np.flatnonzero(same)
        return int(rows[0]) if rows.size else None

    def _begin(self) -> None:
        """Start to measure."""
        state = self._session.state
        if self._session.is_busy() or state.image is None:
            return
        image = state.image.name
        layer = self._labels(image)
        pixels = self._layers.pixels(image)
        plain = pixels.axes.replace("C", "")
        found = _without_channels(layer.data, pixels.axes, layer.ndim)
        labels = Pixels(found, plain, pixels.scale, pixels.units, layer.name)
        output = self._staging.new_file().with_suffix(".csv")
        name = layer.name

        def prepare(token: CancelToken, progress: Callable[[float], None]) -> Any:
            return {
                "image": self._staging.source(pixels, token, progress),
                "labels": self._staging.source(labels, token, progress),
                "output": str(output),
            }

        def finish(_: Any) -> str:
            self._session.tasks.aside(lambda: read(image, name, output), self._show)
            return ""

        self._session.begin(
            *("measure", f"Measuring {name}", "napari_unet.api:iter_measure"),
            prepare,
            finish,
        )

    def _labels(self, image: str) -> LabelsLayer:
        """Find the prediction if it has labels."""
        for layer in self._results.shown(image, "prediction"):
            if isinstance(layer, LabelsLayer):
                return layer
        raise UsageError(
            "There are no labels to measure",
            hint="Predict all, and show the result as separate objects or classes.",
        )

    def _show(self, found: Any) -> None:
        """Show the table that was read."""
        if isinstance(found, Measured):
            self._session.update(measured=found)
            self._session.say(f"Measured {words.count(len(found), 'object')}.", "good")
        else:
            self._session.fail(found)


def read(image: str, layer: str, path: Path) -> Measured:
    """Read a table of measurements; for another thread.

    Parameters
    ----------
    image, layer : str
        What was measured.
    path : pathlib.Path
        As `napari_unet.batch.measure` writes it.
    """
    with path.open(newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    columns = tuple(_column([row[i] for row in rows]) for i in range(len(names)))
    return Measured(image, layer, path, tuple(names), columns)


def _column(texts: list[str]) -> np.ndarray:
    """Read whole numbers, numbers, or leave texts."""
    for kind in (np.int64, np.float64):
        try:
            return np.array([kind(text) for text in texts], kind)
        except ValueError:
            continue
    return np.array(texts, object)


def _middle(measured: Measured, axis: str, row: int) -> float:
    """Place of an object along an axis of its image, in pixels."""
    name = axis.lower()
    if name in measured.names:
        return float(measured.column(name)[row])
    if f"first_{name}" not in measured.names:
        return 0.0
    ends = (measured.column(f"{end}_{name}")[row] for end in ("first", "last"))
    return float(sum(ends)) / 2


def _without_channels(data: Any, axes: str, ndim: int) -> Any:
    """Take the one channel of labels that lie on an image with channels."""
    index: list[Any] = [slice(None)] * ndim
    if "C" in axes[:ndim]:
        index[axes.index("C")] = 0
    if isinstance(data, Classes):  # whose threshold may change while it is copied
        return Classes(
            data.values[(slice(None), *index)], data.decision, data.threshold
        )
    return data if "C" not in axes[:ndim] else data[tuple(index)]
