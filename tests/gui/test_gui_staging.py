"""Pixels on their way to the computing process."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.events import CancelToken
from napari_unet.gui import staging
from napari_unet.gui.staging import Staging, StagingStopped, blocks, copy


def put(folder, data, shares=None):
    record = shares.append if shares is not None else (lambda share: None)
    return Staging(folder).path_of(data, CancelToken(), record)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
    st.sampled_from([1, 1 << 22, 1 << 24]),
)
def test_blocks_cover_every_voxel_once(shape, itemsize):
    hits = np.zeros(shape, int)
    for index in blocks(tuple(shape), itemsize):
        hits[index] += 1
    assert (hits == 1).all()


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 4, 5)])
def test_copy_is_equal(tmp_path, shape):
    data = np.random.default_rng(0).random(shape)
    path = tmp_path / "a.npy"
    copy(data, path, CancelToken(), lambda share: None)
    stored = np.load(path)
    assert stored.shape == shape
    if shape:
        np.testing.assert_array_equal(stored, data)


def test_lazy_arrays_are_copied_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "_BLOCK", 100)
    data = da.from_array(np.arange(600, dtype="u1").reshape(6, 10, 10), chunks=3)
    shares = []
    stored = np.load(put(tmp_path, data, shares))
    np.testing.assert_array_equal(stored, data.compute())
    assert shares == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


def test_unchanged_array_is_copied_once(tmp_path):
    files, data = Staging(tmp_path), np.ones((4, 5))
    arguments = (CancelToken(), lambda share: None)
    first = files.path_of(data, *arguments)
    assert files.path_of(data, *arguments) == first
    data[3, 4] = 7
    second = files.path_of(data, *arguments)
    assert second != first
    assert np.load(second)[3, 4] == 7
    assert not first.exists()


def test_copy_goes_with_its_array(tmp_path):
    files, data = Staging(tmp_path), np.ones((4, 5))
    arguments = (CancelToken(), lambda share: None)
    first = files.path_of(data, *arguments)
    del data
    second = files.path_of(np.zeros(3), *arguments)
    assert list(tmp_path.iterdir()) == [second]
    assert not first.exists()


def test_mapped_file_is_used_as_it_is(tmp_path):
    np.save(tmp_path / "stack.npy", np.arange(12).reshape(3, 4))
    data = np.load(tmp_path / "stack.npy", mmap_mode="r")
    assert put(tmp_path / "private", data) == tmp_path / "stack.npy"


def test_part_of_a_mapped_file_is_copied(tmp_path):
    np.save(tmp_path / "stack.npy", np.arange(12).reshape(3, 4))
    data = np.load(tmp_path / "stack.npy", mmap_mode="r")[:, ::2]
    np.testing.assert_array_equal(np.load(put(tmp_path, data)), data)


def test_stopped_copy_leaves_nothing(tmp_path):
    token = CancelToken()
    token.set()
    with pytest.raises(StagingStopped):
        copy(np.ones(3), tmp_path / "a.npy", token, lambda share: None)
    assert not list(tmp_path.iterdir())
