"""Every preference of napari's page for U-Net changes what the dock does."""

import numpy as np
import pytest
from napari.settings import get_plugin_settings
from npe2 import PluginManifest
from test_gui_manifest import MANIFEST

from napari_unet.gui import preferences
from napari_unet.gui.dock import dock_for
from napari_unet.gui.keeping import Keeping

pytestmark = pytest.mark.gui


@pytest.fixture
def dock(plugin_settings, npe2pm, make_napari_viewer, tmp_path, monkeypatch):
    """A dock that was opened with other folders than the usual ones."""
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    page = get_plugin_settings("unet-napari").general
    page.scratch_folder = str(tmp_path / "scratch")
    page.rounds_folder = str(tmp_path / "rounds")
    saved = []
    monkeypatch.setattr(Keeping, "autosave", lambda self: saved.append(1))
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((20, 30)), name="cells")
    dock = dock_for(viewer)
    dock.page, dock.saved, dock.tmp_path = page, saved, tmp_path
    return dock


def device(dock, qtbot):
    """In the forms that run, of a page that was there before and of one made now."""
    dock.page.device = "cpu"
    assert dock.predict.settings()["device"] == "cpu"
    assert dock.train.options.values()["device"] == "cpu"
    dock.predict.options.fields["device"].value = "cuda"  # what a person chose
    dock.page.preview_delay = 900  # stays, whatever else changes
    assert dock.predict.settings()["device"] == "cuda"
    dock.page.device = "mps"
    assert dock.predict.settings()["device"] == "mps"
    assert dock.train.options.values()["device"] == "mps"


def memory(dock, qtbot):
    assert dock.predict.settings()["memory"] is None
    dock.page.memory = 2.5
    assert dock.predict.settings()["memory"] == 2.5
    assert dock.batch._settings()["memory"] == 2.5
    dock.page.memory = 0
    assert dock.predict.settings()["memory"] is None


def preview_delay(dock, qtbot):
    dock.page.preview_delay = 60
    timer = dock._shared._catch_up
    assert timer.interval() == 60
    seen = []
    timer.timeout.connect(lambda: seen.append(1))
    dock._viewer.scene.camera.zoom *= 2
    qtbot.waitUntil(lambda: bool(seen))


def autosave(dock, qtbot):
    dock.page.autosave = 300
    dock.controller.painting.new()
    layer = dock._viewer.layers["cells · strokes"]
    layer.paint((3, 3), 1)
    layer.events.paint(value=[])
    assert dock._shared._autosave.isActive()
    assert dock.saved == []
    dock._shared._autosave.stop()
    dock.page.autosave = 0.5
    layer.events.paint(value=[])
    qtbot.waitUntil(lambda: dock.saved == [1])


def scratch_folder(dock, qtbot):
    place = dock.controller.previews._staging.new_file()
    assert place.is_relative_to(dock.tmp_path / "scratch")


def rounds_folder(dock, qtbot):
    assert dock.controller.versions.folder == dock.tmp_path / "rounds"


CHECKS = {
    check.__name__: check
    for check in (
        device, memory, preview_delay, autosave, scratch_folder, rounds_folder
    )
}  # fmt: skip


def test_every_preference_changes_what_the_dock_does(dock, qtbot):
    assert CHECKS.keys() == preferences.DEFAULTS.keys()
    assert CHECKS.keys() == type(dock.page).model_fields.keys()
    for check in CHECKS.values():
        check(dock, qtbot)
