"""The demo's results in napari's window."""

import numpy as np
import pytest
import tifffile

from napari_unet.errors import UsageError
from napari_unet.gui.dock import dock_for
from napari_unet.gui.show import show

pytestmark = pytest.mark.gui


def write(folder, stem, pixels):
    tifffile.imwrite(
        folder / f"{stem}.ome.tif",
        pixels,
        metadata={"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )


@pytest.fixture
def folder(tmp_path):
    image = np.arange(3 * 16 * 20, dtype="u2").reshape(3, 16, 20)
    write(tmp_path, "image", image)
    for value, stem in enumerate(("strokes", "before", "after"), 1):
        write(tmp_path, stem, np.full(image.shape, value, "u1"))
    return tmp_path


def test_image_strokes_before_and_after_are_there(make_napari_viewer, folder):
    viewer = make_napari_viewer()
    show(folder, viewer)
    names = [f"nuclei{part}" for part in ("", " · before", " · after", " · strokes")]
    assert [layer.name for layer in viewer.layers] == names
    for layer in viewer.layers:
        assert layer.data.shape == (3, 16, 20)
        np.testing.assert_allclose(layer.scale, (1, 0.5, 0.5))
    assert viewer.layers["nuclei"].data[2, 15, 19] == 3 * 16 * 20 - 1
    values = [viewer.layers[name].data.max() for name in names[1:]]
    assert values == [2, 3, 1]
    assert [viewer.layers[name].visible for name in names] == [True, False, True, True]
    state = dock_for(viewer).controller.session.state
    assert (state.image.name, state.image.axes) == ("nuclei", "TYX")
    assert state.stroke_layers == ("nuclei · strokes",)
    assert state.strokes.fits
    assert state.strokes.counts == {1: 3 * 16 * 20}


def test_what_is_missing_is_left_out(make_napari_viewer, folder):
    for stem in ("strokes", "before", "after"):
        (folder / f"{stem}.ome.tif").unlink()
    viewer = make_napari_viewer()
    show(folder, viewer)
    assert [layer.name for layer in viewer.layers] == ["nuclei"]


def test_folder_without_the_image_is_refused(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    with pytest.raises(UsageError, match="no results of the demo"):
        show(tmp_path, viewer)
    assert not viewer.layers
