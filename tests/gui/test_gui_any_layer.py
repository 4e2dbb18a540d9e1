"""Any image layer of napari as input: its pixels arrive, its result lies on them."""

import dask.array
import numpy as np
import pytest
import zarr

from napari_unet.events import Finished

RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 200, shape).astype("u1")


def memmap(folder, data):
    np.save(folder / "data.npy", data)
    return np.load(folder / "data.npy", mmap_mode="r")


def zarr_array(folder, data):
    array = zarr.open_array(
        folder / "data.zarr", mode="w", shape=data.shape, dtype=data.dtype
    )
    array[...] = data
    return array


KINDS = {
    "plain": lambda _: (pixels(32, 48), {}),
    "rgb": lambda _: (pixels(32, 48, 3), {"rgb": True}),
    "channels": lambda _: (pixels(3, 32, 48), {"axis_labels": ("c", "y", "x")}),
    "multiscale": lambda _: (
        [(data := pixels(64, 96)), data[::2, ::2], data[::4, ::4]],
        {"multiscale": True},
    ),
    "time-lapse": lambda _: (pixels(4, 32, 48), {"axis_labels": ("t", "y", "x")}),
    "dask": lambda _: (
        dask.array.from_array(pixels(4, 32, 48), chunks=(1, 16, 48)),
        {"axis_labels": ("z", "y", "x")},
    ),
    "zarr": lambda folder: (
        zarr_array(folder, pixels(4, 32, 48)),
        {"axis_labels": ("z", "y", "x")},
    ),
    "memmap": lambda folder: (
        memmap(folder, pixels(4, 32, 48)),
        {"axis_labels": ("z", "y", "x")},
    ),
    "scaled": lambda _: (
        pixels(4, 32, 48),
        {
            "axis_labels": ("z", "y", "x"),
            "scale": (3, 0.5, 0.25),
            "translate": (7, -4, 2),
            "units": ("um", "um", "um"),
        },
    ),
    "rotated": lambda _: (pixels(32, 48), {"rotate": 30, "translate": (5, 9)}),
    "rgb time-lapse": lambda _: (
        pixels(4, 32, 48, 3),
        {"rgb": True, "axis_labels": ("t", "y", "x")},
    ),
    "multiscale stack": lambda _: (
        [(data := pixels(4, 64, 96)), data[:, ::2, ::2]],
        {
            "multiscale": True,
            "axis_labels": ("z", "y", "x"),
            "scale": (3, 0.5, 0.5),
            "units": ("um", "um", "um"),
        },
    ),
    "sheared and moved": lambda _: (
        pixels(32, 48),
        {"shear": [0.3], "affine": [[2, 0, 5], [0, 2, -7], [0, 0, 1]]},
    ),
    "big-endian": lambda _: (pixels(32, 48).astype(">u2"), {}),
    "channels over time": lambda _: (
        pixels(3, 4, 32, 48),
        {"axis_labels": ("c", "t", "y", "x")},
    ),
    "seen from the side": lambda _: (
        pixels(24, 32, 48),
        {"axis_labels": ("z", "y", "x"), "scale": (2, 1, 1), "order": (1, 0, 2)},
    ),
    "odd order": lambda _: (
        pixels(32, 48, 4),
        {"axis_labels": ("y", "x", "t"), "rgb": False},
    ),
}


def compute(job):
    """Take the first channel over 100 as foreground, from the file that was sent."""
    source = job.arguments["image"]
    data = np.load(source.path)
    order = [a for a in "TZYX" if a in source.axes]
    if "C" in source.axes:
        data = np.moveaxis(data, source.axes.index("C"), 0)[0]
    axes = source.axes.replace("C", "")
    data = data.transpose([axes.index(a) for a in order])
    region = job.arguments.get("region") or {}
    part = tuple(region.get(a, slice(None)) for a in order)
    np.save(job.arguments["output"], (data[part] > 100).astype("u1"))
    job.play(Finished(job.arguments["output"]))


def first_channel(layer, data, place):
    """Value of the full-size image at a voxel."""
    full = data[0] if layer.multiscale else data
    if layer.rgb:
        return int(full[(*place, 0)])
    if layer.axis_labels[0] == "c":
        place = (0, *place[1:])
    return int(np.asarray(full[tuple(place)]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["prediction", "preview"])
def test_result_lies_on_the_pixels_it_was_made_of(desk, tmp_path, kind, suffix):
    data, more = KINDS[kind](tmp_path)
    order = more.pop("order", None)
    layer = desk.viewer.add_image(data, name="cells", **more)
    if order is not None:
        desk.viewer.dims.order = order
    desk.viewer.reset_view()
    corner = [layer.extent.world[:, axis] for axis in desk.viewer.dims.displayed]
    middle = [float(np.mean(ends)) for ends in corner]
    desk.viewer.scene.camera.center = (0, *middle)
    desk.viewer.scene.camera.zoom = 4
    channels = desk.layers.image("cells").sizes.get("C", 1)
    desk.open_model(in_channels=channels)
    if suffix == "preview":
        desk.controller.previews.ask({})
    else:
        desk.viewer.dims.ndisplay = 3 if layer.ndim > 2 else 2
        assert desk.view.preview.enabled == (layer.ndim == 2)
        desk.controller.predicting.predict({})
    compute(desk.job)
    result = desk.viewer.layers[f"cells · {suffix}"]
    assert result.axis_labels == layer.axis_labels
    assert result.units == layer.units
    for flat in RNG.integers(0, result.data.size, 40):
        own = np.unravel_index(int(flat), result.data.shape)
        world = result.data_to_world(own)
        place = [round(float(n)) for n in layer.world_to_data(world)]
        expected = first_channel(layer, data, place) > 100
        assert bool(np.asarray(result.data)[own]) == expected, (own, place)
