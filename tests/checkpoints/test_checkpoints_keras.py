"""Keras' files and folders, without Keras."""

from __future__ import annotations

import json
import zipfile

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from keras_models import convs, put, stored, write
from zoo import keras_files, recipe
from zoo.opened import opened
from zoo.stored_cases import STORED, cases

from napari_unet import checkpoints
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")
IMAGE = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(0))
CASES = {f"{case.library}-{case.name}": case for case in cases()}


@pytest.mark.parametrize(
    "name", ["keras3_15.keras", "keras3_15_old.h5", "keras2_15.h5", "keras2_13.keras"]
)
def test_files_as_keras_wrote_them(tmp_path, name):
    network = checkpoints.load(stored(name, tmp_path))
    output = network(torch.from_numpy(recipe.image((1, 1, 16, 24)))).sigmoid()
    wanted = np.load((STORED / name).with_suffix(".npy"))
    assert network.spec.activation == "sigmoid"
    assert "activation" not in {a.field for a in network.spec.assumed}
    np.testing.assert_allclose(output, wanted, atol=1e-6)
    assert network.geometry.exact
    assert network.geometry.stride == (2, 2)


@pytest.mark.parametrize(
    "name",
    [
        *("keras3-unet-2d-strided-k3", "keras3-unet-2d-even-kernels"),
        *("keras3-transposed-2d", "keras2-separable", "keras2-unet-2d-valid"),
    ],
)
def test_tiles_with_the_derived_halo_give_the_whole_images_output(name):
    network, _ = opened(CASES[name])
    geometry, size = network.geometry, 128
    assert geometry.exact
    step, margin = geometry.stride[0], geometry.margin[0]
    image = torch.randn(1, network.spec.in_channels, size + 2 * margin, 64)
    whole = network(image)
    start, end = (size // 2 // step * step, size // 2 // step * step + 2 * step)
    before, after = (-(-n // step) * step for n in geometry.halo[0])
    tile = image[:, :, start - before : end + after + 2 * margin]
    part = network(tile)[:, :, before : before + end - start]
    torch.testing.assert_close(part, whole[:, :, start:end], atol=1e-5, rtol=1e-5)


def test_weights_with_their_configuration(tmp_path):
    config, weights = convs()
    with h5py.File(tmp_path / "net.h5", "w") as file:
        put(file, weights)
    (tmp_path / "net.json").write_text(json.dumps({**config, "keras_version": "2.15"}))
    kernel, bias = weights["conv"]
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    wanted = F.conv2d(IMAGE, weight, torch.from_numpy(bias), padding=1)
    for path in (tmp_path, tmp_path / "net.h5"):
        network = checkpoints.load(path)
        torch.testing.assert_close(network(IMAGE), wanted, atol=1e-6, rtol=1e-5)
        assert "configuration" in network.spec.provenance["container"]
    digest = network.digest
    (tmp_path / "net.json").write_text(json.dumps({**config, "keras_version": "2.14"}))
    assert checkpoints.load(tmp_path).digest != digest


def test_weights_of_keras_3_with_their_configuration(tmp_path):
    file = CASES["keras3-nested"].facts["file"]
    whole = keras_files.put_together(file, tmp_path / "whole.keras")
    wanted = checkpoints.load(whole)
    (tmp_path / "net").mkdir()
    with zipfile.ZipFile(whole) as archive:
        data = archive.read("model.weights.h5")
        (tmp_path / "net/a.weights.h5").write_bytes(data)
        (tmp_path / "net/config.json").write_bytes(archive.read("config.json"))
    network = checkpoints.load(tmp_path / "net/a.weights.h5")
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(network(image), wanted(image))


def test_other_json_beside_weights_changes_nothing(tmp_path):
    config, weights = convs()
    path = write(tmp_path / "net.h5", config, weights)
    (tmp_path / "notes.json").write_text("[1, 2]")
    assert checkpoints.load(path).spec.provenance["container"] == "HDF5 file"
    with pytest.raises(
        ModelError, match=r"no configuration of Keras: found notes\.json"
    ):
        checkpoints.load(tmp_path)


def test_a_folder_of_napari_unet_1_is_scaled_as_there(tmp_path):
    stored("keras3_15.keras", tmp_path).rename(tmp_path / "best.keras")
    (tmp_path / "settings.json").write_text('{"unet_depth": 1, "initial_filters": 4}')
    for path in (tmp_path, tmp_path / "best.keras"):
        spec = checkpoints.load(path).spec
        assert [n.kind for n in spec.normalization] == ["minmax"]
        assert "normalization" not in {a.field for a in spec.assumed}
    (tmp_path / "settings.json").write_text("{}")
    spec = checkpoints.load(tmp_path / "best.keras").spec
    assert "normalization" in {a.field for a in spec.assumed}


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_bioimageio_package_proves_keras_weights(tmp_path, factor):
    stored("keras2_15.h5", tmp_path).rename(tmp_path / "net.h5")
    image = np.moveaxis(recipe.image((1, 1, 16, 24)), 1, -1)
    output = np.load(STORED / "keras2_15.npy")
    np.save(tmp_path / "in.npy", image)
    np.save(tmp_path / "out.npy", np.moveaxis(output, 1, -1) * np.float32(factor))
    tensor = {"name": "a", "axes": "byxc", "shape": [1, 16, 24, 1]}
    facts = {
        "type": "model",
        "format_version": "0.4.9",
        "name": "Little",
        "inputs": [tensor],
        "outputs": [{**tensor, "name": "b"}],
        "test_inputs": ["in.npy"],
        "test_outputs": ["out.npy"],
        "weights": {"keras_hdf5": {"source": "net.h5"}},
    }
    (tmp_path / "rdf.yaml").write_text(yaml.safe_dump(facts))
    if factor == 1.0:
        network = checkpoints.load(tmp_path)
        assert network.spec.activation == "sigmoid"
        assert network.spec.provenance["test"]["difference"] < 1e-6
    else:
        with pytest.raises(ModelError, match="does not give the outputs"):
            checkpoints.load(tmp_path)
