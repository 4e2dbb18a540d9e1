"""Whole-stack statistics against numpy."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.errors import ImageError, UsageError
from napari_unet.events import CancelToken, Stopped
from napari_unet.images import blocks as block_module
from napari_unet.images import survey
from napari_unet.images.blocks import blocks
from napari_unet.images.intensity import Normalization, Scaling, measure
from napari_unet.images.readers import open_image
from napari_unet.images.stack import ImageStack

DTYPES = "u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8 ?".split()


def image(dtype="u2", seed=0):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 20.0, (3, 2, 4, 13, 17)) - 10
    if np.dtype(dtype).kind in "ub":
        values = values > 30 if dtype == "?" else abs(values)
    if dtype in ("u1", "i1"):
        values = values % 100
    return values.astype(dtype)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(block_module, "MOST_PIXELS", 100)
    monkeypatch.setattr(block_module.blocks, "__defaults__", (100,))


def scaled(stack, scaling):
    """The whole stack, channels first, in float32."""
    return scaling.apply(stack.read({}, "CTZYX"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_statistics_equal_numpy(dtype, joint):
    values = image(dtype)
    stack = open_image(values, axes="TCZYX")
    exact = values.swapaxes(0, 1).astype(np.float64)
    axis = None if joint else (1, 2, 3, 4)

    def of(function, *args):
        return np.broadcast_to(function(exact, *args, axis=axis), 2)

    low, high = of(np.percentile, 1.0), of(np.percentile, 97.3)
    expected = {
        "zscore": (of(np.mean), of(np.std)),
        "minmax": (of(np.min), of(np.max) - of(np.min)),
        "percentile": (low, high - low),
    }
    for kind, (zero, width) in expected.items():
        rule = Normalization(kind=kind, joint=joint, high=97.3, eps=1e-3)
        scaling = measure(stack, [rule])
        gain = 1 / (width + 1e-3)
        np.testing.assert_allclose(scaling.gain, gain, rtol=1e-12)
        np.testing.assert_allclose(scaling.offset, -zero * gain, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2,
        max_size=40,
    ),
    st.floats(0, 100),
    st.sampled_from(["f4", "f8", "i4", "i8", "u4"]),
)  # fmt: skip
def test_any_percentile(numbers, percent, dtype):
    values = np.array(numbers, "f4")
    if dtype[0] in "iu":
        values = (np.abs(values) % 1e9) * (1 if dtype[0] == "u" else -1)
    values = values.astype(dtype)[np.newaxis]
    rule = Normalization(kind="percentile", low=percent, high=100.0, eps=0.0)
    scaling = measure(open_image(values), [rule])
    with np.errstate(over="ignore"):
        low, high = np.percentile(values.astype(np.float64), [percent, 100.0])
    if high <= low:
        assert scaling.gain == (0.0,)
        assert scaling.notes
        return
    assert -scaling.offset[0] / scaling.gain[0] == pytest.approx(low, 1e-9, 1e-30)
    assert scaling.gain[0] == pytest.approx(1 / (high - low), 1e-9)


def test_moments_of_a_large_offset():
    values = 1e9 + np.random.default_rng(0).normal(0, 1e-2, (50, 40, 40))
    scaling = measure(open_image(values, axes="ZYX"), [Normalization(kind="zscore")])
    assert 1 / scaling.gain[0] - 1e-6 == pytest.approx(values.std(), 1e-5)


def test_each_channel_its_own_rule_and_order():
    values = image()
    stack = open_image(values, axes="TCZYX")
    rules = [Normalization(kind="linear", gain=2.0, offset=1.0), Normalization()]
    scaling = measure(stack, rules, channels=[1, 0])
    block = stack.read({}, "CTZYX")[[1, 0]]
    found = scaling.apply(block)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], 2.0 * block[0] + 1)
    np.testing.assert_array_equal(found[1], block[1])
    with pytest.raises(UsageError, match="3 settings for 2 channels"):
        measure(stack, [Normalization()] * 3)
    with pytest.raises(UsageError, match="no channel 2"):
        measure(stack, [Normalization()], channels=[2])


@pytest.mark.parametrize(
    "rule",
    [
        Normalization(kind="percentile", low=10, high=90, clip=True),
        Normalization(kind="linear", gain=1e3, offset=-500.0, clip=True),
    ],
)
def test_clip(rule):
    stack = open_image(image("f4"), axes="TCZYX")
    found = scaled(stack, measure(stack, [rule]))
    assert (found.min(), found.max()) == (0.0, 1.0)


@pytest.mark.parametrize("kind", ["zscore", "minmax", "percentile"])
def test_constant_images_become_zero(kind):
    values = np.full((1, 5, 6), 0.1, np.float32)
    stack = open_image(values, axes="CYX")
    scaling = measure(stack, [Normalization(kind=kind)])
    assert not scaling.apply(values).any()
    assert "Channel 0" in scaling.notes[0]


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, ">i4"])
def test_large_blocks_are_scaled_in_double_precision_everywhere(dtype, order):
    pixels = np.random.default_rng(0).integers(0, 60000, (2, 401, 499))
    block = pixels.astype(dtype).transpose(order)
    found = Scaling((1 / 3, 7e-5), (-5e3, 0.1), (False, True)).apply(block)
    exact = block.astype(np.float64) * [[[1 / 3]], [[7e-5]]] + [[[-5e3]], [[0.1]]]
    exact[1] = exact[1].clip(0, 1)
    np.testing.assert_array_equal(found, exact.astype(np.float32))
    if dtype == np.float32:
        block[0, -1, -1], block[1, 0, 0] = np.nan, np.inf
        scaling = Scaling((1 / 3, 7e-5), (-5e3, 0.1), (False, False), nan="zero")
        again = scaling.apply(block)
        assert (again[0, -1, -1], again[1, 0, 0]) == (-5e3, np.float32(0.1))


def test_nan_is_refused_with_number_and_place():
    values = image("f4")
    values[1, 0, 2, 3, 4] = np.nan
    values[2, 1, 0, 0, 0] = np.inf
    stack = open_image(values, axes="TCZYX")
    rule = Normalization(kind="zscore")
    with pytest.raises(
        ImageError, match="2 of them, the first at T 1, C 0, Z 2, Y 3, X 4"
    ):
        measure(stack, [rule])
    scaling = measure(stack, [rule], nan="zero")
    clean = np.where(np.isfinite(values), values, 0).swapaxes(0, 1)
    assert 1 / scaling.gain[0] == pytest.approx(clean[0].std(dtype="f8") + 1e-6)
    np.testing.assert_allclose(scaled(stack, scaling), scaling.apply(clean))
    assert "2 NaN" in scaling.notes[0]


def test_nan_without_a_statistic_is_met_when_applied():
    values = image("f4")[:, :1]
    values[0, 0, 0, 0, 0] = np.nan
    stack = open_image(values, axes="TCZYX")
    with pytest.raises(ImageError, match="NaN"):
        scaled(stack, measure(stack, [Normalization()]))
    assert (
        scaled(stack, measure(stack, [Normalization()], nan="zero"))[0, 0, 0, 0, 0] == 0
    )


def test_float64_that_overflows_is_refused():
    values = np.array([[[1e300, 1.0]]])
    scaling = measure(open_image(values, axes="CYX"), [Normalization()])
    with pytest.raises(ImageError, match="infinite"):
        scaling.apply(values)


class Untouchable:
    shape, dtype = (10, 10), np.dtype("f4")

    def __getitem__(self, index):
        raise AssertionError("read")


def test_nothing_is_read_where_no_statistic_is_needed():
    stack = ImageStack(Untouchable(), "YX")
    assert measure(stack, [Normalization(kind="linear", gain=3.0)]).gain == (3.0,)
    with pytest.raises(ImageError):
        measure(stack, [Normalization(kind="minmax")])


def test_cancel():
    token = CancelToken()
    token.set()
    stack = open_image(image(), axes="TCZYX")
    with pytest.raises(Stopped):
        measure(stack, [Normalization(kind="minmax")], cancel=token)


def test_scaling_crosses_a_pipe_and_is_json():
    scaling = Scaling((2.0,), (1.0,), (False,), "zero", ("note",))
    assert pickle.loads(pickle.dumps(scaling)) == scaling
    assert scaling.to_json() == {
        "gain": [2.0], "offset": [1.0], "clip": [False], "nan": "zero",
    }  # fmt: skip


class Chunked(Untouchable):
    def __init__(self, shape, chunks):
        self.shape, self.chunks = shape, chunks


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_blocks_cover_every_pixel_once(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=4)))
    chunks = tuple(data.draw(st.integers(1, 12)) for _ in shape)
    most = data.draw(st.integers(1, 200))
    array = data.draw(st.sampled_from([np.zeros(shape), Chunked(shape, chunks)]))
    count = np.zeros(shape, int)
    for region in blocks(ImageStack(array, "TZYX"[-len(shape) :]), most):
        part = tuple(region.values())
        assert count[part].size <= most
        count[part] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("kind", ["zscore", "minmax", "percentile"])
def test_a_part_stands_for_a_large_stack(monkeypatch, kind):
    draw = np.random.default_rng(0)
    pixels = draw.normal(100, 20, (60, 2, 64, 64)).astype(np.float32)
    pixels[:, 1] *= 3
    whole = measure(ImageStack(pixels, "ZCYX"), [Normalization(kind=kind)])
    assert not whole.notes
    monkeypatch.setattr(survey, "MOST_PIXELS", pixels.size - 1)
    monkeypatch.setattr(survey, "SAMPLE", pixels.size // 4)
    monkeypatch.setattr(blocks, "__defaults__", (64 * 64,))
    read = []
    stack = ImageStack(pixels, "ZCYX")
    original = ImageStack.read

    def noted(stack, box, order):
        read.append(box)
        return original(stack, box, order)

    monkeypatch.setattr(ImageStack, "read", noted)
    part = measure(stack, [Normalization(kind=kind)])
    seen = {(box["Z"].start, box["C"].start) for box in read}
    assert len(seen) == 30
    assert {c for _, c in seen} == {0, 1}
    assert "25 %" in part.notes[0]
    tolerance = 0.3 if kind == "minmax" else 0.02
    np.testing.assert_allclose(part.gain, whole.gain, rtol=tolerance)
    assert measure(stack, [Normalization(kind=kind)]).gain == part.gain
