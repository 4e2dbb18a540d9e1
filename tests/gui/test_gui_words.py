"""Axes and models in words."""

import pytest

from napari_unet.gui import words


@pytest.mark.parametrize(
    ("labels", "axes"),
    [
        (("z", "y", "x"), "ZYX"),
        (("Time", " Y", "x"), "TYX"),
        (("channel", "depth", "row", "col"), "CZYX"),
        (("-3", "-2", "-1"), None),
        (("-2", "-1"), "YX"),
        (("x", "y"), "XY"),
        (("x", "x"), None),
        (("a", "x"), None),
        (("z", "z", "y", "x"), None),
        (("t", "z", "c"), None),
    ],
)
def test_axes_are_read_from_labels_that_mean_something(labels, axes):
    assert words.axes_of(labels) == axes


@pytest.mark.parametrize(
    ("axes", "shape", "text"),
    [
        ("YX", (3, 4), "Image, 3 × 4 px, 1 channel"),
        ("ZYX", (40, 5, 6), "Z-stack, 40 planes, 5 × 6 px, 1 channel"),
        ("TCYX", (1, 2, 5, 6), "Time series, 1 time point, 5 × 6 px, 2 channels"),
        ("YXC", (5, 6, 3), "Image, 5 × 6 px, 3 channels"),
    ],
)
def test_images_in_words(axes, shape, text):
    assert words.describe(axes, shape) == text


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"task": "semantic"}, "2D · 1 channel → 3 classes"),
        ({"task": "instances"}, "2D · 1 channel → separate objects"),
        (
            {"task": "semantic", "device": "CPU, 2 threads"},
            "2D · 1 channel → 3 classes\nRuns on CPU, 2 threads",
        ),
        ({"task": "restoration"}, "2D · 1 channel → restored image"),
        (
            {"task": "semantic", "activation": "sigmoid"},
            "2D · 1 channel → 3 kinds of object",
        ),
    ],
)
def test_models_in_words(facts, text):
    assert words.model_line(
        {"ndim": 2, "in_channels": 1, "out_channels": 3} | facts
    ) == (text)


@pytest.mark.parametrize(
    ("value", "text"), [(0.2, "1 s"), (42, "42 s"), (180, "3 min"), (7200, "2.0 h")]
)
def test_time_in_words(value, text):
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.pt", "a.pt"), ("abcdefghijklm", "ab…klm"), ("abcdef", "abcdef")],
)
def test_long_names_lose_their_middle(name, text):
    assert words.short(name, 6) == text


def test_counts():
    assert words.count(1, "class") == "1 class"
    assert words.count(12345, "class") == "12 345 classes"


@pytest.mark.parametrize("ndim", [3, 4])
def test_choices_name_every_axis(ndim):
    assert {len(axes) for axes in words.choices(ndim).values()} == {ndim}
