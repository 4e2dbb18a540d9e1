"""Files of more than 4 GiB, and compressions that nothing here decodes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_unet.errors import ImageError
from napari_unet.images.readers import open_image

PLANE = (1 << 15, 1 << 15)
"""1 GiB of bytes; the files here have holes, so they take hardly any disk."""


@pytest.fixture
def sparse(tmp_path):
    """A folder on which files may have holes."""
    path = tmp_path / "holes"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("files here have no holes")
    path.unlink()
    return tmp_path


def put(path, place, values):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(values.tobytes())


def check_far(path, mark, planes):
    """Marks in the first and in the last plane are found again, and nothing else."""
    with open_image(path) as stack:
        assert stack.axes == "ZYX"
        assert stack.shape == (planes, *PLANE)
        for z in (0, planes - 1):
            found = stack.read({"Z": z, "Y": slice(99, 103), "X": slice(7, 20)}, "YX")
            np.testing.assert_array_equal(found[1, 1:4], mark + z)
            assert np.count_nonzero(found) == 3


def test_a_big_tiff_of_five_gibibytes(sparse):
    path, mark = sparse / "a.tif", np.array([1, 2, 3], np.uint8)
    shape = (5, *PLANE)
    facts = {"bigtiff": True, "metadata": {"axes": "ZYX"}, "photometric": "minisblack"}
    tifffile.imwrite(path, shape=shape, dtype=np.uint8, **facts)
    with tifffile.TiffFile(path) as tif:
        begin = tif.series[0].dataoffset
    for z in (0, 4):
        put(path, begin + ((z * PLANE[0] + 100) * PLANE[1] + 8), mark + z)
    assert path.stat().st_size > 1 << 32
    check_far(path, mark, 5)


def test_an_imagej_hyperstack_of_more_than_four_gibibytes(sparse):
    """ImageJ writes one page of an ordinary TIFF, and all other planes behind it."""
    path, mark = sparse / "a.tif", np.array([1, 2, 3], np.uint8)
    shape = (1, *PLANE)
    facts = {"imagej": True, "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, shape=shape, dtype=np.uint8, **facts)
    with tifffile.TiffFile(path, mode="r+") as tif:
        begin = tif.pages[0].dataoffsets[0]
        tag = tif.pages[0].tags["ImageDescription"]
        text = "ImageJ=1.54f\nimages=5\nslices=5\n"
        tag.overwrite(text.ljust(len(tag.value), "\n"))
    with path.open("r+b") as file:
        file.truncate(begin + 5 * PLANE[0] * PLANE[1])
    for z in (0, 4):
        put(path, begin + ((z * PLANE[0] + 100) * PLANE[1] + 8), mark + z)
    check_far(path, mark, 5)


@pytest.fixture
def odd(tmp_path):
    """Write a TIFF file with some compression."""

    def odd(compression):
        path = tmp_path / "a.tif"
        pixels = np.arange(400, dtype=np.uint8).reshape(20, 20)
        tifffile.imwrite(path, pixels, compression="zlib")
        with tifffile.TiffFile(path, mode="r+") as tif:
            tif.pages[0].tags["Compression"].overwrite(compression)
        return path

    return odd


def test_a_codec_that_is_not_installed_is_named(odd, monkeypatch):
    path = odd(34887)
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", SimpleNamespace())
    monkeypatch.delitem(tifffile.TIFF.DECOMPRESSORS._codecs, 34887, raising=False)
    with pytest.raises(ImageError, match=r"LERC.*requires the 'imagecodecs'"):
        open_image(path)


def test_a_codec_that_was_left_out_of_its_package_is_named(odd, monkeypatch):
    def lacking(*_args, **_kwargs):
        raise ImportError("could not import name 'lerc_decode' from 'imagecodecs'")

    monkeypatch.setitem(tifffile.TIFF.DECOMPRESSORS._codecs, 34887, lacking)
    with open_image(odd(34887)) as stack:
        with pytest.raises(ImageError, match=r"lerc_decode.*Install"):
            stack.read({}, "YX")


def test_an_unknown_compression_is_named(odd):
    with pytest.raises(ImageError, match="31337"):
        open_image(odd(31337))
