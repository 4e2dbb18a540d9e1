"""What napari's palette, menus and preferences get from the manifest in the tree."""

from pathlib import Path

import numpy as np
import pytest
from napari.settings import get_plugin_settings
from npe2 import PluginManifest

from napari_unet.gui import contributions, preferences

MANIFEST = Path(__file__).parents[2] / "napari.yaml"


@pytest.fixture
def installed(plugin_settings, npe2pm):
    """The plugin as its manifest in the tree describes it."""
    manifest = PluginManifest.from_file(MANIFEST)
    npe2pm.register(manifest)
    return npe2pm


def test_preferences_are_those_of_the_manifest(installed):
    assert preferences.preferences() == preferences.DEFAULTS
    calls = []
    end = preferences.watch(lambda: calls.append(1))
    get_plugin_settings("unet-napari").general.preview_delay = 700
    assert preferences.preferences()["preview_delay"] == 700
    assert calls
    end()
    calls.clear()
    get_plugin_settings("unet-napari").general.device = "cpu"
    assert calls == []
    assert preferences.preferences()["device"] == "cpu"


def test_folders_of_the_preferences_are_used(installed, tmp_path):
    page = get_plugin_settings("unet-napari").general
    page.scratch_folder = str(tmp_path / "scratch")
    page.rounds_folder = str(tmp_path / "rounds")
    assert preferences.scratch_folder().parent == tmp_path / "scratch"
    assert preferences.rounds_folder() == tmp_path / "rounds"


@pytest.mark.gui
def test_commands_press_the_buttons_of_the_dock(
    installed, make_napari_viewer, qtbot, monkeypatch
):
    from napari_unet.gui.dock import UNetDock

    get_plugin_settings("unet-napari").general.device = "cpu"
    viewer = make_napari_viewer()
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    viewer.add_image(np.zeros((20, 20)), name="cells")
    pressed = []
    monkeypatch.setattr(UNetDock, "press", lambda self, key: pressed.append(key))
    for name in ("predict_view", "predict_all", "fine_tune"):
        installed.commands.execute(f"unet-napari.{name}")
    assert pressed == [
        contributions.PREVIEW,
        contributions.PREDICT,
        contributions.TRAIN,
    ]
    (dock,) = viewer.window.dock_widgets.values()
    assert dock.predict.settings()["device"] == "cpu"
    installed.commands.execute("unet-napari.measure_objects")
    assert dock.controller.session.state.message == "Predict an image first."
    writers = [w.command for w in installed.iter_compatible_writers(["labels"])]
    assert "unet-napari.write_labels" in writers
