"""Does the window stand still while something runs, and how soon does Stop act?

    xvfb-run -a -s "-screen 0 1400x900x24" python -m benchmarks.stalls [--where]

A timer of the GUI thread beats every 10 ms in a real napari window while the dock is
opened and predicts 4096 x 4096 pixels and a volume of 4 GB, previews, trains and does a
batch. The gap between two beats is what a person feels: its 99th percentile and maximum
are printed for each step, beside those of a window where nothing runs. Where Linux
tells, they are printed once more without the time in which the thread could have run
but other programs had the cores. --where also prints what the GUI thread was doing in
gaps over 50 ms.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEAT, LONG = 0.01, 0.05
SAMPLES = Path(__file__).parents[1] / "sample_data"


def main() -> None:
    """Print one row a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--where", action="store_true")
    parser.add_argument("--seconds", type=float, default=20.0, help="a job's, at most")
    parser.add_argument("--planes", type=int, default=512, help="2048 x 2048, uint16")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "settings.yaml")
        os.environ["XDG_DATA_HOME"] = folder
        Steps(Path(folder), args.seconds, args.planes, Heart(args.where)).all()


class Heart:
    """Beats on the GUI thread and remembers the gaps.

    Parameters
    ----------
    where : bool
        Whether to look at what the GUI thread does in long gaps.
    """

    def __init__(self, where: bool) -> None:
        self._where = where
        self._gaps: list[tuple[float, float]] = []
        self._last = time.perf_counter()
        self._kept = 0.0
        self._seen: collections.Counter[str] = collections.Counter()
        self._thread = threading.get_ident()

    def start(self) -> None:
        """Begin to beat, once there is an application."""
        from qtpy.QtCore import Qt, QTimer

        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(round(1000 * BEAT))
        if self._where:
            threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def over(self, step: str) -> Iterator[None]:
        """Print the gaps of a step."""
        self._gaps, self._last, self._kept = [], time.perf_counter(), _kept_waiting()
        self._seen.clear()
        yield
        self._beat()
        gaps = np.array(self._gaps) * 1000
        late = int((gaps > 1000 * LONG).sum(axis=0)[0])
        (p99, own99), (most, own) = np.quantile(gaps, (0.99, 1.0), axis=0)
        print(
            f"{step:30} p99 {p99:5.0f} ({own99:4.0f}) ms   max {most:5.0f} ({own:4.0f})"
            f" ms   {late:4} over 50 ms in {gaps.sum(axis=0)[0] / 1000:5.1f} s",
            flush=True,
        )
        for place, count in self._seen.most_common(6):
            print(f"    {count:4} x {place}", flush=True)

    def _beat(self) -> None:
        now, kept = time.perf_counter(), _kept_waiting()
        gap = now - self._last
        self._gaps.append((gap, max(0.0, gap - (kept - self._kept))))
        self._last, self._kept = now, kept

    def _watch(self) -> None:
        """Look at the GUI thread again and again while a beat is overdue."""
        while True:
            time.sleep(BEAT)
            if time.perf_counter() - self._last > LONG:
                frame = sys._current_frames()[self._thread]
                self._seen[_place(traceback.extract_stack(frame))] += 1


def _kept_waiting() -> float:
    """Seconds in which this thread could have run but had no core, 0 if not told."""
    try:
        told = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        return int(told.read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def _place(stack: traceback.StackSummary) -> str:
    """Name the innermost frame and the last ones of ours."""
    ours = [f for f in stack if "napari_unet" in f.filename][-2:]
    frames = [*ours, stack[-1]] if stack[-1] not in ours else ours
    return " > ".join(f"{Path(f.filename).stem}:{f.lineno} {f.name}" for f in frames)


class Steps:
    """What is done in the window, and how it is waited for."""

    def __init__(self, folder: Path, seconds: float, planes: int, heart: Heart) -> None:
        import napari

        self.folder, self.seconds, self.planes = folder, seconds, planes
        self.viewer = napari.Viewer()
        self.heart = heart
        heart.start()
        self.wait(lambda: False, 2)

    def all(self) -> None:
        """Do everything once."""
        with self.heart.over("idle"):
            self.wait(lambda: False, 5)
        self.open_dock()
        self.predict("4096 x 4096", np.load(self.image((4096, 4096))))
        volume = np.load(self.image((self.planes, 2048, 2048)), mmap_mode="r")
        self.predict(f"{volume.nbytes / 2**30:.0f} GB mapped", volume)
        import dask.array

        lazy = dask.array.from_array(volume, chunks=(1, 2048, 2048))
        self.predict(f"{volume.nbytes / 2**30:.0f} GB lazy", lazy)
        self.preview()
        self.train()
        self.batch()
        self.viewer.close()

    def image(self, shape: tuple[int, ...]) -> Path:
        """Make an image file whose first planes are not empty."""
        path = self.folder / f"{'x'.join(map(str, shape))}.npy"
        pixels = np.lib.format.open_memmap(path, "w+", np.uint16, shape)
        first = pixels if pixels.ndim == 2 else pixels[:4]
        first[:] = np.random.default_rng(0).integers(0, 4000, first.shape, np.uint16)
        return path

    def open_dock(self) -> None:
        """Open the dock and the sample's model."""
        begin, busy = time.perf_counter(), time.process_time()
        from napari_unet.gui.dock import dock_for

        imported = time.perf_counter()
        self.dock = dock_for(self.viewer)
        built, busy = time.perf_counter(), time.process_time() - busy
        self.session = self.dock.controller.session
        print(
            f"opening the dock: {imported - begin:.2f} s of imports, "
            f"{built - imported:.2f} s of widgets, {busy:.2f} s of a core; torch "
            f"imported: {'torch' in sys.modules}"
        )
        with self.heart.over("opening a checkpoint"):
            self.dock.controller.models.open(str(SAMPLES / "nuclei.safetensors"))
            self.wait_for_job(120)

    def predict(self, name: str, data: object) -> None:
        """Predict everything, or until the time is up."""
        labels = ("y", "x") if data.ndim == 2 else ("t", "y", "x")  # type: ignore[attr-defined]
        with self.heart.over(f"{name}: napari shows it"):
            self.viewer.add_image(
                data, name=name, axis_labels=labels, contrast_limits=(0, 4000)
            )
            self.wait(lambda: False, 1)
        with self.heart.over(f"{name}: chosen in the dock"):
            self.dock.controller.choose_image(name)
            self.wait(lambda: False, 2)
        for again in ("", " again") if data.ndim == 2 else ("",):  # type: ignore[attr-defined]
            with self.heart.over(f"{name}: predicted{again}"):
                settings = self.dock.predict.settings()
                self.dock.controller.predicting.predict(settings)  # asks about nothing
                self.wait_for_job(self.seconds)
                self.stop()
                self.wait(lambda: False, 1)
        self.viewer.layers.remove(name)
        for layer in list(self.viewer.layers):
            self.viewer.layers.remove(layer)

    def preview(self) -> None:
        """Predict the view again and again while it moves."""
        data = np.load(self.image((2048, 2048)))
        self.viewer.add_image(data, name="view", axis_labels=("y", "x"))
        self.dock.controller.choose_image("view")
        self.viewer.reset_view()
        self.viewer.scene.camera.zoom *= 2
        with self.heart.over("live preview, moving"):
            self.dock.controller.previews.set_live(True)
            until = time.perf_counter() + self.seconds
            while time.perf_counter() < until:
                z, y, x = self.viewer.scene.camera.center
                self.viewer.scene.camera.center = z, y + 5, x + 5
                self.wait(lambda: False, 0.4)
            self.dock.controller.previews.set_live(False)
        self.wait_for_job(5)

    def train(self) -> None:
        """Train on the sample until the time is up, painting on."""
        self.viewer.layers.clear()
        self.dock.try_sample()
        self.wait_for_job(60)
        self.dock.train.form.fields["max_seconds"].value = self.seconds
        with self.heart.over("training"):
            self.dock.train.train.click()
            self.wait_for_job(self.seconds / 2)
            self.stop(10)
            self.wait(lambda: False, 1)

    def batch(self) -> None:
        """Do the sample's folder over and over until the time is up."""
        controller = self.dock.controller
        controller.batch.choose([str(SAMPLES / "batch")])
        controller.batch.set_output(str(self.folder / "results"))
        self.wait(lambda: bool(self.session.state.files), 10)
        with self.heart.over("batch"):
            self.dock.batch.run.click()
            self.wait_for_job(self.seconds)
            self.stop(5)
            self.wait(lambda: False, 1)

    def stop(self, allowed: float = 2.0) -> None:
        """Stop what runs and print how long that takes."""
        if self.session.state.activity is None:
            print(f"    ended by itself: {self.session.state.message}")
            return
        begin = time.perf_counter()
        self.dock.footer.stop.click()
        self.wait_for_job(60)
        took = time.perf_counter() - begin
        said = self.session.state.message
        print(f"    Stop took {took:.2f} s of {allowed:g}: {said}")

    def wait_for_job(self, seconds: float) -> None:
        """Let the window live until nothing runs."""
        self.wait(lambda: self.session.state.activity is None, seconds)

    def wait(self, done: Callable[[], bool], seconds: float) -> None:
        """Let the window live until something is so."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop = QEventLoop()
        look = QTimer()
        until = time.perf_counter() + seconds
        look.timeout.connect(
            lambda: loop.quit() if done() or time.perf_counter() > until else None
        )
        look.start(20)
        loop.exec()


if __name__ == "__main__":
    main()
