"""Measurements of a prediction: the table, the way to an object and back; no window."""

import csv

import numpy as np
import pytest
from skimage.measure import regionprops

from napari_unet import api
from napari_unet.errors import UNetError
from napari_unet.events import Finished, drain
from napari_unet.gui.contributions import write_labels
from napari_unet.gui.measure_dock import MeasuredModel
from napari_unet.images.readers import open_image


def blobs():
    labels = np.zeros((3, 32, 48), np.uint32)
    labels[0, 2:8, 3:9] = 5
    labels[1, 20:30, 10:40] = 2
    labels[2, 4:6, 40:47] = 9
    return labels


@pytest.fixture
def measured(desk):
    """An image with three objects, measured in this process."""
    image = desk.add_image(
        (3, 32, 48), ("z", "y", "x"), scale=(3, 0.5, 0.5), units=("um",) * 3
    )
    desk.open_model(task="flows", out_channels=3)
    desk.controller.predicting.predict({"kind": "instances"})
    np.save(desk.job.arguments["output"], blobs())
    desk.job.play(Finished(""))
    assert desk.view.measure.enabled
    desk.controller.measuring.measure()
    assert desk.job.name == "iter_measure"
    assert not desk.view.measure.enabled
    desk.job.play(Finished(drain(api.iter_measure(**desk.job.arguments))))
    desk.image = image
    return desk


def test_table_is_what_regionprops_says(measured):
    table = measured.state.measured
    found = regionprops(blobs(), measured.image.data, spacing=(3, 0.5, 0.5))
    assert table.column("label").tolist() == [p.label for p in found]
    np.testing.assert_allclose(table.column("volume"), [p.area for p in found])
    centroids = np.stack([table.column(f"centroid_{a}") for a in "zyx"], 1)
    np.testing.assert_allclose(centroids, [p.centroid for p in found])
    means = [p.intensity_mean for p in found]
    np.testing.assert_allclose(table.column("mean_intensity"), means, rtol=1e-6)
    assert set(table.column("unit")) == {"micrometer"}
    assert measured.view.status == "Measured 3 objects."


def test_a_row_leads_to_its_object_and_an_object_to_its_row(measured):
    measuring, viewer = measured.controller.measuring, measured.viewer
    layer = viewer.layers["cells · prediction"]
    for row, (label, middle) in enumerate(
        [(2, (1, 24.5, 24.5)), (5, (0, 4.5, 5.5)), (9, (2, 4.5, 43))]
    ):
        assert measuring.go_to(row)
        world = layer.data_to_world(middle)
        assert layer.selected_label == label
        assert viewer.dims.point[0] == pytest.approx(world[0])
        np.testing.assert_allclose(viewer.scene.camera.center[-2:], world[1:])
        assert measuring.row_at(world) == row
    assert measuring.row_at((0, 0, 0)) is None
    viewer.layers.remove(layer)
    assert not measuring.go_to(0)
    assert "not there any more" in measured.view.status


def test_table_is_sorted_without_losing_its_rows(measured):
    model = MeasuredModel()
    model.show(measured.state.measured)
    names = measured.state.measured.names
    assert (model.rowCount(), model.columnCount()) == (3, len(names))
    model.sort(names.index("pixels"))
    labels = [int(model.data(model.index(i, names.index("label")))) for i in range(3)]
    assert labels == [9, 5, 2]
    assert [model.row_of(line) for line in range(3)] == [2, 1, 0]
    assert model.line_of(2) == 0


def test_table_is_exported(measured, tmp_path):
    measured.controller.measuring.export(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == measured.state.measured.names
    assert len(rows) == 3


def test_nothing_to_measure_is_told(desk):
    desk.add_image()
    desk.open_model()
    desk.controller.measuring.measure()
    assert "no labels to measure" in desk.view.status


def test_labels_are_written_with_axes_and_pixel_size(tmp_path):
    labels = np.random.default_rng(0).integers(0, 900, (5, 20, 30)).astype("i4")
    shown = {
        "name": "n",
        "axis_labels": ("y", "z", "x"),
        "scale": (0.5, 3, 0.5),
        "units": ("micrometer",) * 3,
    }
    path = str(tmp_path / "labels.ome.tif")
    assert write_labels(path, [(labels, shown, "labels")]) == [path]
    with open_image(path) as stack:
        assert stack.axes == "ZYX"
        assert stack.scale == {"Z": 3, "Y": 0.5, "X": 0.5}
        found = stack.read({}, "YZX")
    np.testing.assert_array_equal(found, labels)
    with pytest.raises(UNetError, match="axes of n are not known"):
        write_labels(path, [(labels, {"name": "n", "axis_labels": "abc"}, "labels")])
