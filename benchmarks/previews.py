"""Do previews that are asked for and cancelled leave anything behind?

    xvfb-run -a -s "-screen 0 1400x900x24" python -m benchmarks.previews [--cycles 1000]
    python -m benchmarks.previews --inside 600 [--one-size]

In a real napari window, the view is previewed and that cancelled again and again,
at every moment of its way. Printed are the memory of the viewer and of its computing
process, threads, open files, widgets, layers and the previews that came to their end
after each tenth of the cycles. The process has a minute to stop, so that a busy machine
does not have it ended, which would hide what it keeps; their number is told.

--inside does previews of random size without a window, in this process, as the
computing process does them, and stops most of them. Two variables of the environment
tell how many kernels may be kept: ONEDNN_PRIMITIVE_CACHE_CAPACITY, LRU_CACHE_CAPACITY.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.measuring import anonymous

MODEL = Path(__file__).parents[1] / "sample_data" / "nuclei.safetensors"


def main() -> None:
    """Print one row each tenth of the cycles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--inside", type=int, default=0)
    parser.add_argument("--one-size", action="store_true")
    args = parser.parse_args()
    if args.inside:
        inside(args.inside, args.one_size)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        os.environ["XDG_DATA_HOME"] = folder
        run(args.cycles)


def run(cycles: int) -> None:
    """Preview and cancel, and look at what is there."""
    import napari
    from qtpy.QtTest import QTest

    from napari_unet.gui.dock import dock_for

    viewer = napari.Viewer()
    pixels = np.random.default_rng(0).integers(0, 4000, (512, 512), np.uint16)
    viewer.add_image(pixels, name="view", axis_labels=("y", "x"))
    dock = dock_for(viewer)
    session = dock.controller.session
    session.tasks._runner._stop_after = 60.0
    shown, processes = [0], set()
    session.subscribe(lambda view: count(view, shown))
    dock.controller.models.open(str(MODEL))
    while session.state.activity is not None:
        QTest.qWait(20)
    rng = np.random.default_rng(0)
    print(
        "cycles  viewer MB  child MB  threads  files  widgets  layers  shown  processes"
        "  seconds"
    )
    begin = time.perf_counter()
    for cycle in range(cycles + 1):
        if cycle % max(1, cycles // 10) == 0:
            settle(session, QTest.qWait)
            processes.add(session.tasks._runner.pid)
            seconds = time.perf_counter() - begin
            print(row(cycle, viewer, shown[0], len(processes), seconds), flush=True)
        y, x = rng.uniform(100, 400, 2)
        viewer.scene.camera.center = 0, y, x
        dock.predict.preview.click()
        QTest.qWait(int(rng.integers(0, 120)))
        if rng.random() < 0.8:
            dock.controller.stop()
    viewer.close()


def inside(previews: int, one_size: bool) -> None:
    """Preview in this process, and look at its memory and objects."""
    from napari_unet.execution import memory

    memory.keep()
    rng = np.random.default_rng(0)
    print("previews      MB  objects")
    with tempfile.TemporaryDirectory() as name:
        view = Path(name) / "view.npy"
        np.save(view, rng.integers(0, 4000, (512, 512), np.uint16))
        for n in range(previews + 1):
            if n % max(1, previews // 10) == 0:
                gc.collect()
                memory.give_back()
                told = f"{n:8} {anonymous() / 1e6:7.1f} {len(gc.get_objects()):8}"
                print(told, flush=True)
            begin = (0, 0) if one_size else rng.integers(0, 64, 2)
            size = (128, 144) if one_size else rng.integers(64, 136, 2)
            region = {
                axis: slice(int(first), int(first + length))
                for axis, first, length in zip("YX", begin, size, strict=True)
            }
            stop_at = int(rng.integers(0, 8)) if rng.random() < 0.8 else -1
            preview(view, region, stop_at)


def preview(view: Path, region: dict[str, slice], stop_at: int) -> None:
    """Predict a part of an image and stop after some event, or not."""
    from napari_unet.api import iter_shown
    from napari_unet.config import PredictConfig
    from napari_unet.events import CancelToken

    output, keep = view.with_name("out.npy"), view.with_name("kept.npy")
    cancel = CancelToken()
    for number, _ in enumerate(
        iter_shown(
            *(view, MODEL, output, PredictConfig()),
            keep=keep,
            region=region,
            cancel=cancel,
        )
    ):
        if number == stop_at:
            cancel.set()
    output.unlink(missing_ok=True)
    keep.unlink(missing_ok=True)


def settle(session: object, wait: object) -> None:
    """Let what is under way come to its end."""
    while session.state.aside is not None:  # type: ignore[attr-defined]
        wait(20)  # type: ignore[operator]
    wait(500)  # type: ignore[operator]
    gc.collect()


def count(view: object, shown: list[int]) -> None:
    """Count a preview that came to its end."""
    shown[0] += view.status.startswith("Previewed") and not view.busy  # type: ignore[attr-defined]


def row(cycle: int, viewer: object, shown: int, processes: int, seconds: float) -> str:
    """Count what is there."""
    from qtpy.QtWidgets import QApplication

    process = psutil.Process()
    children = process.children(recursive=True)
    child = sum(anonymous(c.pid) for c in children)
    return (
        f"{cycle:6} {anonymous() / 1e6:10.0f} {child / 1e6:9.0f} "
        f"{threading.active_count():8} {process.num_fds():6} "
        f"{len(QApplication.allWidgets()):8} {len(viewer.layers):7} "  # type: ignore[attr-defined]
        f"{shown:6} {processes:10} {seconds:8.0f}"
    )


if __name__ == "__main__":
    main()
