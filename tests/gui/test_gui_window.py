"""The whole plugin in napari's window, with real mouse strokes and a real child."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMainWindow
from scipy import ndimage

from napari_unet.gui.dock import UNetDock, dock_for, offer_checkpoint
from napari_unet.gui.state import Activity, Card, Model
from napari_unet.samples import sample

pytestmark = pytest.mark.gui
MODEL = Model(
    "nuclei.pt", {"ndim": 2, "in_channels": 1, "out_channels": 2, "task": "semantic"}
)


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data")
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    return viewer


def children():
    return psutil.Process().children(recursive=True)


def wait(qtbot, dock):
    qtbot.waitUntil(
        lambda: dock.controller.session.state.activity is None, timeout=120000
    )
    return dock.controller.session.state


def has_learned(dock, steps=300):
    """Whether a number of steps is done, or the training has ended."""
    state = dock.controller.session.state
    losses = state.curves.get("train_loss", ())
    return (losses and losses[-1][0] >= steps) or state.activity is None


def blobs():
    """Bright discs on a dark noisy ground."""
    rng = np.random.default_rng(0)
    seeds = np.zeros((96, 96), bool)
    seeds[20:96:28, 20:96:28] = True
    disc = ndimage.distance_transform_edt(~seeds) < 9
    return (disc * 800 + rng.normal(200, 40, disc.shape)).clip(0).astype("u2"), disc


def drag(viewer, canvas, start, stop):
    """Draw a stroke with the mouse between two voxels (Y, X)."""
    points = [_on_canvas(viewer, p) for p in np.linspace(start, stop, 12)]
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    _send(canvas, QEvent.Type.MouseMove, points[0], none, none)
    _send(canvas, QEvent.Type.MouseButtonPress, points[0], left, left)
    for point in points:
        _send(canvas, QEvent.Type.MouseMove, point, none, left)
        QTest.qWait(15)  # vispy drops moves that follow within 10 ms
    _send(canvas, QEvent.Type.MouseButtonRelease, points[-1], left, none)


def _send(canvas, kind, point, button, buttons):
    """Send one mouse event; QTest's moves forget the pressed button."""
    where = QPointF(point), QPointF(canvas.mapToGlobal(point))
    modifiers = Qt.KeyboardModifier.NoModifier
    QApplication.sendEvent(
        canvas, QMouseEvent(kind, *where, button, buttons, modifiers)
    )


def _on_canvas(viewer, voxel):
    size = np.array(viewer.canvas.size)
    camera = viewer.scene.camera
    y, x = size / 2 + (voxel - np.array(camera.center[-2:])) * camera.zoom
    assert 0 < y < size[0]
    assert 0 < x < size[1]
    return QPoint(round(x), round(y))


def close_to(picture, colour, tolerance=40):
    """Number of pixels with nearly this colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int(
        (np.abs(picture[..., :3].astype(int) - wanted).max(-1) < tolerance).sum()
    )


def test_paint_train_predict_with_the_mouse(viewer, qtbot, tmp_path):
    loaded = set(sys.modules) & {"torch"}  # by other tests of the same run, if at all
    image, disc = blobs()
    viewer.add_image(image, name="cells")
    dock = dock_for(viewer)
    dock.tabs.setCurrentIndex(1)
    QTest.qWait(200)
    viewer.reset_view()
    canvas = _canvas()

    qtbot.mouseClick(dock.train.strokes.new_strokes, Qt.MouseButton.LeftButton)
    for row in (6, 34, 62, 90):
        drag(viewer, canvas, (row, 6), (row, 90))
    qtbot.mouseClick(dock.train.strokes.legend.rows[1], Qt.MouseButton.LeftButton)
    for row in (20, 48, 76):
        for column in (20, 48, 76):
            drag(viewer, canvas, (row, column - 5), (row, column + 5))
    strokes = viewer.layers["cells · strokes"].data
    painted = strokes.copy()
    assert set(np.unique(strokes)) == {0, 1, 2}
    assert disc[strokes == 2].mean() > 0.95
    assert min((strokes == 1).sum(), (strokes == 2).sum()) > 100
    qtbot.waitUntil(lambda: dock.train.train.isEnabled(), timeout=5000)

    dock.train.form.fields["max_seconds"].value = 200
    dock.train.outlook.form.fields["depth"].value = "2"
    dock.train.outlook.form.fields["width"].value = "8"
    qtbot.mouseClick(dock.train.train, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: has_learned(dock), timeout=200_000)
    qtbot.mouseClick(dock.footer.stop, Qt.MouseButton.LeftButton)
    state = wait(qtbot, dock)
    assert state.tone == "good", state.message
    assert Path(state.model.path).is_relative_to(tmp_path)

    dock.tabs.setCurrentIndex(0)
    qtbot.mouseClick(dock.predict.predict, Qt.MouseButton.LeftButton)
    state = wait(qtbot, dock)
    assert state.tone == "good", state.message
    result = viewer.layers["cells · prediction"].data > 0
    assert result[disc].mean() > 0.5 > 0.2 > result[~disc].mean()
    np.testing.assert_array_equal(strokes, painted)
    assert set(sys.modules) & {"torch"} == loaded

    dock.tabs.setCurrentIndex(1)
    QTest.qWait(300)
    folder = Path(os.environ.get("UNET_SCREENSHOTS", tmp_path))
    picture = viewer.screenshot(
        str(folder / "dock.png"), canvas_only=False, flash=False
    )
    bare = viewer.screenshot(canvas_only=True, flash=False)
    assert close_to(bare, "#0072b2") > 200
    assert close_to(bare, "#e69f00") > 200
    viewer.layers["cells · prediction"].visible = False
    without = viewer.screenshot(canvas_only=True, flash=False)
    changed = np.abs(bare.astype(int) - without).max(-1) > 20
    assert changed.mean() > 0.01
    assert picture.shape[1] > bare.shape[1]


def click_live(dock, qtbot):
    point = QPoint(8, dock.predict.live.height() // 2)
    qtbot.mouseClick(dock.predict.live, Qt.MouseButton.LeftButton, pos=point)


def test_previews_while_everything_is_predicted(viewer, qtbot, tmp_path):
    """A real child: the same pixels, the same values, one preview layer."""
    image = np.stack([np.roll(blobs()[0], t, 0) for t in range(400)])
    viewer.add_image(image, name="cells", axis_labels=("t", "y", "x"))
    dock = dock_for(viewer)
    session = dock.controller.session
    offer_checkpoint(viewer, sample("nuclei.safetensors"))
    wait(qtbot, dock)
    dock.predict.result.choose("probabilities")
    dock.predict.options.fields["tiling"].value = "exact"
    dock.predict.options.fields["tile"].value = "64"
    qtbot.waitUntil(lambda: session.state.plan is not None, timeout=30000)
    assert "exact tiles" in session.state.plan.summary, session.state.plan
    viewer.dims.set_point(0, 7)
    viewer.reset_view()
    qtbot.mouseClick(dock.predict.predict, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "tiles" in session.state.activity.note, timeout=60000)
    qtbot.mouseClick(dock.predict.preview, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "cells · preview" in viewer.layers, timeout=30000)
    assert session.state.activity.kind == "predict"
    clicked = preview_of(viewer)
    click_live(dock, qtbot)
    viewer.dims.set_point(0, 190)
    qtbot.waitUntil(lambda: preview_of(viewer)[0] == 190, timeout=30000)
    live = preview_of(viewer)
    assert session.state.activity.kind == "predict"
    assert len([n for n in viewer.layers if "preview" in n.name]) == 3
    click_live(dock, qtbot)
    state = wait(qtbot, dock)
    assert state.tone == "good", state.message
    names = [layer.name for layer in viewer.layers if "prediction" in layer.name]
    whole = np.asarray(viewer.layers[names[0]].data)
    for time, pixels in (clicked, live):
        np.testing.assert_allclose(pixels, whole[time], rtol=0, atol=1e-5)
    assert np.ptp(whole) > 0.5


def preview_of(viewer):
    """Time point and pixels of the preview."""
    layer = viewer.layers["cells · preview"]
    assert layer.data.shape == (1, 96, 96)
    return int(layer.translate[0]), layer.data[0].copy()


def _canvas():
    """The widget that gets the mouse, found without napari's private names."""
    from vispy.app.backends._qt import QtBaseCanvasBackend

    window = [w for w in _top_widgets() if w.isVisible()][-1]
    return next(
        w for w in window.findChildren(object) if isinstance(w, QtBaseCanvasBackend)
    )


def _top_widgets():
    return [w for w in QApplication.topLevelWidgets() if isinstance(w, QMainWindow)]


def test_second_dock_shows_the_same_state(viewer, qtbot):
    first = dock_for(viewer)
    second = UNetDock(viewer)
    viewer.window.add_dock_widget(second, name="again")
    assert second.controller is first.controller
    viewer.add_image(np.zeros((8, 9)), name="cells")
    assert first.image.picker.value == second.image.picker.value == "cells"
    assert dock_for(viewer) is first


def test_closing_the_last_dock_ends_the_child(viewer, qtbot, tmp_path):
    before = set(children())
    (tmp_path / "no.pt").write_bytes(b"text")
    offer_checkpoint(viewer, tmp_path / "no.pt")
    dock = dock_for(viewer)
    assert wait(qtbot, dock).tone == "bad"
    assert len(set(children()) - before) == 1
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not set(children()) - before, timeout=10000)
    again = dock_for(viewer)
    assert again.controller is dock.controller


@pytest.mark.parametrize("paints", [False, True])
def test_keys_press_the_buttons_and_go_with_the_dock(
    viewer, qtbot, monkeypatch, paints
):
    layer = viewer.add_image(np.zeros((8, 9)), name="cells")
    free = set(viewer.keymap)
    dock = dock_for(viewer)
    qtbot.waitUntil(dock.isVisible)
    dock.controller.session.update(model=MODEL)
    if paints:
        dock.controller.painting.new()
        viewer.layers["cells · strokes"].data[:, :2] = [1, 2]
        dock.controller.painting.recount()
    else:
        viewer.layers.selection.active = layer
    done, page = [], dock.controller
    monkeypatch.setattr(page.previews, "ask", lambda _: done.append("R"))
    monkeypatch.setattr(page.predicting, "predict", lambda _: done.append("G"))
    monkeypatch.setattr(page.training, "train", lambda _: done.append("T"))
    press("RGT")
    assert done == list("RGT" if paints else "RG")
    if not paints:
        assert page.session.state.message == "Make a stroke layer first."
    page.session.update(activity=Activity("train", "Fine-tuning"))
    press("RGT")
    assert page.session.state.activity.stopping
    assert len(done) == 2 + paints
    page.session.update(activity=None)
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: set(viewer.keymap) == free, timeout=5000)


def press(letters):
    for letter in letters:
        key = getattr(Qt.Key, f"Key_{letter}")
        QTest.keyClick(_canvas(), key, Qt.KeyboardModifier.ShiftModifier)


def test_keys_of_the_rounds_and_one_that_is_held(viewer, qtbot, monkeypatch):
    viewer.add_image(np.zeros((8, 9)), name="cells")
    dock = dock_for(viewer)
    qtbot.waitUntil(dock.isVisible)
    done, page = [], dock.controller
    monkeypatch.setattr(page.compare, "press", lambda: done.append("down"))
    monkeypatch.setattr(page.compare, "release", lambda: done.append("up"))
    monkeypatch.setattr(page.doubting, "_look", lambda: done.append("next"))
    shift = Qt.KeyboardModifier.ShiftModifier
    QTest.keyPress(_canvas(), Qt.Key.Key_D, shift)
    assert done == ["down"]
    QTest.keyRelease(_canvas(), Qt.Key.Key_D, shift)
    press("N")
    assert done == ["down", "up"]
    assert page.session.state.message == "Choose a model first."
    page.session.update(model=MODEL, base=MODEL)
    press("NK")
    assert done == ["down", "up", "next"]
    assert "no round to keep" in page.session.state.message


def test_keys_go_on_with_the_dock_that_is_left(viewer, qtbot):
    first = dock_for(viewer)
    second = UNetDock(viewer)
    viewer.window.add_dock_widget(second, name="again", tabify=False)
    qtbot.waitUntil(second.isVisible)
    viewer.window.remove_dock_widget(second)
    second.deleteLater()
    QTest.qWait(50)
    press("G")
    assert first.controller.session.state.message == "Choose a model first."


def test_keys_of_others_are_left_alone(viewer, qtbot):
    viewer.bind_key("Shift-G", theirs := lambda _: None)
    dock = dock_for(viewer)
    qtbot.waitUntil(dock.isVisible)
    press("G")
    assert dock.controller.session.state.message == ""
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: len(viewer.keymap) == 1)
    assert viewer.bind_key("Shift-G", None) is theirs


def test_dock_follows_the_theme(viewer, qtbot):
    dock = dock_for(viewer)
    sheets = set()
    for theme in ("dark", "light"):
        viewer.theme = theme
        sheets.add(dock.styleSheet())
    assert len(sheets) == 2


@pytest.mark.parametrize("page", ["Predict", "Train", "Batch"])
def test_nothing_is_cut_off_at_320_pixels(viewer, qtbot, page):
    viewer.add_image(np.zeros((3, 8, 9)), name="a rather long name of an image layer")
    dock = dock_for(viewer)
    plan = Card("streamed · 1,064 pieces · about 3 min", (("way", "w " * 90),))
    dock.controller.session.update(plan=plan)
    dock.predict.card.set_open(True)
    dock.tabs.setCurrentIndex([dock.tabs.tabText(i) for i in range(3)].index(page))
    dock.setFixedWidth(320)
    QTest.qWait(50)
    panel = getattr(dock, page.lower())
    assert dock.minimumSizeHint().width() <= 320
    inner = panel.layout().itemAt(0).widget().widget()
    assert inner.minimumSizeHint().width() <= panel.width()


def test_a_page_is_made_when_it_is_first_shown_and_knows_what_was_before(viewer):
    dock = dock_for(viewer)
    viewer.add_image(np.zeros((8, 9)), name="cells")
    dock.controller.painting.new()
    assert not {"train", "batch"} & set(vars(dock))
    dock.tabs.setCurrentIndex(1)
    assert dock.train.isVisibleTo(dock)
    assert len(dock.train.strokes.legend.rows) == 2


def test_opening_the_dock_imports_no_torch():
    script = (
        "import sys, napari_unet.gui.dock;"
        "heavy = {'torch', 'scipy.ndimage', 'napari_unet.images.readers'};"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], check=False)
    assert result.returncode == 0
