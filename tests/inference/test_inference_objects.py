"""Objects found slab by slab against those of the whole frame."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.errors import UsageError
from napari_unet.inference import objects
from napari_unet.inference.objects import RowQueue, Slabs
from napari_unet.networks.spec import ModelSpec
from napari_unet.tasks.task import task_of

NUCLEI = task_of(
    ModelSpec(name="n", ndim=3, in_channels=1, out_channels=3, task="instances")
)
CLASSES = task_of(ModelSpec(name="c", ndim=3, in_channels=1, out_channels=3))


def nuclei(planes: int, seed: int = 0, tube: bool = False) -> np.ndarray:
    """Evidence of crowded nuclei, some of which touch; or with a tube through all."""
    draw = np.random.default_rng(seed)
    shape = (planes, 48, 48)
    truth = np.zeros(shape, np.int32)
    grid = np.indices(shape)
    for number in range(1, planes // 2):
        centre = draw.uniform((0, 0, 0), shape)
        radii = draw.uniform(3, 7, 3)
        low = np.maximum(centre - 8, 0).astype(int)
        box = tuple(slice(a, a + 17) for a in low)
        away = sum(((grid[n][box] - centre[n]) / radii[n]) ** 2 for n in range(3))
        truth[box][(away < 1) & (truth[box] == 0)] = number
    if tube:
        truth[:, 20:24, 20:24] = planes
    inside = np.zeros(shape, bool)
    for number, box in enumerate(ndimage.find_objects(truth), 1):
        if box is not None:
            wide = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
            inside[wide] |= ndimage.binary_erosion(truth[wide] == number)
    edge = (truth > 0) & ~inside
    noise = draw.uniform(0, 0.05, (2, *shape))
    evidence = np.stack([0.8 * inside + 0.1 * edge, 0.05 * inside + 0.8 * edge])
    return (evidence + noise * (truth > 0)).astype(np.float32)


def classes(planes: int) -> np.ndarray:
    """Evidence of two classes of blobs."""
    draw = np.random.default_rng(1)
    smooth = ndimage.gaussian_filter(draw.normal(size=(planes, 40, 40)), 2)
    spread = smooth.std()
    found = (smooth > spread).astype(np.uint8)
    found[smooth > 1.7 * spread] = 2
    return found[None]


def in_slabs(task, evidence: np.ndarray, step: int) -> tuple[np.ndarray, Slabs]:
    """Feed rows and put together what leaves."""
    slabs = Slabs(task, 0.5, evidence.shape[1], 0)
    found = np.zeros(evidence.shape[1:], np.uint32)
    row = 0
    for start in range(0, evidence.shape[1], step):
        for first, numbers in slabs.add(evidence[:, start : start + step]):
            assert first == row
            row += len(numbers)
            found[first:row] = numbers
    assert row == evidence.shape[1]
    return found, slabs


def assert_same_objects(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal but for the names."""
    pairs = np.unique(np.stack([found.ravel(), wanted.ravel()]), axis=1)
    for side in pairs:
        assert len(np.unique(side)) == pairs.shape[1]
    assert (0 in found) == (0 in wanted)
    assert ((found == 0) == (wanted == 0)).all()


@pytest.fixture
def small(monkeypatch):
    """Slabs of a few planes."""

    def act(pixels: int, limit: int = 8) -> None:
        monkeypatch.setattr(objects, "SLAB", pixels)
        monkeypatch.setattr(objects, "LIMIT", limit)

    return act


@pytest.mark.parametrize("step", [1, 7, 64, 300])
@pytest.mark.parametrize("planes", [1, 12])
def test_nuclei_of_300_planes(small, step: int, planes: int) -> None:
    small(planes * 48 * 48, 10_000)
    evidence = nuclei(300)
    whole = NUCLEI.separate(evidence, 0.5)
    assert whole.max() > 80
    found, slabs = in_slabs(NUCLEI, evidence, step)
    assert_same_objects(found, whole)
    assert not slabs.was_cut


def test_classes(small) -> None:
    small(10 * 40 * 40, 10_000)
    evidence = classes(120)
    found, _ = in_slabs(CLASSES, evidence, 5)
    assert_same_objects(found, CLASSES.separate(evidence, 0.5))


def test_a_tube_through_all_planes_stays_one(small) -> None:
    """It is longer than may be held; nuclei beside it are those of the whole."""
    small(20 * 48 * 48, 3)
    evidence = nuclei(300, tube=True)
    whole = NUCLEI.separate(evidence, 0.5)
    found, slabs = in_slabs(NUCLEI, evidence, 10)
    assert slabs.was_cut
    tube = whole[150, 22, 22]
    name = found[150, 22, 22]
    assert (found[:, 22, 22] == name).all()
    assert ((found == name) == (whole == tube)).mean() > 0.999
    assert ((found == 0) == (whole == 0)).all()
    same = sum(
        len(np.unique(found[whole == number])) == 1
        and (found == found[whole == number][0]).sum() == (whole == number).sum()
        for number in range(1, whole.max() + 1)
    )
    assert same >= 0.95 * whole.max()


def test_no_object_is_cut_in_two(small) -> None:
    """Two tubes that touch nothing keep one number each through many cuts."""
    small(8 * 20 * 20, 2)
    truth = np.zeros((200, 20, 20), np.uint8)
    truth[:, 3:6, 3:6] = 1
    truth[:, 12:15, 12:15] = 1
    found, slabs = in_slabs(CLASSES, truth[None], 3)
    assert slabs.was_cut
    assert_same_objects(found, CLASSES.separate(truth[None], 0.5))


def test_nothing_and_everything(small) -> None:
    small(100)
    for fill in (0, 1):
        evidence = np.full((1, 30, 5, 5), fill, np.uint8)
        found, _ = in_slabs(CLASSES, evidence, 4)
        assert_same_objects(found, CLASSES.separate(evidence, 0.5))


def test_memory_does_not_know_the_length(small) -> None:
    small(16 * 48 * 48)
    evidence = nuclei(60)
    peaks = []
    for repeats in (2, 12):
        slabs = Slabs(NUCLEI, 0.5, 60 * repeats, 0)
        tracemalloc.start()
        for _ in range(repeats):
            for start in range(0, 60, 10):
                for _ in slabs.add(evidence[:, start : start + 10]):
                    pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_blocks_in_any_order_become_rows_in_order(data) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=3)))
    image = np.arange(np.prod(shape)).reshape(1, *shape)
    cuts = [
        sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=2))})
        for n in shape
    ]
    places = list(
        itertools.product(
            *([slice(a, b) for a, b in itertools.pairwise(c)] for c in cuts)
        )
    )
    queue, rows = RowQueue(shape), []
    for place in data.draw(st.permutations(places)):
        ready = queue.add(place, image[(slice(None), *place)])
        if ready is not None:
            rows.append(ready)
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), image)


def test_rows_that_do_not_fit_are_told(monkeypatch) -> None:
    monkeypatch.setattr(objects, "free_memory", lambda _: 1000)
    queue = RowQueue((100, 100))
    with pytest.raises(UsageError, match="Objects are found in whole rows"):
        queue.add((slice(0, 50), slice(0, 50)), np.zeros((1, 50, 50)))


def test_predict_gives_the_objects_of_the_whole(
    make_network, noise, run, small
) -> None:
    network = make_network(task="instances", out_channels=3)
    image = noise(3, 260, 70)
    whole = run(image, "TYX", network, kind="instances", tiling="whole")
    small(16 * 70)
    for tiling in ("stream", "exact"):
        found = run(
            image, "TYX", network, kind="instances", tiling=tiling,
            tile=(64,) if tiling == "exact" else None,
        )  # fmt: skip
        assert_same_objects(found, whole)
        assert len(np.unique(found)) == len(np.unique(whole))
