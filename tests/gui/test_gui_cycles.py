"""Previews that are asked for and cancelled leave nothing behind."""

import gc
import threading

import numpy as np
import psutil
import pytest
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_unet.events import Cancelled, Finished, Started
from napari_unet.gui.dock import dock_for, offer_checkpoint
from napari_unet.gui.predict_panel import PredictPanel
from napari_unet.samples import sample

pytestmark = pytest.mark.gui


def counts(folder):
    """Widgets, threads, handles of this process, and files of a folder."""
    gc.collect()
    return (
        len(QApplication.allWidgets()),
        threading.active_count(),
        psutil.Process().num_fds(),
        sum(path.is_file() for path in folder.rglob("*")),
    )


def end(job, rng):
    """End a preview in one of the ways in which one may end."""
    job.play(Started(""))
    if job.cancelled or rng.random() < 0.5:
        job.play(Cancelled())
        return
    shape = [part.stop - part.start for part in job.arguments["region"].values()]
    np.save(job.arguments["output"], np.zeros(shape, np.uint8))
    job.play(Finished())


def test_sixty_cycles_leave_nothing(desk, qtbot, tmp_path):
    panel = PredictPanel(desk.controller)
    qtbot.addWidget(panel)
    desk.controller.session.subscribe(panel.show_view)
    desk.add_image((64, 64))
    desk.open_model()
    rng = np.random.default_rng(0)
    seen = []
    for cycle in range(61):
        desk.viewer.scene.camera.center = 0, *rng.uniform(20, 44, 2)
        panel.preview.click()
        if rng.random() < 0.4:
            desk.controller.stop()
        if rng.random() < 0.6:
            for job in desk.runner.jobs:
                if job.turn == "first" and not job.done:
                    job.done = True
                    end(job, rng)
        if cycle in (20, 60):
            for job in desk.runner.jobs:
                if job.turn == "first" and not job.done:
                    job.done = True
                    job.play(Cancelled())
            desk.runner.jobs.clear()
            seen.append(counts(tmp_path))
    assert seen[1] == seen[0]
    assert len(desk.viewer.layers) <= 2
    assert desk.state.aside is None


def test_twenty_cycles_with_a_child_leave_nothing(
    make_napari_viewer, qtbot, monkeypatch, tmp_path
):
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    viewer = make_napari_viewer(show=True)
    dock = dock_for(viewer)
    session = dock.controller.session
    pixels = np.random.default_rng(0).integers(0, 999, (96, 96), np.uint16)
    viewer.add_image(pixels, name="cells")
    offer_checkpoint(viewer, sample("nuclei.safetensors"))
    qtbot.waitUntil(lambda: session.state.plan is not None, timeout=120000)
    rng, seen = np.random.default_rng(0), []
    for cycle in range(21):
        dock.predict.preview.click()
        QTest.qWait(int(rng.integers(0, 60)))
        if cycle in (5, 20):
            qtbot.waitUntil(lambda: session.state.aside is None, timeout=60000)
            QTest.qWait(100)
            seen.append(counts(tmp_path))
        else:
            dock.controller.stop()
    before, after = seen
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 2  # threads that wait for a job that was stopped
    assert after[2] <= before[2]
    assert after[3] <= before[3]
