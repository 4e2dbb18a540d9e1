"""The same results in every format."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile
import torch

from napari_unet.batch.inputs import gather
from napari_unet.batch.run import run_batch
from napari_unet.batch.unit import work
from napari_unet.config import BatchConfig
from napari_unet.errors import UsageError
from napari_unet.images.readers import open_image
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    noise = np.random.default_rng(1).random((2, 40, 44)).astype(np.float32)
    facts = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(folder / "a.ome.tif", noise, metadata=facts)
    return folder


def run(images, output, **settings):
    """Label what is bright."""
    spec = ModelSpec(ndim=2, in_channels=1, out_channels=1, activation="none")
    module = torch.nn.Conv2d(1, 1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    network = Network(module, spec, digest="d1")
    config = BatchConfig(
        device="cpu", normalize="none", tiling="whole", threshold=0.7, **settings
    )
    found = gather([images], output)
    return list(run_batch(found, network, output, config, segment=work))


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("kind", ["labels", "instances"])
def test_formats_hold_the_same(tmp_path, images, kind):
    tables = []
    for suffix in (".ome.tif", ".ome.zarr", ".imagej.tif"):
        output = tmp_path / suffix
        events = run(images, output, kind=kind, suffix=suffix, measure=True)
        assert events[-1].result.count("done") == 1
        with open_image(output / f"a{suffix}") as stack:
            pixels = stack.read({}, "TYX")
            assert stack.scale == {"X": 0.5, "Y": 0.25}
        tables.append((pixels.astype(np.uint32).tobytes(), rows(output / "a.csv")))
    assert pixels.max() == (1 if kind == "labels" else len(tables[0][1]) - 1)
    assert tables[0] == tables[1] == tables[2]


def test_an_edited_hyperstack_is_kept(tmp_path, images):
    run(images, tmp_path, suffix=".imagej.tif")
    tifffile.imwrite(tmp_path / "a.imagej.tif", np.ones((2, 40, 44), np.uint8))
    run(images, tmp_path, suffix=".imagej.tif")
    names = {path.name for path in tmp_path.glob("a*")}
    assert names == {"a.imagej.tif", "a (edited).imagej.tif"}
    with pytest.raises(UsageError, match="nothing to do"):  # both are results
        gather([tmp_path], tmp_path / "other")
