"""How long does the window wait when a result of many pixels is shown?

    xvfb-run -a -s "-screen 0 1400x900x24" python -m benchmarks.showing [--size 4096]

In a real napari window labels are made ready as after a model was opened, then results
are shown on an image one after the other, as a prediction does. Printed are the longest
time for which the other thread kept the window's from running, and the processor time
of the window's thread for collecting garbage, showing a result and drawing it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Print one row a result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--results", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        os.environ["XDG_DATA_HOME"] = folder
        run(Path(folder), args.size, args.results)


def run(folder: Path, size: int, count: int) -> None:
    """Show results one after the other."""
    import napari
    from qtpy.QtTest import QTest

    from napari_unet.gui import results as shown
    from napari_unet.gui.dock import dock_for
    from napari_unet.gui.layers import Layers

    viewer = napari.Viewer()
    dock_for(viewer)
    image = np.random.default_rng(0).integers(0, 4000, (size, size), np.uint16)
    viewer.add_image(image, name="image", axis_labels=("y", "x"))
    QTest.qWait(1000)
    print(f"made ready: the window waits for {longest_gap(shown.warm_up):.3f} s")
    print(f"garbage: {seconds(shown.collect):.3f} s of a core")
    results = shown.Results(Layers(viewer))
    for number in range(count):
        path = folder / f"{number}.npy"
        np.lib.format.open_memmap(path, "w+", np.uint8, (size, size)).flush()
        labels = np.load(path, mmap_mode="r")

        def show(labels: np.ndarray = labels, path: Path = path) -> None:
            results.add("image", "prediction", labels, "labels", file=path)

        took = seconds(show)
        drawn = seconds(lambda: QTest.qWait(200))
        print(f"result {number + 1}: shown in {took:.3f}, drawn in {drawn:.3f} s")
    viewer.close()


def seconds(action: Callable[[], object]) -> float:
    """Processor time of this thread."""
    begin = time.thread_time()
    action()
    return time.thread_time() - begin


def longest_gap(action: Callable[[], object]) -> float:
    """Longest time this thread does not run while another does something."""
    thread = threading.Thread(target=action)
    thread.start()
    last, longest = time.perf_counter(), 0.0
    while thread.is_alive():
        time.sleep(0.002)
        now = time.perf_counter()
        last, longest = now, max(longest, now - last)
    return longest


if __name__ == "__main__":
    main()
