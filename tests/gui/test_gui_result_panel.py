"""The controls of a result: each changes what is shown or what runs."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

from napari_unet.config import PredictConfig
from napari_unet.events import Finished
from napari_unet.gui.measure_dock import MeasuredModel
from napari_unet.gui.predict_panel import PredictPanel
from napari_unet.gui.state import Card, Look

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(desk, qtbot):
    panel = PredictPanel(desk.controller)
    qtbot.addWidget(panel)
    desk.controller.session.subscribe(panel.show_view)
    desk.add_image()
    desk.open_model()
    return panel


def test_every_control_changes_the_look_and_the_run(desk, panel, qtbot):
    result = panel.result
    result.threshold.setFocus()
    result.threshold.setValue(0.62)
    assert desk.state.look == Look("labels", 0.62)
    result.choose("instances")
    result.split.click()
    assert desk.state.look == Look("instances", 0.62, split=True)
    qtbot.mouseClick(panel.predict, LEFT)
    config = desk.job.arguments["config"]
    assert (config.kind, config.threshold) == ("instances", 0.62)
    assert result.split.isVisibleTo(panel)
    result.choose("doubt")
    assert desk.state.look.kind == "doubt"
    assert panel.settings()["kind"] == "labels"
    assert not result.split.isVisibleTo(panel)
    assert not result.threshold.isVisibleTo(panel)
    low, high = result.threshold.minimum(), result.threshold.maximum()
    for value in (low, high):
        PredictConfig(threshold=value)


def test_moving_the_slider_changes_the_layer_and_runs_nothing(desk, panel, qtbot):
    qtbot.mouseClick(panel.predict, LEFT)
    kept = np.random.default_rng(0).random((2, 32, 48), np.float32)
    np.save(desk.job.arguments["keep"], kept)
    np.save(desk.job.arguments["output"], (kept[1] >= 0.5).astype("u1"))
    desk.job.play(Finished(""))
    jobs = len(desk.runner.jobs)
    for _ in range(3):
        panel.result.threshold.setValue(panel.result.threshold.value() + 0.1)
    layer = desk.viewer.layers["cells · prediction"]
    np.testing.assert_array_equal(np.asarray(layer.data), kept[1] >= np.float32(0.8))
    assert len(desk.runner.jobs) == jobs
    desk.controller.catch_up()
    assert panel.result.tally.text() == desk.view.tally != ""


def test_objects_are_measured(desk, panel, qtbot):
    qtbot.mouseClick(panel.predict, LEFT)
    np.save(desk.job.arguments["output"], np.ones((32, 48), np.uint8))
    desk.job.play(Finished(""))
    qtbot.mouseClick(panel.measure, LEFT)
    assert desk.job.name == "iter_measure"
    assert desk.job.arguments["labels"].axes == "YX"


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_a_long_run_is_asked_about(desk, panel, qtbot, monkeypatch, answer):
    asked = []

    def question(parent, title, text):
        asked.append(text)
        return getattr(QMessageBox.StandardButton, answer)

    monkeypatch.setattr(QMessageBox, "question", question)
    desk.controller.session.update(plan=Card("long", seconds=7200))
    jobs = len(desk.runner.jobs)
    qtbot.mouseClick(panel.predict, LEFT)
    assert "about 2.0 h" in asked[0]
    assert len(desk.runner.jobs) == jobs + (answer == "Yes")


def test_an_empty_table_is_no_error():
    model = MeasuredModel()
    model.sort(0)
    assert (model.rowCount(), model.columnCount()) == (0, 0)
