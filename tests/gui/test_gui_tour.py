"""The whole loop, as a user does it; `make pictures` keeps what it looks like."""

import os
from pathlib import Path

import numpy as np
import pytest
from hands import Hands
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QScrollArea
from scipy import ndimage

from napari_unet.gui.dock import dock_for
from napari_unet.images.readers import open_image
from napari_unet.samples import sample

pytestmark = pytest.mark.gui
FRAME = 4
SECONDS = 20 if "UNET_PICTURES" in os.environ else 6


@pytest.fixture
def viewer(make_napari_viewer, monkeypatch, tmp_path):
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data")
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    return viewer


class Tour:
    """A viewer, its dock, hands, and a camera."""

    def __init__(self, viewer, qtbot, folder):
        self.viewer, self.qtbot = viewer, qtbot
        self.hands = Hands(viewer)
        self.dock = dock_for(viewer)
        self.folder = Path(os.environ.get("UNET_PICTURES", folder))
        QTest.qWait(200)

    @property
    def state(self):
        return self.dock.controller.session.state

    def page(self, name):
        titles = [self.dock.tabs.tabText(i) for i in range(self.dock.tabs.count())]
        self.dock.tabs.setCurrentIndex(titles.index(name))

    def wait(self, kind=None):
        """Wait for the end of what runs."""
        if kind is not None:
            self.until(lambda: self.state.activity is not None)
        self.qtbot.waitUntil(lambda: self.state.activity is None, timeout=180000)
        assert self.state.tone != "bad", self.state.message

    def until(self, condition):
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=60000)

    def layer(self, word):
        """Find the layer with this word in its name."""
        found = [layer for layer in self.viewer.layers if word in layer.name]
        return found[0] if found else None

    def stroke(self, y, x, reach):
        """Draw a short line around a pixel of the image."""
        scale = self.layer("timelapse").scale[-2:]
        self.hands.drag((y, x - reach) * scale, (y, x + reach) * scale)

    def scroll_to(self, widget):
        """Scroll a page until a widget is seen."""
        area = widget.parentWidget()
        while not isinstance(area, QScrollArea):
            area = area.parentWidget()
        area.ensureWidgetVisible(widget)

    def choose_result(self, kind):
        self.dock.predict.result.choose(kind)

    def preview(self):
        """Preview the view anew and take the preview away."""
        for layer in [one for one in self.viewer.layers if "preview" in one.name]:
            self.viewer.layers.remove(layer)
        self.hands.press("R")
        self.until(lambda: self.layer("preview") is not None)
        layer = self.layer("preview")
        pixels = np.array(layer.data)
        self.viewer.layers.remove(layer)
        return pixels

    def look(self, name):
        """Take a picture of the window."""
        QTest.qWait(400)
        path = self.folder / f"{name}.png"
        picture = self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        assert picture.std() > 10


def nuclei():
    """True nuclei of the frame that is painted on."""
    with open_image(sample("timelapse_truth.ome.tif")) as stack:
        return stack.read({"T": FRAME}, "YX")


def paint(tour, predicted):
    """Paint where the network is wrong, and a little where it is right."""
    truth, hands = nuclei() > 0, tour.hands
    hands.click("New stroke layer")
    for found, count in ((predicted & ~truth, 4), (~predicted & ~truth, 5)):
        for y, x in _spots(found, count):
            tour.stroke(y, x, 3)
    hands.button("2", tour.dock).click()
    for found, count in ((truth & ~predicted, 5), (truth & predicted, 5)):
        for y, x in _spots(found, count):
            tour.stroke(y, x, 2)


def _spots(found, count):
    """Middles of the broadest places, spaced apart and off the border."""
    height = ndimage.distance_transform_edt(found)
    height[:12] = height[-12:] = height[:, :12] = height[:, -12:] = 0
    spots = []
    for _ in range(count):
        y, x = np.unravel_index(height.argmax(), height.shape)
        spots.append((int(y), int(x)))
        height[max(y - 24, 0) : y + 24, max(x - 24, 0) : x + 24] = 0
    return [spot for spot in spots if found[spot]]


def test_the_whole_loop(viewer, qtbot, monkeypatch, tmp_path):
    tour = Tour(viewer, qtbot, tmp_path)
    hands, dock = tour.hands, tour.dock
    tour.look("empty")

    hands.drop_on_viewer(sample("timelapse.ome.tif"))
    tour.until(lambda: tour.state.image is not None and tour.state.image.axes)
    assert tour.state.image.axes == "TYX"
    viewer.dims.set_current_step(0, FRAME)
    hands.drop(dock, sample("nuclei.safetensors"))
    tour.wait("open")
    assert tour.state.model.name == "nuclei.safetensors"
    tour.look("opened")

    tour.choose_result("labels")
    hands.press("R")
    tour.until(lambda: tour.layer("preview") is not None)
    tour.look("preview")
    before = np.array(tour.layer("preview").data)
    viewer.layers.remove(tour.layer("preview"))

    tour.page("Train")
    paint(tour, before[0] > 0)
    counts = tour.state.strokes.counts
    assert set(counts) >= {1, 2}
    tour.look("painted")
    painted = tour.layer("strokes").data.copy()

    dock.train.form.fields["max_seconds"].value = SECONDS
    hands.press("T")
    tour.wait("train")
    if tour.state.declined is not None:  # few steps on a busy machine
        hands.click("Use it anyway")
        tour.wait()
    assert tour.state.round is not None, tour.state.message
    assert tour.state.model.name != "nuclei.safetensors"
    np.testing.assert_array_equal(tour.layer("strokes").data, painted)
    tour.scroll_to(dock.train.rounds.undo)
    tour.look("score")
    after = tour.preview()
    assert (after != before).mean() > 0.001

    hands.click("Undo")
    tour.until(lambda: tour.state.model.name == "nuclei.safetensors")
    np.testing.assert_array_equal(tour.preview(), before)
    hands.click("Redo")
    tour.until(lambda: tour.state.model.name != "nuclei.safetensors")
    np.testing.assert_array_equal(tour.preview(), after)

    tour.page("Predict")
    hands.press("G")
    tour.wait("predict")
    result = tour.layer("prediction")
    assert result.data.shape == (12, 256, 256)
    np.testing.assert_array_equal(result.data[FRAME], after[0])
    tour.look("predicted")

    tour.page("Batch")
    results = tmp_path / "results"
    files = [str(path) for path in sorted(sample("batch").glob("field*.tif"))[:3]]
    answer = {"getOpenFileNames": (files, ""), "getExistingDirectory": str(results)}
    for name, given in answer.items():
        monkeypatch.setattr(QFileDialog, name, lambda *a, given=given, **k: given)
    results.mkdir()
    hands.click("Files")
    hands.click("Change", dock.batch)
    tour.until(lambda: not tour.state.listing and len(tour.state.files) == 3)
    hands.click("Run")
    tour.wait("batch")
    assert len(list(results.glob("*.ome.tif"))) == 3
    tour.look("batch")
