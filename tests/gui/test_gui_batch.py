"""The Batch page: pausing, retrying, opening, and the same as a command line."""

import shlex

import dask.array
import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_unet.cli.options import read_settings
from napari_unet.cli.parser import parser
from napari_unet.config import BatchConfig
from napari_unet.events import Cancelled, Finished, Progress
from napari_unet.gui.batch_panel import BatchPanel
from napari_unet.gui.command import batch_command
from napari_unet.gui.predict_panel import PredictPanel

pytestmark = pytest.mark.gui


@pytest.fixture
def page(desk, qtbot, tmp_path):
    """The page with three images chosen and a model."""
    predict = PredictPanel(desk.controller)
    page = BatchPanel(desk.controller, predict)
    for widget in (predict, page):
        qtbot.addWidget(widget)
        desk.controller.session.subscribe(widget.show_view)
    for number, name in enumerate(("a.tif", "b.tif", "c.tif")):
        tifffile.imwrite(tmp_path / name, np.full((20, 30), number, np.uint16))
    desk.open_model("/models/net.pt")
    desk.controller.batch.choose([str(tmp_path)])
    return page


def summary(tmp_path, *statuses):
    """What a batch returns."""
    items = [
        {
            "input": str(tmp_path / name),
            "output": "",
            "probabilities": "",
            "status": status,
            "reason": "bad",
        }
        for name, status in zip(("a.tif", "b.tif", "c.tif"), statuses, strict=True)
    ]
    return Finished({"items": items})


def test_a_paused_batch_goes_on_with_what_is_left(desk, page):
    assert not page.pause.isEnabled()
    page.run.click()
    desk.job.play(Progress(1.5, 3, "b.tif"))
    page.pause.click()
    assert desk.job.cancelled
    assert page.pause.text() == "Pausing …"
    first = desk.job
    first.play(Cancelled("1 of 3 images are dealt with; run it again to go on."))
    assert page.run.text() == "Go on with 2 files"
    page.run.click()
    assert desk.job is not first
    assert desk.job.arguments == first.arguments
    desk.controller.batch.set_pattern("*.tif")
    assert not desk.state.paused


def test_failed_files_are_retried(desk, page, tmp_path):
    assert page.retry.toolTip() == "No file has failed."
    page.run.click()
    desk.job.play(summary(tmp_path, "done", "failed", "failed"))
    assert [page.table.text(row, 1) for row in range(3)] == [
        "✓ done",
        "✗ failed",
        "✗ failed",
    ]
    assert page.retry.text() == "Retry 2 failed"
    page.retry.click()
    assert desk.job.arguments["config"] == BatchConfig(retry_failed=True)


def test_folders_and_files_are_chosen(desk, page, qtbot, tmp_path, monkeypatch):
    files = [str(tmp_path / "c.tif"), str(tmp_path / "a.tif")]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (files, ""))
    page.files.click()
    assert [file.path for file in desk.state.files] == files
    other = tmp_path / "other"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(other))
    page.change.click()
    page.run.click()
    assert desk.job.arguments["inputs"] == files
    assert desk.job.arguments["output"] == str(other)
    desk.job.play(Cancelled())
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    page.folder.click()
    page.run.click()
    assert desk.job.arguments["inputs"] == [str(tmp_path)]
    desk.job.play(Cancelled())
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([], ""))
    for button in (page.folder, page.files, page.change):  # thought better of
        button.click()
    assert len(desk.state.files) == 3
    assert desk.state.output == str(other)


def test_only_what_has_objects_is_measured(page):
    measure, kind = page.form.fields["measure"], page.form.fields["kind"]
    measure.value = True
    kind.value = "probabilities"
    assert (measure.enabled, measure.value) == (False, False)
    kind.value = "instances"
    assert measure.enabled


def test_probabilities_are_offered_beside_other_results(desk, page):
    beside, kind = page.form.fields["probabilities"], page.form.fields["kind"]
    beside.value = True
    page.run.click()
    assert desk.job.arguments["config"] == BatchConfig(probabilities=True)
    kind.value = "probabilities"
    assert (beside.enabled, beside.value) == (False, False)
    kind.value = "logits"
    assert beside.enabled


def test_a_row_opens_its_image_and_result(desk, page, tmp_path):
    out = tmp_path / "out.tif"
    tifffile.imwrite(out, np.eye(20, 30, dtype=np.uint8))
    page.run.click()
    done = summary(tmp_path, "done", "failed", "done")
    done.result["items"][0]["output"] = str(out)
    desk.job.play(done)
    for row in (0, 0, 1):
        page.table.activated.emit(page.table.model().index(row, 0))
    assert [layer.name for layer in desk.viewer.layers] == ["a.tif", "out.tif", "b.tif"]
    assert desk.viewer.layers["out.tif"].data.sum() == 20
    assert desk.state.images == ("b.tif", "a.tif")
    assert desk.state.stroke_layers == ()


def test_a_row_opens_probabilities_hidden_below_its_result(desk, page, tmp_path):
    paths = {name: tmp_path / f"out {name}.tif" for name in ("labels", "beside")}
    tifffile.imwrite(paths["labels"], np.eye(20, 30, dtype=np.uint8))
    shares = np.full((2, 20, 30), 0.5, np.float32)
    tifffile.imwrite(paths["beside"], shares, metadata={"axes": "CYX"}, imagej=True)
    page.run.click()
    done = summary(tmp_path, "skipped", "failed", "done")
    done.result["items"][0]["output"] = str(paths["labels"])
    done.result["items"][0]["probabilities"] = str(paths["beside"])
    desk.job.play(done)
    page.table.activated.emit(page.table.model().index(0, 0))
    layers = desk.viewer.layers
    names = ["a.tif", "out beside.tif", "out labels.tif"]
    assert [layer.name for layer in layers] == names
    assert [layer.visible for layer in layers] == [True, False, True]
    np.testing.assert_array_equal(layers["out beside.tif"].data, shares)


def test_images_too_large_for_memory_are_opened_plane_by_plane(
    desk, page, tmp_path, monkeypatch
):
    monkeypatch.setattr("napari_unet.gui.opening._IN_MEMORY", 100)
    page.table.activated.emit(page.table.model().index(1, 0))
    pixels = desk.viewer.layers["b.tif"].data
    assert isinstance(pixels, dask.array.Array)
    np.testing.assert_array_equal(pixels.compute(), np.full((20, 30), 1, np.uint16))


def test_a_file_that_is_gone_is_told(desk, page, tmp_path):
    (tmp_path / "a.tif").unlink()
    page.table.activated.emit(page.table.model().index(0, 0))
    assert desk.state.tone == "bad"


def test_files_are_estimated_from_the_first(desk, page, qtbot, tmp_path):
    qtbot.waitUntil(lambda: desk.job.name == "iter_forecast")
    assert desk.job.arguments["image"] == str(tmp_path / "a.tif")
    desk.job.play(Finished({"seconds": 20.0, "output_bytes": 1e9}))
    assert page.estimate.text() == "About 60 s · up to 3.0 GB of results"
    page.form.fields["probabilities"].value = True
    qtbot.waitUntil(lambda: desk.job.arguments["config"].probabilities)
    facts = {"seconds": 20.0, "output_bytes": 1e9, "output_shape": (25, 1000, 1000)}
    desk.job.play(Finished(facts))  # two classes of 4 bytes each
    assert page.estimate.text() == "About 60 s · up to 3.6 GB of results"
    page.run.click()
    assert page.estimate.isHidden()


def parsed(line):
    """Read a command line as the program does."""
    words = shlex.split(line)
    assert words[0] == "napari-unet"
    return parser().parse_args(words[1:])


def test_the_copied_command_does_the_same(desk, page, tmp_path):
    page._predict.options.fields["tile"].value = "24, 32"
    page._predict.options.fields["tta"].value = "flips"
    page.form.fields["measure"].value = True
    page.form.fields["probabilities"].value = True
    page.form.fields["suffix"].value = ".ome.zarr"
    page.options.fields["memory_limit"].value = "2.5"
    page.pattern.setText("*.tif")
    page.pattern.editingFinished.emit()
    page.command.click()
    args = parsed(QApplication.clipboard().text())
    page.run.click()
    run = desk.job.arguments
    assert read_settings(BatchConfig, args) == run["config"]
    assert run["config"].measure
    assert run["config"].probabilities
    assert (args.inputs, args.model) == (run["inputs"], run["model"])
    assert args.output == run["output"]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"axes": "ZYX", "channels": (2, 0)},
        {"kind": "probabilities", "retry_failed": True},
        {"threshold": 0.25, "gpus": 2, "batch_size": 3},
        {"table": "my table's.csv", "by_content": True, "time_limit": 0.5},
    ],
)
def test_any_settings_survive_the_command_line(changed):
    config = BatchConfig(**changed)
    names = ["-odd name.tif", "/data/it's $HOME/*"]
    args = parsed(batch_command(names, "/m/a b.pt", "/out", config))
    assert read_settings(BatchConfig, args) == config
    assert args.inputs == ["./-odd name.tif", names[1]]
