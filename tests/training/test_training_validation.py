"""Held-out strokes lie a receptive field away from all training paint."""

from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_images import class_strokes

from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec
from napari_unet.training.coding import Coding
from napari_unet.training.heldout import HeldOut, windows_of
from napari_unet.training.validation import hold_out, number_strokes, within


def reach(before, after):
    return SimpleNamespace(before=before, after=after)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(0, 6)] * 4),
    st.integers(0, 2**32 - 1),
)
def test_within_is_what_the_pixels_look_at(sides, seed):
    before, after = sides[:2], sides[2:]
    mask = np.random.default_rng(seed).random((17, 13)) < 0.02
    want = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        rows = slice(max(y - before[0], 0), y + after[0] + 1)
        want[rows, max(x - before[1], 0) : x + after[1] + 1] = True
    np.testing.assert_array_equal(within(mask, reach(before, after)), want)


def parts(size=120):
    rng = np.random.default_rng(3)
    strokes = np.zeros((size, size), np.int64)
    for n in range(24):
        y, x = rng.integers(0, size - 4, 2)
        strokes[y : y + 3, x : x + 3] = 1 + n % 2
    return strokes


def test_no_training_pixel_is_seen_by_a_held_out_one():
    strokes = parts()
    numbers = number_strokes(strokes, strokes)
    field = reach((9, 7), (8, 10))
    split = hold_out([strokes], [numbers], [strokes], 0.2, field, 0)
    held, training = np.argwhere(split.held_out[0]), np.argwhere(split.training[0])
    assert set(np.unique(split.held_out[0])) == {0, 1, 2}
    shift = training[None] - held[:, None]
    seen = (shift >= [-9, -7]).all(-1) & (shift <= [8, 10]).all(-1)
    assert not seen.any()


def test_strokes_are_held_out_whole():
    strokes = parts()
    numbers = number_strokes(strokes, strokes)
    split = hold_out([strokes], [numbers], [strokes], 0.2, reach((5, 5), (5, 5)), 1)
    held = set(np.unique(numbers[split.held_out[0] > 0]))
    assert not held & set(np.unique(numbers[split.training[0] > 0]))


def test_too_few_or_too_near_strokes_are_not_held_out():
    one = np.zeros((50, 50), np.int64)
    one[5:8, 5:8], one[30:33, 30:33], one[40:43, 5:8] = 1, 2, 2
    numbers = number_strokes(one, one)
    assert hold_out([one], [numbers], [one], 0.2, reach((1, 1), (1, 1)), 0) is None
    four = class_strokes()
    numbers = number_strokes(four, four)
    assert (
        hold_out([four], [numbers], [four], 0.2, reach((99, 99), (99, 99)), 0) is None
    )


def test_background_belongs_to_the_nearest_painted_object():
    strokes = np.zeros((1, 12), np.int64)
    strokes[0, 2], strokes[0, 9] = 7, 3
    target = np.where(strokes > 0, 2, 1)
    numbers = number_strokes(strokes, target)
    assert numbers[0, :6].tolist() == [numbers[0, 2]] * 6
    assert numbers[0, 6:].tolist() == [numbers[0, 9]] * 6


def test_the_held_out_score_is_that_of_the_whole_image():
    torch.manual_seed(0)
    plan = UNetSpec(widths=(4, 8))
    spec = ModelSpec(ndim=2, in_channels=1, out_channels=2)
    network = Network(UNet(plan), spec)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 300, 262)).astype(np.float32)
    target = rng.integers(0, 3, (300, 262)) * (rng.random((300, 262)) < 0.02)
    coding = Coding.of(spec, "classes")
    windows = windows_of([image], [target], network.geometry)
    scores = HeldOut(windows, coding).score(network)
    label = network(torch.from_numpy(image[None]))[0].argmax(0).numpy()
    right = label[target > 0] == target[target > 0] - 1
    assert scores["accuracy"] == right.mean()
    assert sum(c["pixels"] for c in scores["classes"].values()) == (target > 0).sum()
