"""Exports are read again by our loader and by the libraries they are meant for."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
import yaml
from tiny_networks import unet
from zoo.typical import calm, of_family

from napari_unet import api, checkpoints
from napari_unet.checkpoints.exports import compiled, export
from napari_unet.checkpoints.families import FAMILIES
from napari_unet.checkpoints.probe import probe
from napari_unet.checkpoints.sidecar import beside
from napari_unet.config import ExportConfig
from napari_unet.errors import ModelError, OutputError, UsageError
from napari_unet.images.intensity import Normalization
from napari_unet.networks.network import Network
from napari_unet.networks.recipe import Recipe
from napari_unet.networks.spec import ModelSpec

AUTO = ExportConfig()
NORMS = {
    "zscore": Normalization(kind="zscore", joint=True),
    "percentile": Normalization(kind="percentile", low=2.0, high=98.0, clip=True),
    "linear": Normalization(kind="linear", gain=0.01, offset=-0.5),
}


def changed(network: Network, **fields) -> Network:
    return Network(network.module, network.spec.model_copy(update=fields))


def gap(network: Network, again: Network) -> float:
    return probe(network).difference(again.module)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_a_state_dict_opens_as_the_same_network(family, ending, tmp_path):
    network = of_family(family)
    path = tmp_path / f"net{ending}"
    if family.is_graph or (family.name, ending) == ("generic", ".safetensors"):
        with pytest.raises(ModelError):  # no library's names; an order that is lost
            export(network, path, ExportConfig(to="state-dict"))
        assert not path.exists()
        return
    made = export(network, path, ExportConfig(to="state-dict"))
    again = checkpoints.load(path)
    assert again.spec.family == family.name
    assert again.spec.activation == network.spec.activation
    assert again.spec.normalization == network.spec.normalization
    assert made.difference == gap(network, again) == 0
    assert probe(network).largest > 0


def test_a_state_dict_is_bare_and_under_the_sources_names(tmp_path):
    network = of_family(next(f for f in FAMILIES if f.name == "milesial"))
    export(network, tmp_path / "net.pth", AUTO)
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    network.module.load_state_dict(state, strict=True)
    assert "inc.double_conv.0.weight" in state


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_native_keeps_everything(tmp_path, norm):
    network = unet(norm=norm, groups=2)
    made = export(network, tmp_path / "net.safetensors", AUTO)
    again = checkpoints.load(tmp_path / "net.safetensors")
    assert (made.target, made.difference, gap(network, again)) == ("native", 0, 0)
    assert again.spec.architecture == network.spec.architecture


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_pt2_takes_any_size_on_the_stride(tmp_path, ndim, padding):
    network = unet(ndim=ndim, padding=padding)
    made = export(network, tmp_path / "net.pt2", AUTO)
    assert made.difference < 1e-5
    assert "and more" in made.notes[0]
    program = torch.export.load(tmp_path / "net.pt2").module()
    other = probe(network, (40,) + (24,) * (ndim - 1))
    assert other.difference(program) < 1e-5


@pytest.mark.parametrize("name", ["unet", "milesial", "monai_unet", "nuclei_broad"])
def test_onnx_gives_the_same(tmp_path, name):
    family = next(f for f in FAMILIES if f.name == name)
    pytest.importorskip("onnxruntime")
    network = of_family(family)
    made = export(network, tmp_path / "net.onnx", AUTO)
    assert 0 <= made.difference <= 1e-5 * max(1, probe(network).largest)


def test_onnx_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "lacking_packages", lambda: ["onnxscript"])
    with pytest.raises(UsageError, match=r"no onnxscript.*napari\[export\]"):
        export(unet(), tmp_path / "net.onnx", AUTO)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("kind", NORMS)
def test_a_package_brings_its_processing_along(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(compiled, "lacking_packages", lambda: ["onnx"])
    network = changed(
        unet(norm="instance"),
        normalization=(NORMS[kind],),
        class_names=("back ground", "2nd"),
    )
    made = export(network, tmp_path / "net.zip", AUTO)
    again = checkpoints.load(tmp_path / "net.zip")
    assert made.difference < 1e-5
    assert "Without ONNX" in made.notes[0]
    assert again.spec.normalization == network.spec.normalization
    assert again.spec.activation == "softmax"
    assert again.spec.class_names == ("back_ground", "class_2nd")
    assert gap(network, again) == 0


def test_nothing_is_made_up(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "lacking_packages", lambda: ["onnx"])
    export(unet(), tmp_path / "net.zip", AUTO)
    with zipfile.ZipFile(tmp_path / "net.zip") as archive:
        facts = yaml.safe_load(archive.read("rdf.yaml"))
        image = np.load(archive.open("test_input.npy"))
    assert facts["authors"] == []
    assert "license" not in facts
    least = facts["inputs"][0]["axes"][-1]["size"]["min"]
    halo = facts["outputs"][0]["axes"][-1]["halo"]
    assert image.shape == (1, 1, least, least)
    assert least > 2 * halo


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"norm": "instance"}, "Tiles give other values"),
        ({"widths": (2, 2, 2, 2, 2, 2, 2)}, "the network looks"),
        ({}, ""),
    ],
)
def test_a_package_says_where_tiles_differ(tmp_path, monkeypatch, fields, words):
    monkeypatch.setattr(compiled, "lacking_packages", lambda: ["onnx"])
    made = export(unet(**fields), tmp_path / "net.zip", AUTO)
    with zipfile.ZipFile(tmp_path / "net.zip") as archive:
        readme = archive.read("README.md").decode()
    told = [note for note in made.notes if not note.startswith("Without ONNX")]
    assert all(note in readme for note in told)
    assert words in " ".join(told)
    assert bool(told) is bool(words)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("axes", ["ZYX", "XYZ"])
def test_a_package_keeps_what_the_weights_do_not_show(tmp_path, axes, monkeypatch):
    monkeypatch.setattr(compiled, "lacking_packages", lambda: ["onnx"])
    family = next(f for f in FAMILIES if f.name == "monai_unet")
    sizes = {"kernel": [3, 3, 3], "up_kernel": [3, 3, 3]}
    shape = {"ndim": 3, "widths": [2, 4, 6], "strides": [[2, 1, 2], [1, 2, 2]]}
    architecture = {**family.typical, **shape, **sizes, "axes": axes}
    fields = {"ndim": 3, "in_channels": 1, "out_channels": 2}
    spec = ModelSpec(family="monai_unet", architecture=architecture, **fields)
    network = Network(calm(family.build(architecture)), spec)
    export(network, tmp_path / "net.zip", AUTO)
    again = checkpoints.load(tmp_path / "net.zip").spec.architecture
    assert (again["axes"], again["strides"]) == (axes, shape["strides"])


def test_onnx_of_volumes_gives_the_same(tmp_path):
    pytest.importorskip("onnxruntime")
    network = unet(ndim=3)  # its convolutions have no bias
    made = export(network, tmp_path / "net.onnx", AUTO)
    assert made.difference <= 1e-5 * probe(network).largest


def test_a_short_name_is_lengthened(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "lacking_packages", lambda: ["onnx"])
    export(unet(), tmp_path / "net.zip", ExportConfig(title="tiny"))
    with zipfile.ZipFile(tmp_path / "net.zip") as archive:
        facts = yaml.safe_load(archive.read("rdf.yaml"))
    assert facts["name"] == "tiny U-Net"


def test_a_package_says_that_a_procedure_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "lacking_packages", lambda: ["onnx"])
    network = changed(unet(), recipe=Recipe(patch=(16, 16)))
    made = export(network, tmp_path / "net.zip", AUTO)
    assert "not part of the package" in " ".join(made.notes)


@pytest.mark.parametrize("norm", [{"kind": "ct"}, {"kind": "zscore", "masked": True}])
def test_scalings_that_a_package_does_not_know_are_refused(tmp_path, norm):
    network = changed(unet(), normalization=(Normalization(**norm),))
    with pytest.raises(ModelError, match="CT images or of masked ones"):
        export(network, tmp_path / "net.zip", AUTO)


def test_channels_scaled_apart_do_not_fit_a_package(tmp_path):
    norms = (Normalization(kind="zscore"), Normalization(kind="minmax"))
    network = changed(unet(in_channels=2), normalization=norms)
    with pytest.raises(ModelError, match="scaled in different ways"):
        export(network, tmp_path / "net.zip", AUTO)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_values_gets_no_name(tmp_path, monkeypatch):
    network = unet()

    def spoilt(part):
        again = checkpoints.load(part)
        next(again.module.parameters()).data.mul_(1.01)
        return again

    monkeypatch.setattr("napari_unet.checkpoints.exports.tensors.load", spoilt)
    with pytest.raises(ModelError, match="would give other values"):
        export(network, tmp_path / "net.safetensors", AUTO)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path):
    path, side = tmp_path / "net.pth", tmp_path / "new.unet.json"
    checkpoints.save(unet(), tmp_path / "net.safetensors")
    path.write_text("mine")
    side.write_text("{}")
    with pytest.raises(OutputError, match="there"):
        export(unet(), path, AUTO)
    for name in ("net.pth", "new.pth"):
        with pytest.raises(UsageError, match="there already"):
            api.export_model(tmp_path / "net.safetensors", tmp_path / name)
    with pytest.raises(UsageError, match="would replace the model"):
        api.export_model(path, path, overwrite=True)
    assert (path.read_text(), side.read_text()) == ("mine", "{}")


@pytest.mark.usefixtures("in_process")
def test_the_parents_sidecar_is_not_written_over(tmp_path):
    parent = tmp_path / "net.pth"
    export(unet(), parent, AUTO)
    before = beside(parent).read_text()
    with pytest.raises(UsageError, match="would replace the model"):
        api.export_model(parent, tmp_path / "net.pt", overwrite=True)
    assert beside(parent).read_text() == before
    assert json.loads(before)["architecture"]["padding"] == "same"


@pytest.mark.parametrize(
    ("name", "target"),
    [("net", "auto"), ("net.xyz", "auto"), ("net.pth", "onnx"), ("a.onnx", "native")],
)
def test_names_that_do_not_tell_are_refused(name, target, tmp_path):
    with pytest.raises(UsageError, match="ending in"):
        export(unet(), tmp_path / name, ExportConfig(to=target))
