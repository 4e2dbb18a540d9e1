"""TIFF reading against numpy and tifffile, with files made here."""

from __future__ import annotations

import os
import struct
import threading

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet.errors import ImageError, UsageError
from napari_unet.images import checks
from napari_unet.images.readers import open_image
from napari_unet.images.segments import SegmentCache


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 4000, (3, 4, 70, 90), np.uint16)


LAYOUTS = {
    "contiguous": {},
    "strips": {"compression": "zlib", "rowsperstrip": 16},
    "tiles": {"compression": "zstd", "tile": (32, 48), "predictor": True},
    "plain tiles": {"tile": (32, 32)},
    "whole pages": {"compression": "lzw"},
}


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_regions_equal_numpy(tmp_path, pixels, layout, byteorder):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        pixels,
        ome=True,
        byteorder=byteorder,
        metadata={"axes": "TZYX"},
        **LAYOUTS[layout],
    )
    with open_image(path) as stack:
        assert stack.axes == "TZYX"
        region = {"T": 2, "Z": slice(1, 3), "Y": slice(13, 41), "X": slice(30, 90)}
        found = stack.read(region, "XZY")
        np.testing.assert_array_equal(
            found, pixels[2, 1:3, 13:41, 30:90].transpose(2, 0, 1)
        )
        assert found.dtype == np.dtype("uint16")
        assert found.flags.c_contiguous
        assert found.flags.owndata


def test_plain_pages_that_do_not_touch(tmp_path, pixels):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane in pixels[0]:
            tif.write(plane, contiguous=False, metadata=None, rowsperstrip=8)
    with open_image(path, axes="ZYX") as stack:
        np.testing.assert_array_equal(stack.read({}, "ZYX"), pixels[0])
        np.testing.assert_array_equal(
            stack.read({"Z": slice(1, 2), "Y": slice(3, 9)}, "YXZ")[..., 0],
            pixels[0, 1, 3:9],
        )
    with pytest.raises(ImageError, match="--axes"):
        open_image(path)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_region_in_any_order(tmp_path, pixels, data):
    path = tmp_path / "a.ome.tif"
    if not path.exists():
        tifffile.imwrite(
            path,
            pixels,
            ome=True,
            tile=(32, 32),
            compression="zlib",
            metadata={"axes": "TZYX"},
        )
    source = data.draw(st.sampled_from([path, pixels]))
    index = {}
    for axis, size in zip("TZYX", pixels.shape, strict=True):
        start = data.draw(st.integers(0, size))
        index[axis] = slice(start, data.draw(st.integers(start, size)))
    order = "".join(data.draw(st.permutations("TZCYX")))
    with open_image(source, axes="TZYX") as stack:
        found = stack.read(index, order)
    expected = pixels[tuple(index[a] for a in "TZYX")][:, :, np.newaxis]
    expected = expected.transpose(["TZCYX".index(a) for a in order])
    np.testing.assert_array_equal(found, expected)


def test_threads_read_the_same(tmp_path, pixels):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, pixels, ome=True, compression="zlib", metadata={"axes": "TZYX"}
    )
    wrong = []
    with open_image(path) as stack:

        def read(seed):
            for t in np.random.default_rng(seed).integers(0, 3, 20):
                found = stack.read({"T": int(t)}, "ZYX")
                if not np.array_equal(found, pixels[t]):
                    wrong.append(int(t))

        threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_cache_is_bounded_and_keeps_the_newest():
    cache, decoded = SegmentCache(limit=100), []

    def segment(number, size):
        def decode():
            decoded.append(number)
            return np.zeros(size, np.uint8)

        return cache.get((0, number), decode)

    for number in (0, 1, 0, 2, 0):  # 40 bytes each: two fit
        segment(number, 40)
    assert decoded == [0, 1, 2]
    segment(3, 500)
    segment(3, 500)
    segment(0, 40)
    assert decoded == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_truncated_stack_is_refused(tmp_path, pixels, share, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels[0], photometric="minisblack", metadata={"axes": "ZYX"}, **options
    )
    held = path.stat().st_size
    os.truncate(path, int(held * share))
    with pytest.raises(ImageError, match=r"cut off|incomplete|could not be read|lacks"):
        open_image(path)


def test_truncated_chain_of_pages_is_refused(tmp_path, pixels):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane in pixels[0]:
            tif.write(plane, contiguous=False, metadata=None, compression="zlib")
    os.truncate(path, int(path.stat().st_size * 0.6))
    with pytest.raises(ImageError):
        open_image(path, axes="ZYX")


def test_pyramid_reads_level_0(tmp_path, pixels):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(pixels[0], subifds=1, tile=(32, 32), metadata={"axes": "ZYX"})
        tif.write(pixels[0, :, ::2, ::2], subfiletype=1, tile=(32, 32))
    with open_image(path) as stack:
        np.testing.assert_array_equal(stack.read({}, "ZYX"), pixels[0])


def test_rgba_and_planar_rgb(tmp_path):
    colours = np.random.default_rng(1).integers(0, 255, (20, 30, 4), np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, colours, photometric="rgb", extrasamples=["unassalpha"])
    with open_image(path) as stack:
        assert stack.axes == "YXC"
        np.testing.assert_array_equal(
            stack.read({}, "CYX"), colours[..., :3].transpose(2, 0, 1)
        )
        np.testing.assert_array_equal(
            stack.read({"C": 1, "Y": slice(3, 5)}, "YX"), colours[3:5, :, 1]
        )
        assert any("alpha" in note for note in stack.notes)


def test_imagej_names_and_sizes(tmp_path, pixels):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        pixels,
        imagej=True,
        resolution=(4.0, 5.0),
        metadata={"axes": "TZYX", "spacing": -0.5, "unit": "micron", "finterval": 3.0},
    )
    with open_image(path) as stack:
        assert stack.axes == "TZYX"
        assert stack.scale == pytest.approx({"X": 0.25, "Y": 0.2, "Z": 0.5, "T": 3.0})
        assert stack.units == {"X": "µm", "Y": "µm", "Z": "µm", "T": "s"}


def test_user_axes_replace_and_sizes_stay_only_where_they_hold(tmp_path, pixels):
    path = tmp_path / "a.ome.tif"
    facts = {"axes": "TZYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, pixels, ome=True, metadata=facts)
    with open_image(path, axes="ZTYX") as stack:
        assert stack.axes == "ZTYX"
        assert stack.scale == {"X": 0.5}
    with pytest.raises(UsageError, match="2 letters"):
        open_image(path, axes="YX")


def test_a_single_page_can_be_a_stack_of_one(tmp_path, pixels):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels[0, 0], ome=True)
    with open_image(path, axes="TZCYX") as stack:
        assert stack.shape == (1, 1, 1, 70, 90)
        np.testing.assert_array_equal(
            stack.read({}, "YXTZC")[..., 0, 0, 0], pixels[0, 0]
        )


def test_header_that_lies_about_its_size(tmp_path):
    count = 2**31 - 1
    tags = [
        (256, 4, count), (257, 4, count), (258, 3, 8), (259, 3, 1), (262, 3, 1),
        (273, 4, 122), (277, 3, 1), (278, 4, count), (279, 4, 16),
    ]  # fmt: skip
    ifd = struct.pack("<H", len(tags))
    ifd += b"".join(struct.pack("<HHII", c, k, 1, v) for c, k, v in tags)
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + ifd + bytes(20))
    with pytest.raises(ImageError, match="declares more pixels"):
        open_image(path)


@pytest.mark.parametrize("free", [10**6, 10**12])
def test_large_strip_needs_memory(tmp_path, monkeypatch, free):
    path = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(0, 9, (4200, 4200), np.uint8)
    tifffile.imwrite(path, values, compression="zlib", rowsperstrip=4200)
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: Memory(free))
    if free < values.nbytes:
        with pytest.raises(ImageError, match="does not fit in memory"):
            open_image(path)
    else:
        with open_image(path) as stack:
            assert stack.read({"Y": 7}, "X")[11] == values[7, 11]


class Memory:
    def __init__(self, available):
        self.available = available


def test_every_decoder_error_is_one_error(tmp_path, pixels):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels[0, 0], compression="zlib", rowsperstrip=16)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[2]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 40)
    with open_image(path) as stack:
        stack.read({"Y": slice(0, 16)}, "YX")
        with pytest.raises(ImageError, match=r"Page 1 of a.tif"):
            stack.read({}, "YX")


def test_sparse_tiles_read_as_fill(tmp_path):
    path = tmp_path / "a.tif"
    tile = np.full((16, 16), 5, np.uint8)
    tifffile.imwrite(
        path, iter([tile, None, None, tile]), shape=(32, 32), dtype=np.uint8,
        tile=(16, 16),
    )  # fmt: skip
    with open_image(path) as stack:
        found = stack.read({}, "YX")
    np.testing.assert_array_equal(found, tifffile.imread(path))
    assert found[0, 0] == found[31, 31] == 5
    assert found[0, 31] == 0
