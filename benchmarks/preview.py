"""How long a live preview takes in the dock, from a move of the view to its pixels.

Run on a quiet machine, with a display or under Xvfb::

    xvfb-run -a -s "-screen 0 1600x1400x24" python benchmarks/preview.py

The view has as many pixels as 1024 x 1024, of a larger image; it is moved
to another place each time, so that nothing is known beforehand but the model and the
scaling of the image. Prints, for each kind of result, median and worst time in seconds
with the pause of 0.3 s after the last move, without it, and the processor time of the
computing process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import psutil
from qtpy.QtWidgets import QApplication

from napari_unet.gui.dock import dock_for
from napari_unet.samples import sample

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE = 0.3
_PATIENCE = 120.0


def image(size: int, dtype: str = "u2") -> np.ndarray:
    """Bright discs on a noisy ground, (size, size)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] % 40 - 20
    return (rng.normal(200, 40, (size, size)) + 800 * (y**2 + x**2 < 120)).astype(dtype)


def wait(done: Callable[[], bool]) -> None:
    """Let Qt work until something is so."""
    end = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the dock did not answer")
        QApplication.processEvents()
        time.sleep(0.001)


def child_time() -> float:
    """Processor seconds of the computing processes so far."""
    children = psutil.Process().children(recursive=True)
    return sum(sum(child.cpu_times()[:2]) for child in children)


def moves(viewer: Any, dock: Any, view: int, size: int, number: int) -> list[Any]:
    """Move the view, and time each preview: (wall, processor) seconds."""
    rng = np.random.default_rng(1)
    times = []
    for _ in range(number):
        y, x = rng.integers(view // 2, size - view // 2, 2)
        before, cpu = _place(viewer), child_time()
        start = time.perf_counter()
        viewer.scene.camera.center = (0, float(y), float(x))
        wait(lambda: _place(viewer) != before)  # noqa: B023
        times.append((time.perf_counter() - start, child_time() - cpu))
        wait(lambda: dock.controller.session.state.aside is None)
    return times


def _place(viewer: Any) -> tuple[float, ...] | None:
    """Where the preview lies, None while there is none."""
    found = [layer for layer in viewer.layers if "preview" in layer.name]
    return tuple(found[0].translate) if found else None


def main() -> None:
    """Measure, and print a line for each kind of result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--view", type=int, default=1024)
    parser.add_argument("--size", type=int, default=3072)
    parser.add_argument("--moves", type=int, default=10)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    viewer = napari.Viewer(show=True)
    viewer.add_image(image(options.size), name="cells")
    dock = dock_for(viewer)
    dock.controller.models.open(str(sample("nuclei.safetensors")))
    wait(lambda: dock.controller.session.state.model is not None)
    wait(lambda: dock.controller.session.state.activity is None)
    dock.predict.options.fields["precision"].value = options.precision
    for kind in ("labels", "probabilities", "instances"):
        dock.predict.result.choose(kind)
        height, width = viewer.canvas.size
        viewer.scene.camera.zoom = (height * width) ** 0.5 / options.view
        viewer.scene.camera.center = (0, options.size / 2, options.size / 2)
        dock.predict.live.setChecked(False)
        dock.predict.live.setChecked(True)
        wait(lambda: _place(viewer) is not None)
        found = moves(viewer, dock, options.view, options.size, options.moves)
        walls, cpus = zip(*found, strict=True)
        shape = next(p for p in viewer.layers if "preview" in p.name).data.shape
        print(
            f"{kind:14} {shape[-2]} x {shape[-1]}: {statistics.median(walls):.2f} s, "
            f"worst {max(walls):.2f} s; without the pause "
            f"{statistics.median(walls) - _PAUSE:.2f} s; processor "
            f"{statistics.median(cpus):.2f} s"
        )
    viewer.close()


if __name__ == "__main__":
    main()
