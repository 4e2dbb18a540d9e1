"""Targets against tables worked out by hand, and against real painted objects."""

import numpy as np
import pytest
from shared import shared

from napari_unet.errors import StrokesError
from napari_unet.training.border_weights import border_weights
from napari_unet.training.targets import (
    BACKGROUND,
    BOUNDARY,
    INTERIOR,
    OBJECT,
    background_near,
    instance_target,
    stroke_target,
)


def test_complete_labels_become_background_interior_and_boundary():
    labels = np.zeros((9, 12), np.uint16)
    labels[1:8, 1:6] = 1
    labels[1:8, 6:11] = 9
    want = np.full((9, 12), BACKGROUND)
    want[1:8, 1:11] = BOUNDARY
    want[3:6, 3] = want[3:6, 8] = INTERIOR
    np.testing.assert_array_equal(instance_target(labels, complete=True), want)


def test_a_thin_object_keeps_an_interior():
    labels = np.zeros((7, 9), np.uint8)
    labels[3, 3] = 1
    labels[1:4, 5:8] = 2
    target = instance_target(labels, complete=True)
    assert target[3, 3] == INTERIOR
    assert target[2, 6] == INTERIOR
    assert target[1, 5] == BOUNDARY


def test_partial_labels_only_tell_what_is_certain():
    labels = np.zeros((20, 20), np.int32)
    labels[5:15, 2:9] = 1
    labels[5:15, 10:18] = 2
    target = instance_target(labels, complete=False)
    assert target[0, 0] == 0
    assert not (target == BACKGROUND).any()
    assert target[10, 5] == INTERIOR
    assert target[10, 2] == OBJECT  # the object may go on to the left
    assert target[10, 8] == target[10, 10] == BOUNDARY  # 2 pixels from the other one
    assert target[10, 7] == OBJECT


def test_volumes_have_targets_too():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    target = instance_target(labels, complete=True)
    counts = np.bincount(target.ravel(), minlength=4)
    assert counts.tolist() == [0, 729 - 343, 27, 343 - 27]


def test_labels_that_are_no_integers_are_refused():
    with pytest.raises(StrokesError, match="whole numbers"):
        instance_target(np.zeros((3, 3)), complete=True)


@pytest.mark.parametrize("sign", [1, -1])
def test_background_lies_around_a_painted_object(sign):
    y, x = np.mgrid[:40, :40]
    inside = (y - 20) ** 2 + (x - 20) ** 2 < 64
    image = sign * inside.astype(np.float32)[None]
    found = background_near((inside * 3).astype(np.int64), image)
    assert found.any()
    assert not found[inside].any()


@pytest.mark.parametrize("seed", range(4))
def test_a_stroke_within_a_larger_object_names_no_background(seed):
    strokes = np.zeros((80, 80), np.int64)
    strokes[34:46, 34:46] = 1
    noise = np.random.default_rng(seed).normal(0, 0.1, (1, 80, 80)).astype(np.float32)
    assert not background_near(strokes, noise).any()


@pytest.mark.real
def test_background_found_around_real_strokes_is_background():
    tifffile = pytest.importorskip("tifffile")
    folder = shared("data", "brush_labels")
    image = tifffile.imread(folder / "images" / "blobs_instances.tif")
    strokes = tifffile.imread(folder / "scribbles" / "blobs_instances.tif")
    truth = tifffile.imread(folder / "reference" / "blobs.tif") > 0
    target = stroke_target(strokes, image[None].astype(np.float32) / 255)
    assert (target == BACKGROUND).sum() > 2000
    assert truth[target == BACKGROUND].mean() < 0.01


def _weights_by_all_distances(labels):
    """Equation 2 of the paper, pixel by pixel."""
    places = [np.argwhere(labels == v) for v in np.unique(labels[labels > 0])]
    want = np.ones(labels.shape)
    for at in np.ndindex(labels.shape):
        near = sorted(np.hypot(*(p - at).T).min() for p in places)
        want[at] += 10 * np.exp(-((near[0] + near[1]) ** 2) / 50)
    return want


def test_border_weights_are_those_of_the_paper():
    labels = np.zeros((24, 40), np.uint16)
    labels[4:12, 3:10] = 7
    labels[5:14, 12:20] = 2
    labels[16:22, 9:15] = 9
    got = border_weights(labels)
    # Left out where an object is beyond reach, three deviations: less than 0.12.
    np.testing.assert_allclose(got, _weights_by_all_distances(labels), atol=0.12)
    near = _weights_by_all_distances(labels) > 1.2
    np.testing.assert_allclose(
        got[near], _weights_by_all_distances(labels)[near], rtol=1e-5
    )
    assert got[8, 11] == got[:14].max()


def test_painting_more_of_an_object_never_lowers_a_weight():
    labels = np.zeros((30, 40), int)
    labels[5:25, 4:18], labels[5:25, 20:36] = 1, 2
    part = np.where(np.arange(40) % 3 > 0, labels, 0)
    assert (border_weights(part) <= border_weights(labels) + 1e-5).all()


def test_a_single_object_has_no_border_to_weigh():
    labels = np.zeros((3, 9, 9), np.uint8)
    labels[:, 2:5] = 4
    assert (border_weights(labels) == 1).all()
    assert (border_weights(labels * 0) == 1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_paint_beside_the_unknown_is_either_in_every_dtype(dtype):
    labels = np.zeros((9, 9), dtype)
    labels[:, :6] = np.iinfo(dtype).max // 2
    target = instance_target(labels, complete=False)
    assert (target[:, :4] == INTERIOR).all()
    assert (target[:, 4:6] == OBJECT).all()
