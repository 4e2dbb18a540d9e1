from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from napari_unet.inference.blending import RollingSum, weigh
from napari_unet.inference.overlapping import bell, patch_spans
from napari_unet.inference.tiling import (
    Grid,
    exact_spans,
    exact_tile,
    mirror,
    whole_span,
)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    stride = draw(st.integers(1, 24))
    margin = draw(st.sampled_from([0, 0, 5, 92]))
    halo = st.integers(0, 100)
    remainder = draw(st.integers(0, stride - 1)) if margin else 0
    return Grid(stride, draw(halo), draw(halo), margin, remainder)


@st.composite
def targets(draw: st.DrawFn, size: int) -> tuple[int, int]:
    start = draw(st.integers(0, size - 1))
    return start, draw(st.integers(start + 1, size))


def written(spans: tuple) -> list[int]:
    return [p for s in spans for p in range(*s.write)]


@settings(max_examples=200, deadline=None)
@given(st.data(), grids(), st.integers(1, 700), st.integers(1, 12))
def test_exact_tiles_cover_once_and_see_enough(
    data: st.DataObject, grid: Grid, size: int, count: int
) -> None:
    target = data.draw(st.one_of(st.just((0, size)), targets(size)))
    tile = exact_tile(grid, size, target, count)
    spans = exact_spans(grid, size, tile, target)
    padded = grid.fit(size)
    assert written(spans) == list(range(*target))
    assert len(spans) <= count or tile == grid.smallest
    for span in spans:
        start, stop = span.read[0] + grid.margin, span.read[1] - grid.margin
        assert 0 <= start < stop <= padded
        assert start % grid.stride == 0
        assert (stop - start) % grid.stride == grid.remainder
        assert stop - start == span.length == spans[0].length
        first = span.write[0] // grid.stride * grid.stride
        last = -(-span.write[1] // grid.stride) * grid.stride
        assert start == 0 or first - grid.before >= span.read[0]
        assert stop == padded or last + grid.after <= span.read[1]
        kept = np.arange(start, stop)[span.crop]
        assert (kept[0], kept[-1] + 1) == span.write


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    grids(),
    st.integers(1, 700),
    st.integers(1, 300),
    st.floats(0, 0.9),
    st.sampled_from(["gaussian", "hann", "linear"]),
)
def test_blend_windows_sum_to_one(
    data: st.DataObject, grid: Grid, size: int, tile: int, overlap: float, window: str
) -> None:
    target = data.draw(st.one_of(st.just((0, size)), targets(size)))
    spans, windows = patch_spans(grid, size, tile, overlap, target, window)
    total = np.zeros(size)
    for span, window in zip(spans, windows, strict=True):
        total[slice(*span.write)] += window
        start = span.read[0] + grid.margin
        assert start % grid.stride == 0
        assert span.length % grid.stride == grid.remainder
        assert 0 <= start <= start + span.length <= grid.fit(size)
        assert (window > 0).all()
    np.testing.assert_allclose(total[slice(*target)], 1, atol=1e-6)
    assert total[: target[0]].sum() == total[target[1] :].sum() == 0
    starts = [span.write[0] for span in spans]
    assert starts == sorted(starts)


WEIGHTS = {
    "gaussian": lambda n: signal.windows.gaussian(n, n / 8),
    "hann": lambda n: signal.windows.hann(2 * n + 1)[1::2],
    "linear": lambda n: n * signal.windows.bartlett(2 * n + 1)[1::2] / 2,
}
"""scipy's windows, which end in 0, at the middles of pixels."""


@pytest.mark.parametrize("window", ["gaussian", "hann", "linear"])
@pytest.mark.parametrize("length", [1, 2, 16, 65])
def test_windows_have_the_shapes_of_their_names(window: str, length: int) -> None:
    np.testing.assert_allclose(bell(window, length), WEIGHTS[window](length), 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(grids(), st.integers(1, 60), st.integers(1, 40), st.floats(0, 0.9)),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["gaussian", "hann", "linear"]),
)
def test_blending_equals_a_sum_over_a_count_map(axes: list, window: str) -> None:
    """The usual way: add weighted patches, count the weights, divide."""
    found = [patch_spans(g, n, t, o, window=window) for g, n, t, o in axes]
    shape = [n for _, n, _, _ in axes]
    rng = np.random.default_rng(0)
    blended, total, count = np.zeros(shape, "f4"), np.zeros(shape), np.zeros(shape)
    for tile in itertools.product(*(zip(*f, strict=True) for f in found)):
        spans, parts = zip(*tile, strict=True)
        place = tuple(slice(*s.write) for s in spans)
        weight = np.ones(())
        for span in spans:
            weights = bell(window, span.length)[span.crop]
            weight = np.multiply.outer(weight, weights)
        values = rng.normal(size=weight.shape).astype("f4")
        total[place] += values * weight
        count[place] += weight
        blended[place] += weigh(values[None], parts)[0]
    np.testing.assert_allclose(blended, total / count, atol=1e-5)


def test_part_of_a_blend_has_the_patches_and_weights_of_the_whole() -> None:
    grid = Grid(8, 20, 20)
    spans, windows = patch_spans(grid, 331, 64, 0.25)
    weight = {s.read: (s, w) for s, w in zip(spans, windows, strict=True)}
    for span, window in zip(*patch_spans(grid, 331, 64, 0.25, (101, 137)), strict=True):
        whole, all_weights = weight[span.read]
        inside = slice(span.write[0] - whole.write[0], span.write[1] - whole.write[0])
        np.testing.assert_array_equal(window, all_weights[inside])


def test_tiles_of_2048_pixels_are_as_long_as_computed_by_hand() -> None:
    grid = Grid(16, 92, 92)
    assert exact_tile(grid, 2048, (0, 2048), 2) == 1120
    assert [s.read for s in exact_spans(grid, 2048, 1120)] == [(0, 1120), (928, 2048)]
    assert [s.write for s in exact_spans(grid, 2048, 1120)] == [(0, 1024), (1024, 2048)]


def test_the_paper_s_overlap_tile_reads_a_mirrored_margin() -> None:
    grid = Grid(16, 92, 92, 92, 4)
    span = whole_span(grid, 388, (0, 388))
    assert span.read == (-92, 480)
    assert grid.fit(1) == 4


def test_too_small_a_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 112"):
        exact_spans(Grid(16, 44, 44), 1000, 96)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(("before", "after"), [(0, 1), (2, 9), (20, 21)])
def test_mirror_is_numpy_s_reflect(size: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(size), (before, after), mode="reflect")
    np.testing.assert_array_equal(mirror(-before, size + after, size), expected)


def test_rolling_sum_equals_a_sum_in_full() -> None:
    rng = np.random.default_rng(1)
    axes = [
        patch_spans(Grid(4), n, t, 0.5, r)
        for n, t, r in [(50, 16, (3, 47)), (33, 12, (0, 33))]
    ]
    full = np.zeros((2, 50, 33))
    rolling = RollingSum(2, 16, [(3, 47), (0, 33)])
    done = []
    rows, columns = (a[0] for a in axes)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            write = (row.write, column.write)
            block = rng.normal(size=(2, *(b - a for a, b in write))).astype("f4")
            windows = (axes[0][1][i], axes[1][1][j])
            full[:, slice(*row.write), slice(*column.write)] += np.einsum(
                "cyx,y,x->cyx", block, *windows
            )
            rolling.add(weigh(block, windows), write)
        done.append(rolling.pop(rows[i + 1].write[0] if i + 1 < len(rows) else 47))
    assert done[0][0][0][0] == 3
    assert all(a[0][0][1] == b[0][0][0] for a, b in itertools.pairwise(done))
    result = np.concatenate([block for _, block in done], axis=1)
    np.testing.assert_allclose(result, full[:, 3:47], atol=1e-6)
