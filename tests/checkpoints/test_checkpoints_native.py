from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_networks import unet

from napari_unet import checkpoints
from napari_unet.checkpoints.native import build_module
from napari_unet.errors import ModelError, OutputError
from napari_unet.files import digest
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec


@pytest.mark.parametrize("ndim", [2, 3])
def test_round_trip_is_equal_to_the_bit(tmp_path, ndim):
    network = unet(ndim=ndim)
    sha256 = checkpoints.save(network, tmp_path / "a.safetensors", {"rounds": 2})
    loaded = checkpoints.load(tmp_path / "a.safetensors")
    assert loaded.digest == sha256 == digest(tmp_path / "a.safetensors")
    before, after = network.module.state_dict(), loaded.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert loaded.spec.provenance["rounds"] == 2
    assert loaded.spec.model_copy(update={"provenance": {}}) == network.spec
    assert all(p.requires_grad for p in loaded.module.parameters())


def test_parent_and_digest(tmp_path):
    network = unet()
    first = checkpoints.save(network, tmp_path / "a.safetensors")
    assert checkpoints.save(network, tmp_path / "b.safetensors") == first
    child = checkpoints.load(tmp_path / "a.safetensors")
    with torch.no_grad():
        child.module.head.bias[0] += 1e-3
    second = checkpoints.save(child, tmp_path / "c.safetensors")
    assert second != first
    assert (
        checkpoints.load(tmp_path / "c.safetensors").spec.provenance["parent"] == first
    )


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "a.safetensors"
    before = checkpoints.save(unet(), path)
    with pytest.raises(OutputError, match="there already"):
        checkpoints.save(unet(out_channels=3), path)
    assert digest(path) == before
    assert checkpoints.save(unet(out_channels=3), path, overwrite=True) != before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_network_prepared_for_inference_is_not_saved(tmp_path):
    with pytest.raises(ModelError, match="cannot be saved"):
        checkpoints.save(unet().place("cpu"), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_load_passes_a_network_through():
    network = unet()
    assert checkpoints.load(network) is network


def rewrite(path, **changes):
    """Change the spec in a native file's header."""
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}
        spec = json.loads(file.metadata()["unet"])
    spec = {**spec, **changes} if changes else "no object"
    save_file(tensors, path, {"unet": json.dumps(spec)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "written by a newer version"),
        ({"family": "transformer"}, "unknown: found transformer"),
        ({"in_channels": 3}, "two values for in_channels"),
        ({"architecture": {"widths": [4, 8, 16]}}, "damaged"),
        ({"architecture": {"widths": [10**9, 8]}}, "damaged"),
        ({"architecture": {"widths": [4, 8], "norm": "none"}}, "damaged"),
        ({"architecture": {"code": "rm"}}, "damaged"),
        ({"surprise": 1}, "damaged"),
        ({}, "damaged"),
    ],
)
def test_spec_that_does_not_fit(tmp_path, changes, words):
    path = tmp_path / "a.safetensors"
    checkpoints.save(unet(), path)
    rewrite(path, **changes)
    with pytest.raises(ModelError, match=words):
        checkpoints.load(path)


def test_nan_weights_in_a_native_file(tmp_path):
    network = unet()
    with torch.no_grad():
        network.module.head.bias[0] = float("nan")
    checkpoints.save(network, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"NaN or infinite values in head\.bias"):
        checkpoints.load(tmp_path / "a.safetensors")


def test_build_module_for_any_family(tmp_path):
    spec = ModelSpec(
        ndim=2,
        in_channels=1,
        out_channels=1,
        family="milesial",
        architecture={"in_channels": 1, "out_channels": 1, "width": 2, "depth": 2},
    )
    network = Network(build_module(spec), spec)
    checkpoints.save(network, tmp_path / "tuned.safetensors")
    loaded = checkpoints.load(tmp_path / "tuned.safetensors")
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(loaded(image), network(image))
    with pytest.raises(ModelError, match="cannot be built"):
        build_module(spec.model_copy(update={"architecture": {"width": -1}}))


def test_inspect_native(tmp_path):
    network = unet()
    sha256 = checkpoints.save(network, tmp_path / "a.safetensors")
    report = checkpoints.inspect(tmp_path / "a.safetensors")
    assert json.loads(json.dumps(report)) == report
    assert report["sha256"] == sha256
    assert report["family"] == "unet"
    assert report["container"] == "native"
    assert report["parameters"] == network.parameters
    assert report["receptive_field"] == {"before": [9, 9], "after": [9, 9]}
    assert report["stride"] == [2, 2]
    assert report["exact"] is True
    assert report["test"] is None
    assert report["assumed"] == []
