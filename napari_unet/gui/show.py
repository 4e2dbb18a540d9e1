"""Opens napari on what the demo left in a folder: ``python -m napari_unet.gui.show``.

Image, strokes and the predictions before and after fine-tuning, with the dock.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import UsageError

if TYPE_CHECKING:
    import napari

_NAMES = {
    "image": "nuclei",
    "before": "nuclei · before",
    "after": "nuclei · after",
    "strokes": "nuclei · strokes",
}


def show(folder: Path | str, viewer: napari.Viewer) -> None:
    """Add the demo's results and the dock to a viewer.

    Parameters
    ----------
    folder : path-like
        Holds ``image.ome.tif`` and, if made, ``before``, ``after`` and ``strokes``.
    viewer : napari.Viewer
        Gets the layers.

    Raises
    ------
    UsageError
        If the folder holds no image of the demo.
    """
    from napari_unet.gui.dock import dock_for

    paths = {stem: Path(folder) / f"{stem}.ome.tif" for stem in _NAMES}
    if not paths["image"].exists():
        raise UsageError(
            f"{folder} holds no results of the demo",
            expected="image.ome.tif in it",
            hint="Run the demo first.",
        )
    for stem, path in paths.items():
        if path.exists():
            _add(viewer, path, stem)
    viewer.layers.selection.active = viewer.layers[_NAMES["image"]]
    dock = dock_for(viewer)
    checkpoints = sorted(Path(folder).glob("*.safetensors"))
    if checkpoints:
        dock.controller.models.open(str(checkpoints[-1]))


def _add(viewer: napari.Viewer, path: Path, stem: str) -> None:
    """Add one file as a layer with its axes and physical size."""
    from napari_unet.images.readers import open_image

    with open_image(path) as stack:
        pixels = stack.read({}, stack.axes)
    shown: dict[str, Any] = {
        "name": _NAMES[stem],
        "scale": [stack.scale.get(axis, 1.0) for axis in stack.axes],
        "units": [stack.units.get(axis, "pixel") for axis in stack.axes],
        "axis_labels": tuple(stack.axes.lower()),
    }
    if stem == "image":
        viewer.add_image(pixels, **shown)
    else:
        labels = viewer.add_labels(pixels, opacity=0.5, **shown)
        labels.visible = stem != "before"
        if stem != "strokes":
            labels.metadata["unet"] = stem


def main() -> int:
    """Open napari on the folder named on the command line."""
    import napari

    if len(sys.argv) != 2:
        print("usage: python -m napari_unet.gui.show FOLDER", file=sys.stderr)
        return 2
    viewer = napari.Viewer()
    try:
        show(sys.argv[1], viewer)
    except UsageError as error:
        viewer.close()
        print(error, file=sys.stderr)
        return 2
    napari.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
