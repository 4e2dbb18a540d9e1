"""Opening paths, arrays and sources; hostile and missing files."""

from __future__ import annotations

import json
import os
import pickle

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_unet.errors import ImageError, UsageError
from napari_unet.images.readers import is_image, open_image
from napari_unet.images.source import ImageSource
from napari_unet.images.stack import ImageStack

VALUES = np.arange(2 * 3 * 20 * 30, dtype=np.uint16).reshape(2, 3, 20, 30)


def ome_xml(tiff_data, size_z=2):
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        '2016-06"><Image ID="Image:0"><Pixels ID="P:0" DimensionOrder="XYZCT" '
        f'Type="uint8" SizeX="8" SizeY="8" SizeZ="{size_z}" SizeC="1" SizeT="1">'
        f'<Channel ID="C:0" SamplesPerPixel="1"/>{tiff_data}</Pixels></Image></OME>'
    )


def companion(name, plane):
    return (
        f'<TiffData IFD="0" FirstZ="{plane}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{plane}</UUID></TiffData>'
    )


def write_ome(path, tiff_data, value=0, size_z=2, pages=1):
    data = np.full((pages, 8, 8), value, np.uint8)
    with tifffile.TiffWriter(path) as tif:
        for i, page in enumerate(data):
            text = ome_xml(tiff_data, size_z) if i == 0 else None
            tif.write(page, description=text, metadata=None, contiguous=False)


def test_companions_beside_it_are_read(tmp_path):
    data = companion("a.ome.tif", 0) + companion("b.ome.tif", 1)
    write_ome(tmp_path / "a.ome.tif", data, 1)
    write_ome(tmp_path / "b.ome.tif", data, 2)
    with open_image(tmp_path / "a.ome.tif") as stack:
        assert stack.axes == "ZYX"
        np.testing.assert_array_equal(stack.read({}, "ZYX")[:, 0, 0], [1, 2])


@pytest.mark.parametrize("link", [False, True])
def test_companion_outside_is_refused(tmp_path, link):
    folder = tmp_path / "images"
    folder.mkdir()
    write_ome(tmp_path / "secret.tif", "", 9)
    name = "inside.tif" if link else "../secret.tif"
    if link:
        os.symlink(tmp_path / "secret.tif", folder / name)
    write_ome(folder / "a.ome.tif", companion("a.ome.tif", 0) + companion(name, 1))
    with pytest.raises(ImageError, match="outside its folder"):
        open_image(folder / "a.ome.tif")


def test_missing_companion_is_named(tmp_path):
    data = companion("a.ome.tif", 0) + companion("b.ome.tif", 1)
    write_ome(tmp_path / "a.ome.tif", data)
    with pytest.raises(ImageError, match=r"no b.ome.tif beside it"):
        open_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(("size_z", "pages"), [(3, 2), (2, 3)])
def test_metadata_that_contradict_the_pages(tmp_path, size_z, pages):
    data = f'<TiffData IFD="0" PlaneCount="{pages}"/>'
    write_ome(tmp_path / "a.ome.tif", data, size_z=size_z, pages=pages)
    with pytest.raises(ImageError, match=r"(contradicts|lacks).*the series 'pages'"):
        open_image(tmp_path / "a.ome.tif")
    stack = open_image(tmp_path / "a.ome.tif", axes="ZYX", series="pages")
    wanted = tifffile.imread(tmp_path / "a.ome.tif", key=range(pages))
    assert np.array_equal(stack.array[:], wanted)
    assert stack.scale == {}


def test_pages_of_imagej_are_read_as_they_lie(tmp_path):
    path, pixels = tmp_path / "a.tif", np.arange(96, dtype=np.uint16).reshape(8, 3, 4)
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZYX"})
    told = path.read_bytes().replace(b"images=8", b"images=9")
    path.write_bytes(told.replace(b"slices=8", b"slices=9"))
    with pytest.raises(ImageError, match="found 8 pages, expected 9 planes"):
        open_image(path)
    with pytest.raises(ImageError, match="axes"):
        open_image(path, series="pages")
    assert np.array_equal(open_image(path, axes="TYX", series="pages").array[:], pixels)


def test_entities_are_refused(tmp_path):
    bomb = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "b">]>'
    xml = ome_xml('<TiffData IFD="0"/>', 1).replace('<?xml version="1.0"?>', bomb)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), description=xml, metadata=None)
    with pytest.raises(ImageError, match="document type"):
        open_image(path)


def test_no_file_folder_pipe_or_loop_hangs(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    os.symlink(tmp_path / "loop.tif", tmp_path / "loop.tif")
    (tmp_path / "folder.tif").mkdir()
    for name in ("pipe.tif", "loop.tif", "folder.tif", "nothing.tif"):
        assert not is_image(tmp_path / name)
        with pytest.raises(ImageError, match=name):
            open_image(tmp_path / name)
    with pytest.raises(ImageError, match="a pipe"):
        open_image("/dev/null")


def test_content_decides_not_the_name(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VALUES[0, 0])
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    with open_image(tmp_path / "a.png") as stack:
        assert stack.axes == "YX"
    (tmp_path / "b.tif").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with pytest.raises(ImageError, match="a PNG picture"):
        open_image(tmp_path / "b.tif")
    assert is_image(tmp_path / "a.png")
    assert not is_image(tmp_path / "b.tif")


@pytest.mark.parametrize("order", "CF")
def test_npy_is_memory_mapped(tmp_path, order):
    path = tmp_path / "a.npy"
    np.save(path, np.asarray(VALUES, order=order).astype(">u2"))
    with open_image(path, axes="TZYX") as stack:
        assert isinstance(stack.array, np.memmap)
        found = stack.read({"T": 1, "Z": slice(1, 3)}, "ZYX")
        np.testing.assert_array_equal(found, VALUES[1, 1:3])
        assert found.dtype.isnative
    with pytest.raises(ImageError, match="--axes"):
        open_image(path)


def test_npy_that_is_cut_off_or_holds_objects(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, VALUES)
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(ImageError, match="could not be read"):
        open_image(path, axes="TZYX")
    np.save(path, np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(ImageError, match="no real numbers"):
        open_image(path)


def arrays():
    chunked = zarr.create_array({}, shape=VALUES.shape, chunks=(1, 2, 7, 8), dtype="u2")
    chunked[...] = VALUES
    return {
        "numpy": VALUES,
        "strided": np.flip(np.repeat(VALUES, 2, axis=3)[..., ::2], 0)[::-1],
        "dask": da.from_array(VALUES, chunks=(1, 2, 7, 8)),
        "zarr": chunked,
        "big-endian": VALUES.astype(">u2"),
    }


@pytest.mark.parametrize("name", arrays())
def test_arrays_in_memory(name):
    array = arrays()[name]
    stack = open_image(array, axes="TZYX")
    region = {"T": 1, "Z": slice(0, 3), "Y": slice(5, 15), "X": -1, "C": 0}
    found = stack.read(region, "YZC")
    np.testing.assert_array_equal(found[..., 0], VALUES[1, :, 5:15, -1].T)
    assert found.dtype == np.dtype("uint16")
    found[...] = 0  # a copy: the source stays
    np.testing.assert_array_equal(np.asarray(array[...]), VALUES)
    with pytest.raises(ImageError, match=r"2 x 3 x 20 x 30.*--axes"):
        open_image(array)


def test_arrays_that_are_no_images():
    for dtype in (complex, object, "U3", [("a", "u1")], "M8[s]"):
        with pytest.raises(ImageError, match="no real numbers"):
            open_image(np.zeros((4, 4), dtype))
    with pytest.raises(ImageError, match="empty axis Y"):
        open_image(np.zeros((0, 4)))
    with pytest.raises(ImageError, match="a NoneType"):
        open_image(None)
    with pytest.raises(UsageError, match=r"twice|letters|Y and X|cannot be used"):
        open_image(VALUES, axes="TTYX")


def test_colour_samples_become_channels():
    assert open_image(VALUES, axes="TSYX").axes == "TCYX"
    with pytest.raises(ImageError, match="several channels"):
        open_image(VALUES, axes="CSYX")


def test_precision_is_noted():
    assert open_image(np.zeros((4, 4), np.uint64)).notes
    assert not open_image(np.zeros((4, 4), np.uint16)).notes


def test_source_crosses_a_pipe_and_wins(tmp_path):
    path = tmp_path / "a.ome.tif"
    facts = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, VALUES[0], ome=True, metadata=facts)
    source = ImageSource(
        str(path), scale={"X": 2.0}, units={"X": "nm"}, name="layer",
        channel_names=("a", "b", "c"),
    )  # fmt: skip
    with open_image(pickle.loads(pickle.dumps(source))) as stack:
        assert stack.scale == {"X": 2.0, "Y": 0.5}
        assert stack.units == {"X": "nm", "Y": "µm"}
        assert (stack.name, stack.channel_names) == ("layer", ("a", "b", "c"))


def test_stack_with_other_axes():
    stack = ImageStack(VALUES, "TZYX", scale={"T": 1.0, "X": 2.0})
    assert open_image(stack) is stack
    again = open_image(stack, axes="ZTYX")
    assert (again.axes, again.scale) == ("ZTYX", {"X": 2.0})


def test_read_refuses_what_it_cannot_do():
    stack = open_image(VALUES, axes="TZYX")
    with pytest.raises(IndexError, match="outside"):
        stack.read({"T": 2}, "ZYX")
    with pytest.raises(IndexError, match="step 2"):
        stack.read({"X": slice(0, 9, 2)}, "TZYX")
    with pytest.raises(ValueError, match="axes T are not in"):
        stack.read({}, "ZYX")


# --- zarr


def write_zarr(path, version, **attributes):
    group = zarr.create_group(path, zarr_format=version, attributes=attributes)
    array = group.create_array(
        "0", shape=VALUES.shape, chunks=(1, 1, 8, 16), dtype="u2"
    )
    array[...] = VALUES
    return group


def multiscale(path="0"):
    axes = [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "z", "type": "space", "unit": "micrometer"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    scale = {"type": "scale", "scale": [1.0, 2.0, 0.5, 0.25]}
    whole = {"type": "scale", "scale": [3.0, 1.0, 1.0, 1.0]}
    return {
        "axes": axes,
        "datasets": [{"path": path, "coordinateTransformations": [scale]}],
        "coordinateTransformations": [whole],
    }


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    path = tmp_path / "a.ome.zarr"
    if version == "0.4":
        write_zarr(path, 2, multiscales=[multiscale() | {"version": "0.4"}])
    else:
        write_zarr(path, 3, ome={"version": "0.5", "multiscales": [multiscale()]})
    assert is_image(path)
    with open_image(path) as stack:
        assert stack.axes == "TZYX"
        assert stack.scale == {"T": 3.0, "Z": 2.0, "Y": 0.5, "X": 0.25}
        assert stack.units == {"T": "s", "Z": "µm", "Y": "µm", "X": "µm"}
        np.testing.assert_array_equal(
            stack.read({"T": 1, "Y": slice(3, 19)}, "ZYX"), VALUES[1, :, 3:19]
        )


def test_zarr_array_names_its_axes_or_is_asked(tmp_path):
    named = zarr.create_array(
        tmp_path / "a.zarr", data=VALUES, dimension_names=["t", "z", "y", "x"]
    )
    assert named.shape == VALUES.shape
    assert open_image(tmp_path / "a.zarr").axes == "TZYX"
    zarr.create_array(tmp_path / "b.zarr", data=VALUES)
    with pytest.raises(ImageError, match="--axes"):
        open_image(tmp_path / "b.zarr")


def test_zarr_group_with_several_images(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    for name, value in (("one", 1), ("two", 2)):
        group.create_array(name, data=np.full((4, 5), value, np.uint8))
    with pytest.raises(ImageError, match="one, two"):
        open_image(tmp_path / "a.zarr")
    assert open_image(tmp_path / "a.zarr", series="two").read({"X": 0}, "Y")[0] == 2
    assert open_image(tmp_path / "a.zarr", series=0).read({"X": 0}, "Y")[0] == 1


def test_zarr_path_outside_is_refused(tmp_path):
    write_zarr(tmp_path / "secret.zarr", 3)
    path = tmp_path / "a.zarr"
    outside = multiscale("../secret.zarr/0")
    write_zarr(path, 3, ome={"version": "0.5", "multiscales": [outside]})
    with pytest.raises(ImageError, match="outside itself"):
        open_image(path)


@pytest.mark.parametrize(
    "change",
    [
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "evil"}},
        {"dtype": "|O"},
        {"dtype": [["a", "<u2"]]},
        {"dtype": "<c8"},
        {"chunks": [2**40, 20]},
        {"shape": [0, 30]},
        {"zarr_format": "two"},
    ],
)
def test_hostile_zarr_array(tmp_path, change):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=VALUES[0, 0], zarr_format=2, compressors=None)
    info = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(info | change))
    with pytest.raises(ImageError):
        open_image(path)


def test_zarr_with_a_damaged_chunk(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=VALUES[0, 0])
    (path / "c" / "0" / "0").write_bytes(b"nonsense")
    stack = open_image(path)
    with pytest.raises(ImageError, match=r"a.zarr could not be read"):
        stack.read({}, "YX")


def test_zarr_is_optional(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=VALUES[0, 0])
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(ImageError, match=r"pip install 'unet-napari\[zarr\]'"):
        open_image(path)
