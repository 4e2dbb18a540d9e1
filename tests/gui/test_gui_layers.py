"""Where results land, what is visible, how strokes are counted; no window."""

import gc
import sys

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.colormaps import _accelerated_cmap

from napari_unet.errors import ImageError, StrokesError, UsageError
from napari_unet.gui import geometry
from napari_unet.gui.layers import Layers
from napari_unet.gui.results import Results, warm_up
from napari_unet.gui.stroke_layers import StrokeLayers


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    viewer.canvas.size = (100, 200)
    return viewer


@pytest.fixture
def layers(viewer):
    return Layers(viewer)


@pytest.fixture
def strokes(layers):
    return StrokeLayers(layers)


@pytest.fixture
def results(layers):
    return Results(layers)


def new(viewer, strokes):
    """Strokes on the image "a", ready to paint."""
    image = viewer.layers["a"]
    pairs = zip(image.data.shape, image.axis_labels, strict=True)
    shape = [size for size, axis in pairs if axis != "c"]
    name = strokes.new("a", np.zeros(shape, np.uint8), "1")
    strokes.paint(name, 1)
    return name


def test_axes_are_read_asked_and_never_guessed(viewer, layers):
    viewer.add_image(np.zeros((4, 5, 6)), name="a")
    viewer.add_image(np.zeros((4, 5, 6)), name="b", axis_labels=("z", "y", "x"))
    viewer.add_image(np.zeros((5, 6, 3)), name="c", rgb=True)
    assert [layers.image(n).axes for n in "abc"] == [None, "ZYX", "YXC"]
    assert layers.image("c").shape == (5, 6, 3)
    layers.set_axes("a", "tyx")
    assert layers.image("a").axes == "TYX"
    assert viewer.layers["a"].axis_labels == ("-3", "-2", "-1")
    layers.set_axes("a", "")
    assert layers.image("a").axes is None


def test_wrong_axes_are_refused(viewer, layers):
    viewer.add_image(np.zeros((5, 6, 3)), name="c", rgb=True)
    with pytest.raises(UsageError, match="do not fit"):
        layers.set_axes("c", "YX")
    with pytest.raises(ImageError, match="last axis"):
        layers.set_axes("c", "CYX")


def test_physical_size_travels(viewer, layers):
    viewer.add_image(
        np.zeros((4, 5, 6)),
        name="a",
        scale=(2, 0.5, 0.5),
        units=("pixel", "um", "um"),
        axis_labels=("t", "y", "x"),
    )
    pixels = layers.pixels("a")
    assert pixels.scale == {"Y": 0.5, "X": 0.5}
    assert set(pixels.units.values()) == {"micrometer"}


@pytest.mark.parametrize("translate", [(0.0, 0.0), (30.0, -10.0)])
def test_visible_region_is_what_the_canvas_shows(viewer, translate):
    layer = viewer.add_image(np.zeros((400, 600)), scale=(2, 2), translate=translate)
    viewer.scene.camera.zoom = 0.5
    viewer.scene.camera.center = (0, 300 + translate[0], 500 + translate[1])
    region = geometry.visible_region(viewer, layer, "YX")
    # 100 x 200 canvas pixels are 200 x 400 world units are 100 x 200 voxels
    assert region == {"Y": slice(100, 201), "X": slice(150, 351)}


def test_visible_region_is_cut_to_the_image_and_the_current_plane(viewer):
    layer = viewer.add_image(np.zeros((7, 2, 50, 60)))
    viewer.dims.set_point(0, 3)
    viewer.scene.camera.zoom = 0.1
    region = geometry.visible_region(viewer, layer, "TCYX")
    assert region == {"T": slice(3, 4), "Y": slice(0, 50), "X": slice(0, 60)}


def test_nothing_in_view_is_told(viewer):
    layer = viewer.add_image(np.zeros((50, 60)), name="a")
    viewer.scene.camera.zoom = 1
    viewer.scene.camera.center = (0, 5000, 0)
    with pytest.raises(ImageError, match="Nothing of a is in view"):
        geometry.visible_region(viewer, layer, "YX")


@pytest.mark.parametrize(
    "transform",
    [
        {"scale": (3, 2), "translate": (5, 7)},
        {"scale": (3, 2), "rotate": 30},
        {"scale": (1, 2), "shear": [0.5], "affine": [[0, 2, 1], [1, 0, 4], [0, 0, 1]]},
    ],
)
def test_part_lies_on_the_same_place_in_the_world(viewer, transform, results):
    image = viewer.add_image(np.zeros((50, 60)), name="a", **transform)
    results.add("a", "preview", np.zeros((10, 10), "u1"), "labels", {"Y": 8, "X": 9})
    part = viewer.layers["a · preview"]
    np.testing.assert_allclose(
        part.data_to_world((2, 3)), image.data_to_world((10, 12))
    )


def test_result_of_an_image_with_channels_is_seen_on_every_channel(viewer, results):
    viewer.add_image(
        np.zeros((4, 3, 5, 6)),
        name="a",
        axis_labels=("z", "c", "y", "x"),
        scale=(2, 3, 1, 1),
    )
    result = np.arange(4 * 5 * 6, dtype="u1").reshape(4, 5, 6)
    results.add("a", "prediction", result, "labels")
    layer = viewer.layers["a · prediction"]
    assert layer.data.shape == (4, 1, 5, 6)
    for channel in range(3):
        world = viewer.layers["a"].data_to_world((3, channel, 2, 1))
        viewer.dims.set_point([0, 1], world[:2])
        assert layer.get_value(world, world=True) == result[3, 2, 1]


def test_result_in_another_order_of_axes(viewer, results):
    viewer.add_image(np.zeros((5, 6, 4)), name="a", axis_labels=("y", "x", "t"))
    result = np.arange(4 * 5 * 6, dtype="u1").reshape(4, 5, 6)
    results.add("a", "prediction", result, "labels")
    data = viewer.layers["a · prediction"].data
    np.testing.assert_array_equal(data, result.transpose(1, 2, 0))


def test_probabilities_are_one_layer_a_class(viewer, layers, results):
    viewer.add_image(np.zeros((4, 5, 6)), name="a", axis_labels=("z", "y", "x"))
    result = np.random.default_rng(0).random((4, 2, 5, 6)).astype("f4")
    results.add("a", "prediction", result, "probabilities")
    for number, name in enumerate(["a · prediction", "a · prediction 1"]):
        np.testing.assert_array_equal(viewer.layers[name].data, result[:, number])
    assert layers.images() == ("a",)


def test_result_replaces_the_last_one_below_the_strokes(viewer, strokes, results):
    viewer.add_image(np.zeros((5, 6)), name="a")
    new(viewer, strokes)
    for value in (1, 2):
        results.add("a", "prediction", np.full((5, 6), value, "u1"), "labels")
    names = [layer.name for layer in viewer.layers]
    assert names == ["a", "a · prediction", "a · strokes"]
    assert viewer.layers["a · prediction"].data.max() == 2
    assert not viewer.layers["a · prediction"].editable
    assert viewer.layers.selection.active.name == "a · strokes"
    assert strokes.names() == ("a · strokes",)


def test_predicted_class_has_the_colour_of_its_strokes(viewer, strokes, results):
    viewer.add_image(np.zeros((5, 6)), name="a")
    new(viewer, strokes)
    results.add("a", "prediction", np.ones((5, 6), "u1"), "labels")
    painted, result = viewer.layers["a · strokes"], viewer.layers["a · prediction"]
    np.testing.assert_array_equal(result.get_color(1), painted.get_color(2))
    assert result.get_color(0) is None or result.get_color(0)[3] == 0


def test_stroke_layer_is_ready_to_paint(viewer, strokes):
    viewer.add_image(np.zeros((4, 50, 60)), name="a", axis_labels=("t", "y", "x"))
    layer = viewer.layers[new(viewer, strokes)]
    assert (layer.mode, layer.selected_label) == ("paint", 1)
    assert layer.data.shape == (4, 50, 60)
    assert layer.data.dtype == np.uint8
    assert 1 <= layer.brush_size <= 40


def test_strokes_on_channels_lose_the_channel_axis(viewer, strokes):
    viewer.add_image(np.zeros((3, 5, 6)), name="a", axis_labels=("c", "y", "x"))
    name = new(viewer, strokes)
    viewer.layers[name].data[0, 2, 3] = 2
    assert strokes.facts(name, "a").fits
    pixels = strokes.pixels(name, "a")
    assert (pixels.axes, pixels.data.shape) == ("YX", (5, 6))
    assert pixels.data[2, 3] == 2


def test_strokes_of_another_size_do_not_fit(viewer, strokes):
    viewer.add_image(np.zeros((5, 6)), name="a")
    viewer.add_labels(np.zeros((5, 7), int), name="s")
    assert not strokes.facts("s", "a").fits
    with pytest.raises(StrokesError, match="do not fit"):
        strokes.pixels("s", "a")


def test_counts_follow_paint_undo_and_planes(viewer, strokes):
    viewer.add_image(np.zeros((3, 20, 20)), name="a", axis_labels=("z", "y", "x"))
    name = new(viewer, strokes)
    layer = viewer.layers[name]
    assert strokes.facts(name, "a").counts == {}
    viewer.dims.set_point(0, 2)
    layer.brush_size = 3
    layer.paint((2, 10, 10), 1)
    painted = int((layer.data == 1).sum())
    assert strokes.facts(name, "a").counts == {1: painted}
    layer.undo()
    assert strokes.facts(name, "a").counts == {}


def test_painting_is_noticed(viewer, strokes):
    viewer.add_image(np.zeros((20, 20)), name="a")
    calls = []
    strokes.connect(lambda: calls.append(1))
    layer = viewer.layers[new(viewer, strokes)]
    calls.clear()
    layer.paint((10, 10), 1)
    assert calls
    calls.clear()
    layer.undo()
    assert calls


def test_missing_layer_is_told(layers):
    with pytest.raises(ImageError, match="not there any more"):
        layers.pixels("gone")


def test_after_warming_up_nothing_is_compiled_for_a_result(tmp_path, layers, results):
    pytest.importorskip("numba")
    before = sys.getswitchinterval(), gc.isenabled()
    warm_up()
    assert (sys.getswitchinterval(), gc.isenabled()) == before
    loops = (
        _accelerated_cmap._zero_preserving_modulo_inner_loop,
        _accelerated_cmap._labels_raw_to_texture_direct_inner_loop,
    )
    compiled = [list(loop.signatures) for loop in loops]
    layers.viewer.add_image(np.zeros((3, 8, 9)), name="a", axis_labels=("t", "y", "x"))
    for kind, dtype in (("labels", np.uint8), ("instances", np.uint32)):
        np.save(tmp_path / f"{kind}.npy", np.ones((3, 8, 9), dtype))
        result = np.load(tmp_path / f"{kind}.npy", mmap_mode="r")
        results.add("a", kind, result, kind)
        results.add("a", kind, np.ones((3, 8, 9), dtype), kind)
    assert [list(loop.signatures) for loop in loops] == compiled
