"""Forms and panels, with Qt but without napari's window."""

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QWheelEvent
from qtpy.QtWidgets import QApplication, QLabel, QToolButton

from napari_unet.config import BatchConfig, FinetuneConfig, PredictConfig
from napari_unet.errors import UsageError
from napari_unet.events import Finished
from napari_unet.gui import open_facts
from napari_unet.gui.batch_panel import BatchPanel
from napari_unet.gui.file_table import FileTable
from napari_unet.gui.footer import Footer
from napari_unet.gui.form import Form
from napari_unet.gui.learning import Round
from napari_unet.gui.model_panel import ImagePanel, ModelPanel
from napari_unet.gui.plot import CurvePlot, placed
from napari_unet.gui.predict_panel import PredictPanel
from napari_unet.gui.state import BatchFile, Card
from napari_unet.gui.train_panel import TrainPanel

pytestmark = pytest.mark.gui


def shown(desk, qtbot, panel):
    qtbot.addWidget(panel)
    desk.controller.session.subscribe(panel.show_view)
    return panel


_OPEN = {
    "assumed": [
        {
            "field": "architecture.align_corners",
            "value": True,
            "alternatives": [False],
            "reason": "up-sampling has no weights",
        },
        {
            "field": "normalization",
            "value": [{"kind": "zscore"}],
            "alternatives": ["minmax", "none"],
            "reason": "scaling is not stored",
        },
        {"field": "architecture.strides", "value": [[2, 2]], "alternatives": []},
    ],
    "told": {"activation": "sigmoid"},
}


def test_a_person_can_say_what_the_file_does_not(desk, qtbot):
    panel = shown(desk, qtbot, ModelPanel(desk.controller, lambda: None))
    desk.open_model("net.pth", **_OPEN)
    fields = panel.facts.fields
    assert {name: field.value for name, field in fields.items()} == {
        "architecture.align_corners": "true",
        "normalization": "zscore",
        "architecture.strides": "[[2, 2]]",
        "activation": "sigmoid",
    }
    assert fields["normalization"].choices == ("zscore", "minmax", "none")
    before = desk.job
    panel.facts.apply.click()
    assert desk.job is before  # nothing was changed
    fields["architecture.align_corners"].value = "false"
    fields["normalization"].value = "minmax"
    fields["architecture.strides"].value = "[[1, 2]]"
    panel.facts.apply.click()
    told = {
        "architecture.align_corners": False,
        "normalization": "minmax",
        "architecture.strides": [[1, 2]],
    }
    assert desk.job.arguments == {"model": "net.pth", "told": told}


@pytest.mark.parametrize("config", [PredictConfig, FinetuneConfig, BatchConfig])
def test_untouched_form_gives_the_defaults(qtbot, config):
    form = Form(config, tuple(config.model_fields))
    qtbot.addWidget(form)
    assert config(**form.values()) == config()


def test_form_takes_titles_and_help_from_the_config(qtbot):
    form = Form(FinetuneConfig, ("max_seconds",))
    qtbot.addWidget(form)
    field = form.fields["max_seconds"]
    assert "after which training stops" in field.tooltip
    assert field.label == field.native.accessibleName() == "Time budget"
    assert field.max == 7 * 24 * 3600


def test_each_kind_of_setting_has_its_kind_of_widget(qtbot):
    names = ("ndim", "augment", "max_seconds", "seed", "learning_rate", "patch")
    form = Form(FinetuneConfig, names)
    qtbot.addWidget(form)
    assert [type(form.fields[name]).__name__ for name in names] == [
        "ComboBox",
        "CheckBox",
        "FloatSpinBox",
        "SpinBox",
        "LineEdit",
        "LineEdit",
    ]
    assert form.fields["ndim"].choices == (None, 2, 3)
    assert form.fields["augment"].native.text() == "Augmentation"
    assert form.fields["patch"].native.placeholderText() == "auto"
    form.fields["ndim"].value = 3
    form.fields["learning_rate"].value = "1e-3"
    assert form.values()["ndim"] == 3
    assert form.values()["learning_rate"] == 0.001


@pytest.mark.parametrize(("end", "allowed"), [("min", 1), ("max", 7 * 24 * 3600)])
def test_limits_of_a_form_are_those_of_the_config(qtbot, end, allowed):
    form = Form(FinetuneConfig, ("max_seconds",))
    qtbot.addWidget(form)
    spin = form.fields["max_seconds"]
    spin.value = getattr(spin, end)
    assert spin.value == FinetuneConfig(**form.values()).max_seconds == allowed


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("auto", None), ("64", (64,)), ("16, 64 x 64", (16, 64, 64))],
)
def test_tile_is_typed_as_numbers(qtbot, text, value):
    form = Form(PredictConfig, ("tile",))
    qtbot.addWidget(form)
    form.fields["tile"].value = text
    assert form.values() == {"tile": value}


def test_text_that_is_no_number_is_told(qtbot):
    form = Form(PredictConfig, ("tile",))
    qtbot.addWidget(form)
    form.fields["tile"].value = "big"
    with pytest.raises(UsageError, match="Tile size cannot be used"):
        form.values()


def test_passing_wheel_changes_nothing(qtbot):
    form = Form(PredictConfig, ("threshold",))
    qtbot.addWidget(form)
    form.show()
    spin = form.fields["threshold"].native
    spin.clearFocus()
    event = QWheelEvent(
        QPointF(2, 2),
        QPointF(2, 2),
        QPoint(0, 120),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(spin, event)
    assert spin.value() == 0.5


def test_model_panel_teaches_and_then_names_the_model(desk, qtbot):
    panel = shown(desk, qtbot, ModelPanel(desk.controller, lambda: None))
    assert not panel.empty.isHidden()
    assert panel.chosen.isHidden()
    desk.open_model("/models/nuclei.pt")
    assert panel.empty.isHidden()
    assert panel.name.text() == "nuclei.pt"
    assert panel.line.text() == "2D · 1 channel → 2 classes"


def test_axes_are_chosen_from_words(desk, qtbot):
    panel = shown(desk, qtbot, ImagePanel(desk.controller))
    desk.add_image((4, 32, 48))
    assert panel.line.property("tone") == "bad"
    index = panel.axes.findText("TYX: Time series")
    panel.axes.setCurrentIndex(index)
    panel.axes.activated.emit(index)
    assert desk.state.image.axes == "TYX"
    assert panel.axes.currentData() == "TYX"


def test_axes_are_typed(desk, qtbot):
    panel = shown(desk, qtbot, ImagePanel(desk.controller))
    desk.add_image((4, 3, 32, 48))
    panel.axes.setEditText("PCYX")
    panel.axes.lineEdit().returnPressed.emit()
    assert desk.state.image.axes == "PCYX"


def test_image_is_picked(desk, qtbot):
    panel = shown(desk, qtbot, ImagePanel(desk.controller))
    desk.add_image()
    desk.viewer.add_image(np.zeros((5, 6)), name="more")
    assert panel.picker.choices == ("cells", "more")
    assert panel.picker.value == desk.view.image == "cells"
    panel.picker.native.setCurrentText("more")
    assert desk.view.image == "more"
    desk.viewer.layers.remove("more")
    assert panel.picker.choices == (panel.picker.value,) == ("cells",)


@pytest.mark.parametrize(("text", "channels"), [("0, 2", (0, 2)), ("", None)])
def test_channels_are_typed(desk, qtbot, text, channels):
    panel = shown(desk, qtbot, ImagePanel(desk.controller))
    desk.add_image((3, 32, 48), ("c", "y", "x"))
    panel.channels.setText(text)
    panel.channels.editingFinished.emit()
    assert desk.state.channels == channels
    panel.channels.setText("red")
    panel.channels.editingFinished.emit()
    assert "channels cannot be used" in desk.view.status


def test_predict_page_runs_with_its_settings(desk, qtbot):
    panel = shown(desk, qtbot, PredictPanel(desk.controller))
    assert panel.predict.text() == "Choose a model first"
    desk.add_image()
    desk.open_model()
    panel.options.fields["tile"].value = "24"
    qtbot.mouseClick(panel.predict, Qt.MouseButton.LeftButton)
    assert desk.job.arguments["config"] == PredictConfig(tile=(24,))
    assert panel.predict.text() == "Working …"


def test_live_is_switched_with_the_mouse_and_follows_the_form(desk, qtbot):
    panel = shown(desk, qtbot, PredictPanel(desk.controller))
    other = shown(desk, qtbot, PredictPanel(desk.controller))
    desk.add_image()
    desk.viewer.scene.camera.center = (0, 16, 24)
    desk.open_model()
    panel.show()
    click = Qt.MouseButton.LeftButton
    qtbot.mouseClick(panel.live, click, pos=QPoint(8, panel.live.height() // 2))
    assert desk.state.live
    assert other.live.isChecked()
    first = desk.job
    assert (first.name, first.turn) == ("iter_shown", "first")
    panel.options.fields["tile"].value = "24"
    desk.controller.previews.catch_up()
    assert desk.job.arguments["config"] == PredictConfig(tile=(24,))
    panel.options.fields["tile"].value = "big"
    assert desk.state.settings is None
    desk.controller.catch_up()
    qtbot.mouseClick(panel.live, click, pos=QPoint(8, panel.live.height() // 2))
    assert not desk.state.live
    assert not other.live.isChecked()
    assert desk.job.cancelled


def test_preview_button_works_while_a_prediction_runs(desk, qtbot):
    panel = shown(desk, qtbot, PredictPanel(desk.controller))
    desk.add_image()
    desk.viewer.scene.camera.center = (0, 16, 24)
    desk.open_model()
    qtbot.mouseClick(panel.predict, Qt.MouseButton.LeftButton)
    assert not panel.predict.isEnabled()
    panel.result.choose("probabilities")
    qtbot.mouseClick(panel.preview, Qt.MouseButton.LeftButton)
    assert desk.job.turn == "first"
    assert desk.job.arguments["config"].kind == "probabilities"


def test_plan_is_a_line_that_opens_with_the_mouse(desk, qtbot):
    panel = shown(desk, qtbot, PredictPanel(desk.controller))
    panel.show()
    assert not panel.summary.isVisible()
    assert not panel.card.isVisible()
    plan = Card("streamed · 1.2 GB of memory", (("way", "rows <1>"), ("pieces", "2")))
    desk.controller.session.update(plan=plan)
    assert panel.summary.text().replace("\u00a0", " ") == plan.summary
    (lines,) = panel.card.findChildren(QLabel)
    assert not lines.isVisible()
    qtbot.mouseClick(panel.card.findChild(QToolButton), Qt.MouseButton.LeftButton)
    assert lines.isVisible()
    assert lines.text() == "<b>Way</b> rows &lt;1&gt;<br><b>Pieces</b> 2"
    desk.controller.session.update(plan=Card("There is no plan to show."))
    assert panel.summary.text() == "There is no plan to show."
    assert not panel.card.isVisible()


@pytest.mark.parametrize(
    ("task", "activation", "kind", "threshold"),
    [
        ("semantic", "softmax", "labels", True),
        ("semantic", "sigmoid", "labels", True),
        ("instances", "softmax", "instances", True),
        ("restoration", "none", "logits", False),
    ],
)
def test_result_fits_the_model(desk, qtbot, task, activation, kind, threshold):
    panel = shown(desk, qtbot, PredictPanel(desk.controller))
    desk.open_model(task=task, activation=activation)
    assert panel.settings()["kind"] == kind
    assert panel.result.threshold.isHidden() is not threshold


def test_train_page_paints_trains_and_shows_the_round(desk, qtbot):
    panel = shown(desk, qtbot, TrainPanel(desk.controller))
    desk.add_image()
    qtbot.mouseClick(panel.strokes.new_strokes, Qt.MouseButton.LeftButton)
    layer = desk.viewer.layers["cells · strokes"]
    qtbot.mouseClick(panel.strokes.legend.rows[1], Qt.MouseButton.LeftButton)
    assert layer.selected_label == 2
    assert panel.train.text() == "Paint at least 2 classes"
    layer.data[:3] = [[1], [2], [2]]
    desk.controller.painting.recount()
    assert panel.strokes.legend.rows[1].text().endswith("object  ·  96 px")
    panel.form.fields["max_seconds"].value = 7
    qtbot.mouseClick(panel.train, Qt.MouseButton.LeftButton)
    arguments = desk.job.arguments
    assert arguments["config"] == FinetuneConfig(max_seconds=7)
    scores = {"score_before": None, "score_after": 0.8, "stopped": False}
    desk.job.play(Finished({"path": arguments["output"], **scores}))
    desk.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    assert panel.score.text() == "Dice 0.80 on held-out strokes"
    assert panel.rounds.undo.isEnabled()
    assert panel.rounds_fold._header.text() == "Rounds (1)"


def test_train_page_offers_a_new_network(desk, qtbot):
    panel = shown(desk, qtbot, TrainPanel(desk.controller))
    assert [panel.start.itemText(i) for i in range(panel.start.count())] == [
        "A new U-Net"
    ]
    desk.open_model()
    assert panel.start.currentText() == "model.safetensors"
    panel.start.textActivated.emit("A new U-Net")
    assert desk.view.from_scratch
    assert panel.start.currentText() == "A new U-Net"


def test_batch_page_lists_files_and_uses_the_predict_settings(desk, qtbot, tmp_path):
    predict = shown(desk, qtbot, PredictPanel(desk.controller))
    panel = shown(desk, qtbot, BatchPanel(desk.controller, predict))
    (tmp_path / "a.tif").write_bytes(b"x")
    desk.open_model()
    assert panel.run.text() == "Choose images first"
    desk.controller.batch.choose([str(tmp_path)])
    assert panel.run.text() == "Run 1 file"
    assert panel.table.text(0, 0) == "a.tif"
    predict.options.fields["tile"].value = "24"
    qtbot.mouseClick(panel.run, Qt.MouseButton.LeftButton)
    assert desk.job.arguments["config"] == BatchConfig(tile=(24,))


def test_table_tells_which_rows_changed(qtbot):
    table = FileTable(print)
    qtbot.addWidget(table)
    files = [BatchFile(f"/in/{number}.tif") for number in range(5)]
    table.set_files(tuple(files))
    assert table.model().rowCount() == 5
    rows = []
    table.model().dataChanged.connect(lambda a, b, _: rows.append((a.row(), b.row())))
    files[2] = BatchFile("/in/2.tif", "working", "38%")
    files[3] = BatchFile("/in/3.tif", "failed", "it is text.")
    table.set_files(tuple(files))
    assert rows == [(2, 3)]
    assert [table.text(row, 1) for row in (1, 2, 3)] == [
        "waiting",
        "▸ working 38%",
        "✗ failed",
    ]
    tip = table.model().index(3, 1).data(Qt.ItemDataRole.ToolTipRole)
    assert tip == "it is text."


def test_worse_round_offers_one_button(desk, qtbot):
    panel = shown(desk, qtbot, TrainPanel(desk.controller))
    desk.add_image()
    desk.open_model("nuclei.pt")
    assert panel.use_anyway.isHidden()
    worse = Round("/r/nuclei-round-1.safetensors", 0.9, 0.8)
    desk.controller.session.update(declined=worse)
    assert "still using nuclei.pt" in panel.score.text()
    qtbot.mouseClick(panel.use_anyway, Qt.MouseButton.LeftButton)
    assert desk.job.arguments == {"model": worse.path}


def test_footer_shows_stop_only_while_something_runs(desk, qtbot):
    footer = shown(desk, qtbot, Footer(desk.controller))
    footer.show()
    assert not footer.stop.isVisible()
    desk.controller.models.open("a.pt")
    assert footer.stop.isVisible()
    assert footer.status.text() == "Opening a.pt"
    qtbot.mouseClick(footer.stop, Qt.MouseButton.LeftButton)
    assert desk.job.cancelled


def test_curves_fill_the_plot():
    points = placed([(0, 5.0), (5, 1.0), (10, 3.0)], QRectF(0, 0, 112, 62))
    assert [(p.x(), p.y()) for p in points] == [(6, 6), (56, 56), (106, 31)]


def test_plot_is_hidden_until_there_are_curves(qtbot):
    plot = CurvePlot()
    qtbot.addWidget(plot)
    plot.set_curves({})
    assert plot.isHidden()
    plot.set_curves({"val_dice": ((0, 0.5),), "train_loss": ((0, 1.0), (1, 0.2))})
    plot.resize(200, 120)
    picture = plot.grab().toImage()
    for colour in ("#56b4e9", "#e69f00"):
        assert any(
            near(picture.pixelColor(x, y), QColor(colour))
            for x in range(0, 200)
            for y in range(80)
        )


def near(a, b):
    """Whether two colours are equal but for the depth of the screen."""
    return all(abs(x - y) <= 16 for x, y in zip(a.getRgb(), b.getRgb(), strict=True))


@pytest.mark.parametrize(
    ("typed", "written"), [("/o/net", "/o/net.onnx"), ("/o/a.pt2", "/o/a.pt2")]
)
def test_export_takes_its_form_from_the_filter(
    desk, qtbot, monkeypatch, typed, written
):
    panel = shown(desk, qtbot, ModelPanel(desk.controller, lambda: None))
    desk.open_model("nuclei.pt")
    monkeypatch.setattr(
        "napari_unet.gui.model_panel.QFileDialog.getSaveFileName",
        lambda *_: (typed, "ONNX (*.onnx)"),
    )
    export = next(a for a in panel.change.menu().actions() if "export" in a.text())
    export.trigger()
    assert desk.job.arguments["output"] == written


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"kind": "linear", "gain": 0.00392, "offset": 0.0}]', "x 0.00392 + 0"),
        ('[{"kind": "percentile", "low": 1.0, "high": 99.0}]', "percentile 1-99"),
        ('[{"kind": "zscore"}, {"kind": "minmax"}]', "apart for each channel"),
        ("zscore", "zscore"),
        ("[[1, 2, 2], [2, 2, 2]]", "[[1, 2, 2], [2, 2, 2]]"),
    ],
)
def test_scalings_are_shown_in_words(text, words):
    assert open_facts.shown(text) == words
