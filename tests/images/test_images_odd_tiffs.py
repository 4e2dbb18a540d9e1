"""Every odd TIFF ends in a right result or in one clear error."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile
from shared import ROOT, shared

from napari_unet.errors import ImageError
from napari_unet.images.readers import open_image

INDEX = ROOT / "data" / "odd_tiffs" / "index.csv"

REFUSED = {
    "3d_monolayer_xy1_ch2_labels.tiff": "--axes",
    "child_ifd.tiff": "several images",
    "subsubifds.tif": "--axes",
    "BigTIFFSubIFD4.tif": "--axes",
    "palette-1c-4b.tiff": "indexed colours",
    "flower-separated-contig-08.tif": "CMYK",
    "test_orient4.tif": "orientation 4",
    "multipage-mmap.tiff": "several images",
    "logluv-3c-16b.tiff": "colour system",
    "ycbcr-cat.tif": "YCbCr",
    "zackthecat.tif": "Page 1",
    "zero_gi.tif": "empty axis Y",
    "libtiff_segfault.tif": "declares more pixels",
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "corrupted",
    "multipage_single_frame_loop.tiff": "indexed colours",
    "crash-0c7e0e8e11ce787078f00b5b0ca409a167f070e0.tif": "cut off",
    "crash-63b1dffefc8c075ddc606c0a2f5fdc15ece78863.tif": "missing",
    "00r01.lsm": "no image",
    "error.tif": "found text",
    "fuzz_0004.tif": "could not be read",
    "m1-336db1cd76254717eb50a8602b651fbf.tif": "198",
    "fuzz_0122.tif": "cut off",
    "made/two_series.ome.tif": "several images",
    "made/truncated.tif": "cut off",
    "made/empty.tif": "an empty file",
}


def rows() -> list[dict[str, str]]:
    if not INDEX.exists():
        return []
    with INDEX.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.real
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["file"])
def test_every_odd_tiff(row):
    path = shared("data", "odd_tiffs", row["file"])
    if row["file"] in REFUSED:
        with pytest.raises(ImageError, match=REFUSED[row["file"]]):
            with open_image(path) as stack:
                stack.read({}, stack.axes)
        return
    with open_image(path) as stack:
        assert "x".join(map(str, stack.shape)) == row["imread_shape"]
        assert stack.dtype == row["imread_dtype"]
        if not row["min"]:
            corner = {"Y": slice(4700, 5000), "X": slice(9000, 10000)}
            pixels = stack.read(corner, stack.axes)
            reference = tifffile.imread(path)[4700:5000, 9000:10000]
        else:
            pixels, reference = stack.read({}, stack.axes), tifffile.imread(path)
        np.testing.assert_array_equal(pixels, reference)
        assert pixels.size


@pytest.mark.real
def test_index_is_there():
    shared("data", "odd_tiffs")
    assert len(rows()) == 56


@pytest.mark.real
def test_axes_by_hand():
    path = shared("data", "odd_tiffs", "3d_monolayer_xy1_ch2_labels.tiff")
    with open_image(path, axes="zyx") as stack:
        assert (stack.axes, stack.shape) == ("ZYX", (60, 256, 256))
        part = {"Z": slice(20, 23), "Y": slice(100, 140), "X": 50}
        reference = tifffile.imread(path)[20:23, 100:140, 50]
        np.testing.assert_array_equal(stack.read(part, "YZ"), reference.T)


@pytest.mark.real
def test_alpha_is_dropped_with_a_note():
    path = shared("data", "odd_tiffs", "subsubifds.tif")
    with open_image(path, axes="ZYXS") as stack:
        assert (stack.axes, stack.shape) == ("ZYXC", (6, 32, 32, 1))
        assert any("alpha" in note for note in stack.notes)
        np.testing.assert_array_equal(
            stack.read({}, "ZYXC"), tifffile.imread(path)[..., :1]
        )


@pytest.mark.real
@pytest.mark.parametrize("series", ["B", 1, "1"])
def test_series_by_name_and_number(series):
    path = shared("data", "odd_tiffs", "made", "two_series.ome.tif")
    with open_image(path, series=series) as stack:
        assert (stack.axes, stack.shape) == ("ZYX", (6, 40, 50))
        reference = tifffile.imread(path, series=1)
        np.testing.assert_array_equal(stack.read({}, "ZYX"), reference)
    with pytest.raises(ImageError, match="no single series"):
        open_image(path, series="C")


@pytest.mark.real
def test_physical_sizes_of_real_files():
    folder = shared("data", "odd_tiffs")
    with open_image(folder / "made" / "ij_tzcyx.tif") as stack:
        assert stack.scale == pytest.approx({"X": 0.127, "Y": 0.127, "Z": 0.284}, 1e-3)
        assert set(stack.units.values()) == {"µm"}
    with open_image(folder / "neuron-4Ch_labels.tiff") as stack:
        assert stack.channel_names == ("DAPI", "FTN", "NCOA4", "PHALL")
        assert stack.scale["X"] == pytest.approx(0.12408, 1e-4)
    with open_image(folder / "3d_c.tif") as stack:
        assert stack.units == {"X": "µm", "Y": "nm", "Z": "cm"}
    with open_image(folder / "2d_zero_division.tif") as stack:
        assert stack.scale == {}
        assert any("ignored" in note for note in stack.notes)
