"""An image that napari's own reader opened gets the axes that its file names."""

import numpy as np
import pytest
import tifffile
from napari.layers._source import layer_source

from napari_unet.gui.file_facts import told_by
from napari_unet.samples import sample

OME = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}


def write(path, shape=(3, 20, 24), **more):
    tifffile.imwrite(path, np.zeros(shape, "u1"), photometric="minisblack", **more)
    return str(path)


def opened(desk, path):
    """A layer as napari's own reader makes it: pixels and where they came from."""
    with layer_source(path=path):
        return desk.viewer.add_image(tifffile.imread(path))


def test_the_file_is_asked_and_the_layer_gets_it(desk, tmp_path):
    path = write(tmp_path / "a.ome.tif", metadata=OME)
    layer = opened(desk, path)
    assert desk.state.image.axes is None
    desk.controller.catch_up()
    assert desk.state.image.axes == "TYX"
    assert layer.axis_labels == ("t", "y", "x")
    np.testing.assert_allclose(layer.scale, (1, 0.5, 0.5))
    assert [str(unit) for unit in layer.units] == ["pixel", "micrometer", "micrometer"]
    assert desk.view.status == "Axes read from a.ome.tif."


def test_beside_other_layers_the_size_stays(desk, tmp_path):
    desk.viewer.add_labels(np.zeros((3, 20, 24), "u1"))
    layer = opened(desk, write(tmp_path / "a.ome.tif", metadata=OME))
    desk.controller.catch_up()
    assert desk.state.image.axes == "TYX"
    assert np.all(layer.scale == 1)


def test_what_the_user_said_stays(desk, tmp_path):
    opened(desk, write(tmp_path / "a.ome.tif", metadata=OME))
    desk.controller.set_axes("ZYX")
    desk.controller.catch_up()
    assert desk.state.image.axes == "ZYX"


def test_an_image_that_is_opened_again_is_told_again(desk, tmp_path):
    path = write(tmp_path / "a.ome.tif", metadata=OME)
    for _ in range(2):
        layer = opened(desk, path)
        desk.controller.catch_up()
        assert desk.state.image.axes == "TYX"
        desk.viewer.layers.remove(layer)


def test_planes_that_napari_took_for_colours_are_asked_about(desk, tmp_path):
    path = write(tmp_path / "a.ome.tif", (2, 5, 20, 3), metadata={"axes": "TZYX"})
    with layer_source(path=path):
        desk.viewer.add_image(tifffile.imread(path), rgb=True)
    desk.controller.catch_up()
    assert desk.state.image.axes is None


@pytest.mark.parametrize("shape", [(24, 20, 3), (6, 20, 24), (20, 24)])
def test_a_layer_of_another_shape_is_not_told(tmp_path, shape):
    assert told_by(write(tmp_path / "a.ome.tif", metadata=OME), shape) is None


def test_files_that_tell_nothing(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0nothing")
    assert told_by(str(tmp_path / "broken.tif"), (3, 4)) is None
    assert told_by(str(tmp_path / "gone.tif"), (3, 4)) is None
    plain = write(tmp_path / "plain.tif", metadata=None)
    assert told_by(plain, (3, 20, 24)) is None


def test_single_axes_may_be_gone(tmp_path):
    path = write(tmp_path / "a.ome.tif", (1, 3, 1, 20, 24), metadata={"axes": "TZCYX"})
    assert told_by(path, (3, 20, 24)).axes == "ZYX"
    assert told_by(str(sample("timelapse.ome.tif")), (12, 256, 256)).axes == "TYX"
