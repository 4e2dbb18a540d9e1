"""Results read back as they were written; nothing is left where writing fails."""

from __future__ import annotations

import errno
import itertools
import json
import sys
import threading
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import downscale_local_mean

from napari_unet.errors import OutputError
from napari_unet.images import npy_sink, palette, pyramid, tiff_sink, zarr_levels
from napari_unet.images import pages as page_module
from napari_unet.images.pages import Pages
from napari_unet.images.readers import open_image
from napari_unet.images.sinks import (
    SUFFIXES,
    ArraySink,
    OutputSpec,
    label_dtype,
    sink_for,
)
from napari_unet.images.write_behind import WriteBehind

SHAPE = (2, 3, 2, 70, 90)


def values_of(spec, seed=0):
    rng = np.random.default_rng(seed)
    top = 1.0 if spec.dtype.kind == "f" else min(np.iinfo(spec.dtype).max, 70000)
    return (rng.random(spec.shape) * top).astype(spec.dtype)


def spec_of(axes="TZCYX", shape=SHAPE, dtype="u2", **more):
    return OutputSpec(axes, shape, np.dtype(dtype), **more)


def regions(spec, tile=(40, 37)):
    """Regions frame by frame, as the engine writes them: tiles of all planes."""
    frames = spec.shape[0] if spec.axes[0] == "T" else 1
    for t in range(frames):
        first = (slice(t, t + 1),) if spec.axes[0] == "T" else ()
        for y in reversed(range(0, spec.shape[-2], tile[0])):
            for x in range(0, spec.shape[-1], tile[1]):
                inner = [slice(0, n) for n in spec.shape[len(first) : -2]]
                yield (*first, *inner, slice(y, y + tile[0]), slice(x, x + tile[1]))


def clipped(region, shape):
    pairs = zip(region, shape, strict=True)
    return tuple(slice(*part.indices(size)[:2]) for part, size in pairs)


def write(path, spec, values):
    sink = sink_for(path)
    try:
        sink.open(spec)
        for region in regions(spec):
            part = clipped(region, spec.shape)
            sink.write(part, values[part])
        return sink.close()
    except BaseException:
        sink.abort()
        raise


FACTS = {
    "scale": {"T": 2.5, "Z": 2.0, "Y": 0.5, "X": 0.25},
    "units": {"T": "s", "Z": "µm", "Y": "µm", "X": "nm"},
    "channel_names": ("cell", "näh <&>"),
    "provenance": {"model": "abc", "settings": {"tile": [1, 2]}},
    "name": "result",
}


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize(
    ("dtype", "kind"), [("u1", "labels"), ("u4", "labels"), ("f4", "image")]
)
def test_round_trip(tmp_path, suffix, dtype, kind):
    path = tmp_path / "sub" / f"a{suffix}"
    spec = spec_of(dtype=dtype, kind=kind, **FACTS)
    values = values_of(spec)
    assert write(path, spec, values) == str(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    with open_image(path) as stack:
        assert stack.axes == ("TCZYX" if suffix == ".ome.zarr" else "TZCYX")
        assert stack.dtype == spec.dtype
        assert stack.scale == pytest.approx(spec.scale)
        assert stack.units == spec.units
        if suffix == ".ome.tif" or kind == "image":
            assert stack.channel_names == spec.channel_names
        np.testing.assert_array_equal(stack.read({}, spec.axes), values)


def test_imagej_hyperstack(tmp_path):
    path = tmp_path / "a.imagej.tif"
    spec = spec_of(dtype="f4", kind="image", window=(0.0, 1.0), **FACTS)
    values = values_of(spec)
    write(path, spec, values)
    with tifffile.TiffFile(path) as tif:
        info, series = tif.imagej_metadata, tif.series[0]
        assert (series.kind, series.axes, series.dataoffset > 0) == (
            "imagej",
            "TZCYX",
            True,  # one run of pixels, which ImageJ maps
        )
        np.testing.assert_array_equal(tif.asarray(), values)
    sizes = {"channels": 2, "slices": 3, "frames": 2, "hyperstack": True}
    assert sizes.items() <= info.items()
    assert (info["unit"], info["yunit"]) == ("nm", r"\u00B5m")
    assert (info["spacing"], info["finterval"]) == (2.0, 2.5)
    assert info["Labels"] == list(spec.channel_names) * 6
    assert info["Ranges"] == (0.0, 1.0, 0.0, 1.0)
    assert info["Info"] == 'model: abc\nsettings: {"tile": [1, 2]}\n'
    with open_image(path) as stack:
        assert stack.scale == pytest.approx(spec.scale)
        assert stack.units == spec.units
        assert stack.channel_names == spec.channel_names


def test_classes_have_colours_and_names(tmp_path):
    classes = {1: "cell", 2: ""}
    spec = spec_of("ZYX", (3, 20, 30), "u1", classes=classes)
    values = values_of(spec) % 3
    write(tmp_path / "a.imagej.tif", spec, values)
    write(tmp_path / "a.ome.zarr", spec, values)
    shown = {i: palette.rgb(palette.class_colour(i)) for i in classes}
    with tifffile.TiffFile(tmp_path / "a.imagej.tif") as tif:
        np.testing.assert_array_equal(tif.asarray(), values)
        table = tif.pages[0].colormap >> 8
        assert {i: tuple(table[:, i].tolist()) for i in classes} == shown
        assert 'classes: {"1": "cell"}' in tif.imagej_metadata["Info"]
    with open_image(tmp_path / "a.imagej.tif") as stack:
        np.testing.assert_array_equal(stack.read({}, "ZYX"), values)
    ome = zarr.open_group(tmp_path / "a.ome.zarr", mode="r").attrs["ome"]
    said = ome["image-label"]
    colours = {c["label-value"]: tuple(c["rgba"]) for c in said["colors"]}
    assert colours == {i: (*colour, 255) for i, colour in shown.items()}
    assert said["properties"] == [{"label-value": 1, "class": "cell"}]


def test_ids_that_imagej_holds(tmp_path):
    spec = spec_of("YX", (8, 9), "u4")
    values = np.full(spec.shape, 1 << 24, np.uint32)
    write(tmp_path / "a.imagej.tif", spec, values)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.imagej.tif"), values)
    with pytest.raises(OutputError, match="the id 16,777,217"):
        write(tmp_path / "b.imagej.tif", spec, values + 1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.imagej.tif"]


@pytest.mark.parametrize("top", [1.0, 4000.0])
def test_zarr_window_is_what_there_is_to_see(tmp_path, top):
    spec = spec_of("CYX", (1, 9, 9), "f4", kind="image", channel_names=("a",))
    values = values_of(spec) * top
    values[0, 0, :3] = np.nan, np.inf, -top
    write(tmp_path / "a.zarr", spec, values)
    ome = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]
    window = ome["omero"]["channels"][0]["window"]
    seen = values[np.isfinite(values)]
    assert (window["start"], window["end"]) == (seen.min(), seen.max())


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("YX", (1, 1)), ("YX", (600, 700)), ("ZYX", (5, 3, 900)), ("CYX", (3, 20, 30))],
)
@pytest.mark.parametrize("suffix", [".tif", ".imagej.tif", ".zarr", ".npy"])
def test_other_shapes(tmp_path, suffix, axes, shape):
    spec = spec_of(axes, shape)
    values = values_of(spec)
    write(tmp_path / f"a{suffix}", spec, values)
    asked = axes if suffix == ".npy" else None
    with open_image(tmp_path / f"a{suffix}", axes=asked) as stack:
        np.testing.assert_array_equal(stack.read({}, axes), values)


def test_tiff_as_tifffile_and_ome_see_it(tmp_path):
    path = tmp_path / "a.ome.tif"
    spec = spec_of(shape=(2, 3, 2, 600, 530), dtype="f4", kind="image", **FACTS)
    values = values_of(spec)
    write(path, spec, values)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.series) == 1
        assert tif.series[0].axes == "TZCYX"
        assert tif.pages[0].is_tiled
        assert tif.pages[0].compression == 8
        np.testing.assert_array_equal(tif.asarray(), values)
        root = ElementTree.fromstring(tif.ome_metadata)
    ome = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
    pixels = root.find(f"{ome}Image/{ome}Pixels")
    expected = {
        "DimensionOrder": "XYCZT", "Type": "float", "SizeX": "530", "SizeY": "600",
        "SizeC": "2", "SizeZ": "3", "SizeT": "2", "PhysicalSizeX": "0.25",
        "PhysicalSizeXUnit": "nm", "PhysicalSizeZ": "2.0", "TimeIncrement": "2.5",
        "TimeIncrementUnit": "s",
    }  # fmt: skip
    assert expected.items() <= pixels.attrib.items()
    order = [child.tag.removeprefix(ome) for child in pixels]
    assert order == ["Channel", "Channel", "TiffData"]
    note = root.find(f"{ome}StructuredAnnotations/{ome}MapAnnotation")
    assert note.get("Namespace") == "unet-napari/provenance"
    found = {m.get("K"): m.text for m in note.iter(f"{ome}M")}
    assert found == {"model": "abc", "settings": '{"tile": [1, 2]}'}


@pytest.mark.parametrize(("dtype", "kind"), [("u4", "labels"), ("f4", "image")])
def test_large_planes_of_a_tiff_have_smaller_levels(tmp_path, monkeypatch, dtype, kind):
    monkeypatch.setattr(pyramid, "LARGEST", 300)
    monkeypatch.setattr(pyramid.level_shapes, "__defaults__", (300,))
    spec = spec_of("ZYX", (2, 601, 1102), dtype, kind=kind, **FACTS)
    values = values_of(spec)
    write(tmp_path / "a.ome.tif", spec, values)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.tif"]
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        levels = tif.series[0].levels
        assert len(tif.pages) == 2
        assert all(level.keyframe.is_tiled for level in levels)
        found = [level.asarray() for level in levels]
    shapes = [(2, 601, 1102), (2, 301, 551), (2, 151, 276)]
    assert [level.shape for level in found] == shapes
    np.testing.assert_array_equal(found[0], values)
    if kind == "labels":
        for i, level in enumerate(found):
            np.testing.assert_array_equal(level, values[:, :: 2**i, :: 2**i])
        return
    for above, below in itertools.pairwise(found):
        even = np.pad(above, [(0, 0), (0, above.shape[1] % 2), (0, above.shape[2] % 2)])
        inner = downscale_local_mean(even, (1, 2, 2))[:, :150, :275]
        np.testing.assert_allclose(below[:, :150, :275], inner, rtol=1e-5)
    with open_image(tmp_path / "a.ome.tif") as stack:
        assert stack.shape == spec.shape


def test_big_tiff_is_chosen_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_sink, "_CLASSIC", 10_000)
    for size, big in ((50, False), (100, True)):
        spec = spec_of("YX", (size, size))
        write(tmp_path / "a.tif", spec, values_of(spec))
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert tif.is_bigtiff is big


def test_empty_labels_read_back(tmp_path):
    """A file of zeros alone must not look like a header that lies."""
    spec = spec_of("ZYX", (12, 1600, 1700), "u4")
    write(tmp_path / "a.tif", spec, np.zeros(spec.shape, "u4"))
    with open_image(tmp_path / "a.tif") as stack:
        assert not stack.read({"Z": 3}, "YX").any()


def test_unknown_unit_is_not_taken_for_micrometres(tmp_path):
    spec = spec_of("YX", (9, 9), scale={"X": 3.0, "Y": 3.0}, units={"X": "furlong"})
    write(tmp_path / "a.tif", spec, values_of(spec))
    with open_image(tmp_path / "a.tif") as stack:
        assert (stack.scale, stack.units) == ({"X": 3.0, "Y": 3.0}, {})


def test_zarr_follows_ome_zarr_0_5(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_levels, "CHUNK", 300)
    path = tmp_path / "a.ome.zarr"
    spec = spec_of("TCYX", (2, 2, 600, 401), "f4", kind="image", **FACTS)
    values = values_of(spec)
    write(path, spec, values)
    info = json.loads((path / "zarr.json").read_text())
    assert (info["zarr_format"], info["node_type"]) == (3, "group")
    ome = info["attributes"]["ome"]
    assert ome["version"] == "0.5"
    image = ome["multiscales"][0]
    assert image["axes"] == [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "nanometer"},
    ]
    assert [d["path"] for d in image["datasets"]] == ["0", "1"]
    second = image["datasets"][1]["coordinateTransformations"]
    assert second == [
        {"type": "scale", "scale": [2.5, 1.0, 1.0, 0.5]},
        {"type": "translation", "translation": [0.0, 0.0, 0.25, 0.125]},
    ]
    assert [c["label"] for c in ome["omero"]["channels"]] == list(spec.channel_names)
    assert all({"color", "window"} <= c.keys() for c in ome["omero"]["channels"])
    assert info["attributes"]["unet-napari"]["model"] == "abc"
    level = zarr.open_array(str(path / "1"), mode="r")
    assert level.metadata.dimension_names == ("t", "c", "y", "x")
    even = values[..., :400].reshape(2, 2, 300, 2, 200, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(level[..., :200], even, rtol=1e-6)
    edge = values[..., 400].reshape(2, 2, 300, 2).mean(axis=3)
    np.testing.assert_allclose(level[..., 200], edge, rtol=1e-6)


def test_zarr_label_pyramid_holds_only_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_levels, "CHUNK", 150)
    path = tmp_path / "a.ome.zarr"
    spec = spec_of("ZYX", (2, 301, 603), "u2")
    values = values_of(spec)
    write(path, spec, values)
    attributes = zarr.open_group(str(path), mode="r").attrs["ome"]
    assert "image-label" in attributes
    levels = [d["path"] for d in attributes["multiscales"][0]["datasets"]]
    assert levels == ["0", "1", "2", "3"]
    for i, name in enumerate(levels):
        found = zarr.open_array(str(path / name), mode="r")[...]
        np.testing.assert_array_equal(found, values[:, :: 2**i, :: 2**i])


def test_formats_say_what_they_cannot_hold(tmp_path):
    for name, spec, words in (
        ("a.tif", spec_of("PYX", (2, 4, 4)), "PYX.*ome.zarr"),
        ("a.tif", spec_of("YX", (4, 4), "?"), "bool"),
        ("a.tif", spec_of("YX", (4, 4), "u8"), "uint64"),
        ("a.zarr", spec_of("PCYX", (2, 2, 4, 4)), "PCYX.*npy"),
        ("a.imagej.tif", spec_of("YX", (4, 4), "i4"), "int32.*ome.tif"),
        ("a.imagej.tif", spec_of("PYX", (2, 4, 4)), "PYX.*ome.zarr"),
        ("a.imagej.tif", spec_of("ZYX", (50, 9999, 9999), "u1"), "5.0 GB.*at most 4"),
        ("a.imagej.tif", spec_of("ZYX", (200_000, 9, 9), "u1"), "200,000 planes"),
    ):
        with pytest.raises(OutputError, match=words):
            sink_for(tmp_path / name).open(spec)
    with pytest.raises(OutputError, match=r"'.png'.*\.ome\.zarr"):
        sink_for("a.png")
    assert list(tmp_path.iterdir()) == []
    assert all(sink_for(f"a{suffix}".upper()) for suffix in SUFFIXES)


def test_zarr_sink_needs_zarr(monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.setattr("napari_unet.images.sinks.find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r"unet-napari\[zarr\]"):
        sink_for("a.ome.zarr")


def test_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="other files"):
        sink_for(tmp_path / "a.zarr").open(spec_of())
    assert (tmp_path / "a.zarr" / "thesis.txt").exists()


@pytest.mark.parametrize("suffix", [".ome.tif", ".imagej.tif", ".ome.zarr", ".npy"])
@pytest.mark.parametrize("end", ["abort", "incomplete"])
def test_nothing_is_left_behind(tmp_path, suffix, end):
    spec = spec_of()
    values = values_of(spec)
    path = tmp_path / f"a{suffix}"
    sink = sink_for(path)
    sink.open(spec)
    for region in list(regions(spec))[:-1]:
        part = clipped(region, spec.shape)
        sink.write(part, values[part])
    assert not path.exists()
    if end == "abort" or suffix == ".npy":
        sink.abort()
    else:
        with pytest.raises(OutputError, match="6 of 12 planes"):
            sink.close()
    assert list(tmp_path.iterdir()) == []


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("suffix", "target"),
    [
        (".ome.tif", (tiff_sink.TiffWriter, "write")),
        (".ome.zarr", (zarr_levels, "_create")),
        (".npy", (npy_sink, "reserve")),
    ],
)
def test_full_disk_is_told_and_the_old_result_stays(
    tmp_path, monkeypatch, suffix, target
):
    path = tmp_path / f"a{suffix}"
    spec = spec_of()
    write(path, spec, values_of(spec, 1))
    monkeypatch.setattr(*target, no_space)
    with pytest.raises(OutputError, match="no space left"):
        write(path, spec, values_of(spec, 2))
    monkeypatch.undo()
    left = [p for p in tmp_path.iterdir() if p.name != path.name]
    assert left == []
    with open_image(path, axes="TZCYX" if suffix == ".npy" else None) as stack:
        np.testing.assert_array_equal(stack.read({}, "TZCYX"), values_of(spec, 1))


# --- the parts


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pages_leave_in_order_and_whole(tmp_path_factory, data):
    shape = (
        data.draw(st.integers(1, 4)),
        *data.draw(st.tuples(*[st.integers(1, 6)] * 2)),
    )
    spec = spec_of("ZYX", shape)
    values = values_of(spec)
    scratch = tmp_path_factory.mktemp("pages") / "scratch"
    room = data.draw(st.integers(0, 3))
    pages = Pages(spec, scratch, ram=room * values[0].nbytes)
    pixels = [tuple(slice(i, i + 1) for i in place) for place in np.ndindex(shape)]
    found = []
    for region in data.draw(st.permutations(pixels)):
        for page in pages.add(region, values[region]):
            found.append(np.array(page.pixels))
            pages.release(page)
    np.testing.assert_array_equal(found, values)
    assert pages.missing == 0
    pages.discard()
    assert not scratch.exists()


def test_pages_in_memory_are_bounded(tmp_path):
    spec = spec_of("ZYX", (2000, 8, 8), "u1")
    pages = Pages(spec, tmp_path / "scratch", ram=10 * 64)
    block = np.ones((2000, 8, 4), np.uint8)
    whole = slice(0, 2000), slice(0, 8)
    assert list(pages.add((*whole, slice(0, 4)), block)) == []
    in_memory = [p for p in pages._held.values() if p.slot is None]
    assert (len(in_memory), len(pages._held)) == (10, 2000)
    assert len(list(pages.add((*whole, slice(4, 8)), block))) == 2000
    assert not pages._held


def test_pages_refuse_wrong_blocks(tmp_path):
    pages = Pages(spec_of("YX", (4, 4)), tmp_path / "scratch")
    with pytest.raises(ValueError, match="block of shape"):
        list(pages.add((slice(0, 2), slice(0, 4)), np.zeros((3, 4))))
    whole = (slice(0, 4), slice(0, 4))
    assert len(list(pages.add(whole, np.zeros((4, 4))))) == 1
    with pytest.raises(ValueError, match="written already"):
        list(pages.add(whole, np.zeros((4, 4))))


def test_scratch_file_is_reserved(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "reserve", no_space)
    pages = Pages(spec_of("YX", (4, 4)), tmp_path / "scratch", ram=0)
    with pytest.raises(OSError, match="No space"):
        list(pages.add((slice(0, 4), slice(0, 4)), np.zeros((4, 4))))


def put_all(behind, items):
    for item in items:
        behind.put(item)


def test_write_behind_tells_errors():
    seen = []

    def work(items):
        for item in items:
            seen.append(item)
            if item == 3:
                raise RuntimeError("three")

    behind = WriteBehind(work, ahead=2)
    with pytest.raises(RuntimeError, match="three"):
        put_all(behind, range(100))
    with pytest.raises(RuntimeError, match="three"):
        behind.finish()
    assert seen == [0, 1, 2, 3]
    behind.abort()


def test_write_behind_waits_when_its_queue_is_full():
    go, given = threading.Event(), []
    behind = WriteBehind(lambda items: (go.wait(10), list(items)), ahead=2)

    def give():
        for item in range(6):
            behind.put(item)
            given.append(item)

    thread = threading.Thread(target=give)
    thread.start()
    while len(given) < 2:
        thread.join(0.01)
    thread.join(0.3)  # no third one fits, however long it tries
    assert given == [0, 1]
    go.set()
    thread.join(10)
    behind.finish()
    assert given == list(range(6))


def test_array_sink_checks_what_it_is_given():
    spec = spec_of("YX", (4, 5), "f4")
    for array in (np.zeros((5, 4), "f4"), np.zeros((4, 5), "u1")):
        with pytest.raises(OutputError, match="cannot take"):
            ArraySink(array).open(spec)
    sink = ArraySink()
    sink.open(spec)
    sink.write((slice(1, 2), slice(0, 5)), np.ones((1, 5)))
    assert sink.close().sum() == 5


@pytest.mark.parametrize(
    ("largest", "name"),
    [(0, "uint8"), (255, "uint8"), (256, "uint16"), (65536, "uint32")],
)
def test_label_dtype(largest, name):
    assert label_dtype(largest) == name


@pytest.mark.parametrize("largest", [-1, 2**32])
def test_label_dtype_never_wraps(largest):
    with pytest.raises(OutputError, match="ids from 0"):
        label_dtype(largest)
