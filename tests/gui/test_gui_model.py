"""The header: models of last time, what a model is, and what is dropped on the dock."""

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QPlainTextEdit

from napari_unet.events import Finished
from napari_unet.gui.model_panel import ModelPanel
from napari_unet.gui.recent import Recent

pytestmark = pytest.mark.gui


@pytest.fixture
def panel(desk, qtbot):
    panel = ModelPanel(desk.controller, lambda: None)
    qtbot.addWidget(panel)
    desk.controller.session.subscribe(panel.show_view)
    return panel


def chosen(menu, words):
    """Choose what a menu offers by its words."""
    next(a for a in menu.actions() if words in a.text()).trigger()


def test_recent_models_are_those_that_are_there(tmp_path):
    recent = Recent(tmp_path / "folder" / "recent.json")
    assert recent.paths() == []
    paths = [str(tmp_path / f"{number}.pt") for number in range(10)]
    for path in paths:
        open(path, "wb").close()
        recent.add(path)
    recent.add(paths[4])
    assert recent.paths() == [paths[4], *reversed(paths[5:]), *reversed(paths[2:4])]
    (tmp_path / "9.pt").unlink()
    assert paths[9] not in Recent(tmp_path / "folder" / "recent.json").paths()


@pytest.mark.parametrize("damage", ["", "{}", "[1, null]", "["])
def test_a_damaged_list_is_an_empty_one(tmp_path, damage):
    (tmp_path / "recent.json").write_text(damage)
    assert Recent(tmp_path / "recent.json").paths() == []


def test_a_model_is_opened_again_from_the_menu(desk, panel, tmp_path):
    menu = panel.change.menu()
    menu.aboutToShow.emit()
    assert not menu.recent.isEnabled()
    for name in ("a & b.pt", "c.pt"):
        (tmp_path / name).touch()
        desk.open_model(str(tmp_path / name))
    menu.aboutToShow.emit()
    chosen(menu.recent, "a && b.pt")
    assert desk.job.arguments["model"] == str(tmp_path / "a & b.pt")


def test_a_model_that_is_refused_is_not_remembered(desk, tmp_path):
    (tmp_path / "a.pt").touch()
    desk.controller.models.open(str(tmp_path / "a.pt"))
    assert desk.controller.models.recent.paths() == []


def test_the_page_says_what_a_model_is(desk, panel, qtbot, facts):
    desk.controller.models.open("nuclei.pt")
    desk.job.play(Finished(facts))
    chosen(panel.change.menu(), "What is this")
    text = panel.findChild(QPlainTextEdit).toPlainText()
    assert "2D U-Net" in text
    assert "Input and output" in text


@pytest.fixture(scope="module")
def facts():
    """What the core tells of the sample model."""
    from napari_unet import api
    from napari_unet.events import drain
    from napari_unet.execution.protocol import plain
    from napari_unet.samples import sample

    return plain(drain(api.iter_inspect(str(sample("nuclei.safetensors")))))


def test_a_new_network_starts_without_a_model(desk, panel, qtbot):
    desk.open_model()
    with qtbot.waitSignal(panel.new_asked):
        chosen(panel.change.menu(), "Start a new")
    assert desk.state.model is None
    assert panel.chosen.isHidden()


def test_a_dropped_image_is_opened_where_it_belongs(desk, tmp_path):
    path = tmp_path / "cells.tif"
    pixels = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    tifffile.imwrite(
        path,
        pixels,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "ZYX", "spacing": 3, "unit": "um"},
    )
    desk.controller.opening.image(str(path))
    layer = desk.viewer.layers["cells.tif"]
    np.testing.assert_array_equal(layer.data, pixels)
    np.testing.assert_allclose(layer.scale, (3, 0.5, 0.5))
    assert layer.axis_labels == ("z", "y", "x")
    assert desk.view.image == "cells.tif"
    assert desk.state.image.axes == "ZYX"
