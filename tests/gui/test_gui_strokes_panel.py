"""The strokes half of the Train page: its controls, and real strokes of the mouse."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QColorDialog, QFileDialog, QInputDialog
from test_gui_window import _canvas, drag, press

from napari_unet.gui.dock import dock_for
from napari_unet.gui.strokes_panel import StrokesPanel
from napari_unet.projects.project import Project

pytestmark = pytest.mark.gui
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def panel(desk, qtbot):
    panel = StrokesPanel(desk.controller)
    qtbot.addWidget(panel)
    desk.controller.session.subscribe(panel.show_view)
    desk.add_image()
    qtbot.mouseClick(panel.new_strokes, LEFT)
    return panel


def entry(panel, place, text):
    """Choose what begins with a text from the menu of a class."""
    menu = panel.legend.menu_of(place)
    (action,) = [a for a in menu.actions() if a.text().startswith(text)]
    action.trigger()


def test_classes_are_changed_by_their_menu(panel, desk, qtbot, monkeypatch):
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (" nucleus ", True))
    entry(panel, 1, "Rename")
    assert "2  nucleus" in panel.legend.rows[1].text()
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#123456"))
    entry(panel, 1, "Colour")
    layer = desk.viewer.layers["cells · strokes"]
    np.testing.assert_allclose(layer.get_color(2)[:3], np.array([18, 52, 86]) / 255)
    entry(panel, 1, "Hide")
    assert "(hidden)" in panel.legend.rows[1].text()
    entry(panel, 1, "Show")
    qtbot.mouseClick(panel.add_class, LEFT)
    assert len(panel.legend.rows) == 3
    entry(panel, 2, "Remove")
    assert len(panel.legend.rows) == 2
    names = [a.text() for a in panel.legend.menu_of(0).actions()]
    assert not any(name.startswith("Remove") for name in names)


def test_numbers_are_said_to_be_objects(panel, desk):
    panel.kind.textActivated.emit("objects")
    assert panel.legend.isHidden()
    assert panel.objects.text() == "0 objects · 0 px"
    panel.kind.textActivated.emit("classes")
    assert not panel.legend.isHidden()


def test_the_project_is_saved_opened_and_its_images_listed(
    panel, desk, qtbot, monkeypatch, tmp_path
):
    desk.viewer.layers["cells · strokes"].paint((9, 9), 2)
    target = str(tmp_path / "mine")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (target, ""))
    qtbot.mouseClick(panel.save_as, LEFT)
    assert panel.images.title == "Project: mine"
    assert panel.project.text() == target
    panel.pictures.list.setCurrentRow(0)
    qtbot.mouseClick(panel.pictures.remove, LEFT)
    assert panel.pictures.list.count() == 0
    assert "cells · strokes" not in desk.viewer.layers
    qtbot.mouseClick(panel.new_strokes, LEFT)
    desk.controller.projects.project.close()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: target)
    qtbot.mouseClick(panel.open, LEFT)
    assert desk.view.status == "Opened the project mine."
    assert panel.layers.currentText() == "cells · strokes"


def test_the_mouse_paints_into_the_file_and_a_key_accepts(
    make_napari_viewer, qtbot, monkeypatch, tmp_path
):
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path)
    viewer = make_napari_viewer(show=True)
    viewer.add_image(np.zeros((96, 96), np.float32), name="cells")
    dock = dock_for(viewer)
    dock.tabs.setCurrentIndex(1)
    QTest.qWait(200)
    viewer.reset_view()
    panel = dock.train.strokes
    qtbot.mouseClick(panel.new_strokes, LEFT)
    qtbot.mouseClick(panel.legend.rows[1], LEFT)
    canvas = _canvas()
    drag(viewer, canvas, (48, 10), (48, 80))
    layer = viewer.layers["cells · strokes"]
    (folder,) = (tmp_path / "recovery").iterdir()
    other = Project.open(folder, writable=False)
    stored = other.strokes(other.contents.pictures[0].id)
    np.testing.assert_array_equal(stored, layer.data)
    painted = int((stored == 2).sum())
    assert painted > 100
    qtbot.waitUntil(lambda: f"{painted} px" in panel.legend.rows[1].text())

    result = np.zeros((96, 96), np.uint8)
    result[60:70, 20:30] = 1
    found = viewer.add_labels(result, name="cells · prediction")
    found.metadata.update({"unet": "prediction", "unet-kind": "labels"})
    dock.controller.refresh()
    viewer.layers.selection.active = layer
    viewer.cursor.position = (65, 25)
    press("C")
    np.testing.assert_array_equal(stored[60:70, 20:30], 2)
    layer.undo()
    qtbot.waitUntil(lambda: f"{painted} px" in panel.legend.rows[1].text())
    dock.controller.projects.project.close()
