"""What napari's menus and file dialogs call: samples, reader, new stroke layer.

The names are those of ``napari.yaml``. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.gui.keys import PREDICT, PREVIEW, TRAIN
from napari_unet.samples import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    LayerData = tuple[Any, ...]


def sample_timelapse() -> list[LayerData]:
    """Return twelve frames of nuclei in thick tissue, TYX."""
    return [_layer("timelapse.ome.tif", "nuclei", "image")]


def sample_strokes() -> list[LayerData]:
    """Return the time-lapse and its strokes: 1 background, 2 nuclei."""
    strokes = _layer("timelapse_strokes.ome.tif", "nuclei · strokes", "labels")
    return [*sample_timelapse(), strokes]


def sample_truth() -> list[LayerData]:
    """Return the time-lapse and the true nuclei, each with its own id."""
    truth = _layer("timelapse_truth.ome.tif", "nuclei · truth", "labels")
    return [*sample_timelapse(), truth]


def new_strokes() -> None:
    """Open the dock and a stroke layer for the selected image."""
    from napari import current_viewer
    from napari.layers import Image

    from napari_unet.gui.dock import dock_for

    viewer = current_viewer()
    if viewer is None:
        return
    controller = dock_for(viewer).controller
    if isinstance(viewer.layers.selection.active, Image):
        controller.choose_image(viewer.layers.selection.active.name)
    controller.painting.new()


def predict_view() -> None:
    """Preview what the canvas shows, as the button and the key do."""
    _press(PREVIEW)


def predict_all() -> None:
    """Predict the whole image, as the button and the key do."""
    _press(PREDICT)


def fine_tune() -> None:
    """Learn from the strokes, as the button and the key do."""
    _press(TRAIN)


def measure_objects() -> None:
    """Measure the prediction and open the table."""
    from napari import current_viewer

    from napari_unet.gui.dock import dock_for

    if (viewer := current_viewer()) is not None:
        button = dock_for(viewer).predict.measure
        if button.isEnabled():
            button.click()
        else:
            dock_for(viewer).controller.session.say(button.toolTip())


def _press(key: str) -> None:
    """Press the button of a key in the dock of the current viewer, opening it."""
    from napari import current_viewer

    from napari_unet.gui.dock import dock_for

    if (viewer := current_viewer()) is not None:
        dock_for(viewer).press(key)


def write_labels(
    path: str, layer_data: Sequence[tuple[Any, dict[str, Any], str]]
) -> list[str]:
    """Write one labels layer as OME-TIFF with its axes and pixel size.

    Parameters
    ----------
    path : str
        Written over; an ending other than ``.tif`` or ``.tiff`` is refused.
    layer_data : sequence of tuple
        What napari hands to a writer of layers: data, attributes, type.

    Raises
    ------
    UNetError
        If the layer has no axes that OME-TIFF has, or it cannot be written.
    """
    from napari_unet.gui.writing import write_layer

    return [write_layer(path, data, shown) for data, shown, _ in layer_data]


def checkpoint_reader(
    path: str | Path | Sequence[str | Path],
) -> Callable[[Any], list[LayerData]] | None:
    """Reader of checkpoints dropped on the viewer.

    Returns
    -------
    callable or None
        Hands one checkpoint to the dock, adding no layer; None for several files.
    """
    return None if isinstance(path, (list, tuple)) and len(path) != 1 else _offer


def _offer(path: Any) -> list[LayerData]:
    """Show a checkpoint in the dock of the current viewer."""
    from napari import current_viewer

    from napari_unet.gui.dock import offer_checkpoint

    viewer = current_viewer()
    if viewer is not None:
        offer_checkpoint(viewer, path[0] if isinstance(path, (list, tuple)) else path)
    return [(None,)]


def _layer(file: str, name: str, kind: str) -> LayerData:
    """Read a shipped image with its axes and physical size."""
    from napari_unet.images.readers import open_image

    with open_image(sample(file)) as stack:
        pixels = stack.read({}, stack.axes)
    shown = {
        "name": name,
        "scale": tuple(stack.scale.get(axis, 1.0) for axis in stack.axes),
        "units": tuple(stack.units.get(axis, "pixel") for axis in stack.axes),
        "axis_labels": tuple(stack.axes.lower()),
    }
    return pixels, shown, kind
