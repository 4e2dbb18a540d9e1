"""Images from files, as layers with their axes and physical size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer

from napari_unet.errors import UNetError
from napari_unet.gui.layers import MARK
from napari_unet.gui.opening import pixels_for
from napari_unet.gui.strokes import class_colours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.gui.layers import Layers
    from napari_unet.gui.session import Session


class Opening:
    """Opens files in the viewer, read in the background.

    Parameters
    ----------
    session : Session
        Shared with the pages.
    layers : Layers
        Where they come to.
    """

    def __init__(self, session: Session, layers: Layers) -> None:
        self._session = session
        self._layers = layers

    def image(self, path: str) -> None:
        """Open an image; it becomes the one that is worked on."""
        self._read([path], lambda parts: self._add_image(*parts[0]))

    def results(self, image: str, results: Mapping[str, str]) -> None:
        """Open an image of a batch and above it what was written for it.

        Only the first of the results is visible at first.

        Parameters
        ----------
        image : str
            Its file.
        results : mapping of str to str
            What the numbers are, by the file.
        """

        def show(parts: list[Any]) -> None:
            self._add_image(*parts[0])
            for number, kind in reversed([*enumerate(results.values())]):
                pixels, shown = parts[1 + number]
                self._add_result(kind, pixels, {**shown, "visible": number == 0})

        self._read([image, *results], show)

    def _read(self, paths: list[str], show: Any) -> None:
        """Read files elsewhere and show them here."""
        names = ", ".join(Path(path).name for path in paths)
        self._session.say(f"Opening {names} …")

        def then(found: Any) -> None:
            if isinstance(found, UNetError):
                self._session.fail(found)
                return
            show(found)
            self._session.say(f"Opened {names}.")

        self._session.tasks.aside(lambda: [_layer_of(path) for path in paths], then)

    def _add_image(self, pixels: Any, shown: dict[str, Any]) -> None:
        """Add an image layer and choose it, or the one that is there already."""
        viewer = self._layers.viewer
        if shown["name"] not in viewer.layers:
            viewer.add_layer(ImageLayer(pixels, **shown))
        viewer.layers.selection.active = viewer.layers[shown["name"]]

    def _add_result(self, kind: str, pixels: Any, shown: dict[str, Any]) -> None:
        """Add a layer for a result."""
        viewer = self._layers.viewer
        if shown["name"] in viewer.layers:
            return
        marked = {**shown, "metadata": {MARK: "batch"}}
        if kind not in ("labels", "instances"):
            viewer.add_layer(ImageLayer(pixels, colormap="magma", **marked))
            return
        colours = {"colormap": class_colours()} if kind == "labels" else {}
        layer = LabelsLayer(pixels, opacity=0.5, **colours, **marked)
        layer.editable = False
        viewer.add_layer(layer)


def _layer_of(path: str) -> tuple[Any, dict[str, Any]]:
    """Read a file: its pixels and how they are placed."""
    from napari_unet.images.readers import open_image

    stack = open_image(path)
    pixels = pixels_for(stack)
    units = [stack.units.get(axis) or "pixel" for axis in stack.axes]
    return pixels, {
        "name": Path(path).name,
        "scale": [stack.scale.get(axis, 1.0) for axis in stack.axes],
        "units": units,
        "axis_labels": tuple(stack.axes.lower()),
    }
