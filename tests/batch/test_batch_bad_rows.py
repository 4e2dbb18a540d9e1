"""Odd and bad images in one batch: each ends right or with a reason, as a table says.

The rows are those of the fault table: NaN, sizes, types, byte order, metadata, damage.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_unet.batch.inputs import gather
from napari_unet.batch.run import run_batch
from napari_unet.batch.unit import work
from napari_unet.config import BatchConfig
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

NOISE = np.random.default_rng(5)


def bits(*shape):
    return NOISE.integers(0, 2, shape)


def half_nan():
    pixels = bits(9, 9).astype(np.float32)
    pixels[3, 4] = np.nan
    return pixels


RIGHT = {
    "one pixel": bits(1, 1).astype(np.uint8),
    "a row": bits(1, 37).astype(np.uint8),
    "a column": bits(41, 1).astype(np.uint16),
    "primes": bits(31, 53).astype(np.uint8),
    "long": bits(1, 100_000).astype(np.uint8),
    "bool": bits(8, 9).astype(bool),
    "int8": (bits(8, 9) * 2 - 1).astype(np.int8),
    "float16": bits(8, 9).astype(np.float16),
    "float64": bits(8, 9).astype(np.float64),
    "uint64": bits(8, 9).astype(np.uint64) << 60,
    "big-endian": bits(8, 9).astype(">u2"),
    "constant": np.full((8, 9), 1, np.uint8),
    "näh \N{MICROSCOPE} שלום": bits(8, 9).astype(np.uint8),
    "-x": bits(8, 9).astype(np.uint8),
    "n" * 251: bits(8, 9).astype(np.uint8),
}
WRONG = {
    "some nan": (half_nan(), "NaN or infinite pixels"),
    "all nan": (np.full((8, 9), np.nan, np.float32), "NaN or infinite pixels"),
    "all inf": (np.full((8, 9), np.inf, np.float32), "NaN or infinite pixels"),
    "complex": (bits(8, 9).astype(np.complex64), "no real numbers"),
    "3 axes": (bits(4, 8, 9).astype(np.uint8), "--axes"),
    "2 channels": (bits(2, 8, 9).astype(np.uint8), "channels"),
}


def write(folder, name, pixels, **facts):
    if name == "2 channels":
        facts = {"metadata": {"axes": "CYX"}, "ome": True}
    path = folder / f"{name}.tif"
    with path.open("wb") as file:
        tifffile.imwrite(
            file,
            pixels.astype(np.uint8) if pixels.dtype == bool else pixels,
            byteorder=">" if pixels.dtype.str[0] == ">" else None,
            photometric="minisblack",
            **({"metadata": None} | facts),
        )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    for name, pixels in RIGHT.items():
        write(folder, name, pixels)
    for name, (pixels, _) in WRONG.items():
        write(folder, name, pixels)
    for name, size in (("size 0", 0), ("size -1", -1.0), ("size nan", float("nan"))):
        facts = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size}
        write(folder, name, bits(8, 9).astype(np.uint8), metadata=facts, ome=True)
    whole = (folder / "primes.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.tif").touch()
    (folder / "text.tif").write_text("no image")
    (folder / "folder.tif").mkdir()
    for name in (".DS_Store", "Thumbs.db", ".hidden.tif", "copy.tif.part"):
        (folder / name).write_text("no image")
    return folder


def run(images, output, network, **settings):
    config = BatchConfig(device="cpu", threshold=0.7, **settings)
    found = gather([images], output)
    summary = list(run_batch(found, network, output, config, segment=work))[-1].result
    return {Path(item.input).stem: item for item in summary.items}


def points():
    """Make a network whose result is each pixel itself."""
    module = torch.nn.Conv2d(1, 1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    spec = ModelSpec(ndim=2, in_channels=1, out_channels=1, activation="none")
    return Network(module, spec, digest="d1")


def test_each_row_is_right_or_has_its_reason(images, tmp_path):
    found = run(images, tmp_path, points(), normalize="none")
    for name, pixels in RIGHT.items():
        assert found[name].status == "done", found[name].reason
        with np.errstate(invalid="ignore"):
            wanted = pixels.astype(np.float32) >= 0.7
        np.testing.assert_array_equal(tifffile.imread(found[name].output), wanted)
    for name, (_, words) in WRONG.items():
        assert words in found[name].reason
    for name in ("size 0", "size -1", "size nan"):
        assert found[name].status == "done"
    assert "cut off" in found["cut"].reason
    assert "an empty file" in found["empty"].reason
    assert "found text" in found["text"].reason
    bad = {*WRONG, "cut", "empty", "text"}
    assert {n for n, item in found.items() if item.status == "failed"} == bad
    assert len(found) == len(RIGHT) + len(WRONG) + 6
    outputs = [item.output for item in found.values() if item.output]
    assert len(set(outputs)) == len(outputs)


def test_networks_that_pool_take_every_size(images, tmp_path):
    """Images smaller than the pooling and of prime sizes give back their own shape."""
    torch.manual_seed(1)
    shape = UNetSpec(widths=(2, 4, 4), norm="none")
    spec = ModelSpec(
        ndim=2,
        in_channels=1,
        out_channels=2,
        architecture=shape.model_dump(mode="json"),
    )
    found = run(images, tmp_path, Network(UNet(shape), spec, digest="d2"))
    for name, pixels in RIGHT.items():
        assert found[name].status == "done", found[name].reason
        assert tifffile.imread(found[name].output).shape == pixels.shape
