"""How soon is it seen that a training helps?

    xvfb-run -a -s "-screen 0 1400x900x24" python -m benchmarks.live_view

In a real napari window the sample's strokes are learned, from the shipped network on
and by a new one. Printed are, for each preview that comes while it learns, the seconds
since the click on the button and the Dice of the view against the truth; the first line
is the view by the network that it starts from, where there is one.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE = 300.0


def main() -> None:
    """Print the previews of two trainings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = os.path.join(folder, "settings.yaml")
        os.environ["XDG_DATA_HOME"] = folder
        for is_new in (False, True):
            print("a new U-Net" if is_new else "from the shipped network", flush=True)
            _run(is_new, args.seconds)


def _run(is_new: bool, seconds: float) -> None:
    """Open the sample, look at its view, train, and score what is shown meanwhile."""
    import napari

    from napari_unet.gui.dock import dock_for

    viewer = napari.Viewer()
    dock = dock_for(viewer)
    session = dock.controller.session
    dock.try_sample()
    _wait(lambda: session.state.activity is None)
    viewer.dims.set_current_step(0, _painted_frame(viewer))
    before = 0.0
    if is_new:
        dock.controller.models.forget()
    else:
        dock.predict.preview.click()
        _wait(lambda: _shown(viewer) is not None and session.state.aside is None)
        before = _dice(viewer)
        print(f"  before: Dice {before:.3f}", flush=True)
    dock.train.form.fields["max_seconds"].value = seconds
    better = _watch(viewer, session, dock.train.train, before)
    print(f"  first better after {better:.1f} s; {session.state.message}", flush=True)
    viewer.close()


def _watch(viewer: Any, session: Any, button: Any, before: float) -> float:
    """Train, print each preview that comes, and tell when the first better one came."""
    better = math.inf
    seen, begun = id(_shown(viewer)), time.monotonic()
    button.click()
    while session.state.activity is not None:
        _breathe()
        pixels = _shown(viewer)
        if pixels is not None and id(pixels) != seen:
            seen, taken = id(pixels), time.monotonic() - begun
            found = _dice(viewer)
            better = min(better, taken) if found > before else better
            print(f"  {taken:5.1f} s: Dice {found:.3f}", flush=True)
    return better


def _painted_frame(viewer: Any) -> int:
    """Frame with the most strokes."""
    strokes = viewer.layers["nuclei · strokes"].data
    return int((strokes > 0).sum(axis=(1, 2)).argmax())


def _shown(viewer: Any) -> np.ndarray | None:
    """Pixels of the preview, None while there is none."""
    found = [layer for layer in viewer.layers if "preview" in layer.name]
    return found[0].data if found else None


def _dice(viewer: Any) -> float:
    """Compare the preview with the truth where it lies."""
    from napari_unet.images.readers import open_image
    from napari_unet.samples import sample

    layer = next(layer for layer in viewer.layers if "preview" in layer.name)
    start = np.round(layer.translate / layer.scale).astype(int)
    place = tuple(slice(a, a + n) for a, n in zip(start, layer.data.shape, strict=True))
    with open_image(sample("timelapse_truth.ome.tif")) as stack:
        truth = stack.read({}, stack.axes)[place] > 0
    found = np.asarray(layer.data) > 0
    return float(2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1))


def _wait(done: Callable[[], bool]) -> None:
    """Let Qt work until something is so."""
    end = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the dock did not answer")
        _breathe()


def _breathe() -> None:
    """Let Qt work for a moment."""
    from qtpy.QtWidgets import QApplication

    QApplication.processEvents()
    time.sleep(0.005)


if __name__ == "__main__":
    main()
