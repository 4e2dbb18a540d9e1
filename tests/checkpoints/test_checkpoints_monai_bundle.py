from __future__ import annotations

import json
import zipfile

import pytest
import torch
import yaml
from zoo.stored_cases import cases

from napari_unet import checkpoints
from napari_unet.checkpoints.exports.export import export
from napari_unet.config import ExportConfig
from napari_unet.errors import ModelError
from napari_unet.images.intensity import Normalization

pytestmark = pytest.mark.usefixtures("in_process", "no_mark")

CASE = next(c for c in cases("monai") if c.name == "unet-plain-strides")
WRITES = "$__import__('pathlib').Path('MARK').touch()"
UNET = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 6, 8],
    "strides": "@strides",
}
METADATA = {
    "name": "Little organ",
    "network_data_format": {
        "outputs": {"pred": {"channel_def": {"1": "organ", "0": "background"}}}
    },
}
LOAD = {"_target_": "LoadImaged", "keys": "image"}
SPACING = {"_target_": "Spacingd", "pixdim": [0.5, 0.25, 2.0]}
SOFTMAX = {"_target_": "Activationsd", "softmax": True}


def bundle(folder, steps=(), network=None, after=(SOFTMAX,), as_yaml=False):
    """Write a bundle of the stored case and return its folder."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = {
        "imports": [WRITES],
        "strides": [[1, 2, 2], 2],
        "low": -100,
        "device": WRITES,
        "network_def": network or UNET,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": list(steps)},
        "postprocessing": {"_target_": "Compose", "transforms": list(after)},
    }
    name = "inference.yaml" if as_yaml else "inference.json"
    text = yaml.safe_dump(config) if as_yaml else json.dumps(config)
    (folder / "configs" / name).write_text(text)
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    torch.save(CASE.state, folder / "models" / "model.pt")
    return folder


def zipped(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member in folder.rglob("*"):
            file.write(member, member.relative_to(folder.parent))
    return path


def difference(network, turned=False):
    """Compare with MONAI's output of an image that MONAI would read with X first."""
    image = CASE.image.permute(0, 1, 4, 3, 2) if turned else CASE.image
    with torch.inference_mode():
        found = network.module(image)
    return CASE.difference(found.permute(0, 1, 4, 3, 2) if turned else found)


def open_steps(tmp_path, *steps):
    spec = checkpoints.load(bundle(tmp_path / "bundle", steps)).spec
    return spec, " ".join(spec.provenance["notes"])


@pytest.mark.parametrize("as_yaml", [False, True])
@pytest.mark.parametrize("form", ["folder", "zip", "weights"])
def test_a_bundle_is_read_in_every_form(tmp_path, form, as_yaml):
    folder = bundle(tmp_path / "bundle", [LOAD, SPACING], as_yaml=as_yaml)
    path = {"folder": folder, "weights": folder / "models" / "model.pt"}.get(form)
    network = checkpoints.load(path or zipped(folder))
    spec = network.spec
    assert difference(network, turned=True) <= 1e-5
    assert spec.architecture["axes"] == "XYZ"
    assert spec.architecture["strides"] == [[1, 2, 2], [2, 2, 2]]
    assert (spec.name, spec.activation) == ("Little organ", "softmax")
    assert spec.class_names == ("background", "organ")
    assert spec.spacing == {"X": 500.0, "Y": 250.0, "Z": 2000.0}
    assert "MONAI bundle" in spec.provenance["container"]
    assert {a.field for a in spec.assumed} == {"normalization"}


def test_a_setting_that_is_a_program_stays_open(tmp_path):
    network = {**UNET, "strides": WRITES, "norm": ["instance", {"affine": WRITES}]}
    spec = checkpoints.load(bundle(tmp_path / "bundle", network=network)).spec
    names = {a.field for a in spec.assumed}
    assert {"architecture.strides", "architecture.norm"} <= names
    assert "architecture.order" not in names
    notes = " ".join(spec.provenance["notes"])
    assert "strides of the network is a program" in notes


@pytest.mark.parametrize("target", ["os.system", "evil.UNet", "my.nets.VNet", WRITES])
def test_a_class_that_is_not_monais_is_not_looked_up(tmp_path, target):
    network = {**UNET, "_target_": target}
    spec = checkpoints.load(bundle(tmp_path / "bundle", network=network)).spec
    assert "architecture.strides" in {a.field for a in spec.assumed}


@pytest.mark.parametrize("definition", ["@network_def", "@nowhere#0", "%other#x", 3])
def test_references_that_lead_nowhere_leave_the_network_open(tmp_path, definition):
    spec = checkpoints.load(bundle(tmp_path / "bundle", network=definition)).spec
    assert "architecture.strides" in {a.field for a in spec.assumed}


RANGE = {"_target_": "ScaleIntensityRanged", "a_min": "@low", "a_max": 300}
PERCENTILES = {"_target_": "ScaleIntensityRangePercentilesd", "lower": 1, "upper": 99}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (
            {**RANGE, "b_min": 0, "b_max": 1, "clip": True},
            {"kind": "linear", "gain": 1 / 400, "offset": 0.25, "clip": True},
        ),
        (
            {**RANGE, "b_min": -1, "b_max": 1},
            {"kind": "linear", "gain": 1 / 200, "offset": -0.5},
        ),
        (
            {**PERCENTILES, "b_min": 0, "b_max": 1, "channel_wise": True, "clip": True},
            {"kind": "percentile", "low": 1, "high": 99, "clip": True, "eps": 0},
        ),
        ({"_target_": "ScaleIntensityd"}, {"kind": "minmax", "joint": True, "eps": 0}),
        (
            {"_target_": "monai.transforms.NormalizeIntensityD", "channel_wise": True},
            {"kind": "zscore", "eps": 0},
        ),
        (
            {"_target_": "NormalizeIntensityd", "subtrahend": 10, "divisor": 4},
            {"kind": "linear", "gain": 0.25, "offset": -2.5},
        ),
    ],
)
def test_intensity_transforms_are_data(tmp_path, step, expected):
    spec, notes = open_steps(tmp_path, LOAD, step)
    assert spec.normalization == (Normalization(**expected),)
    assert "normalization" not in {a.field for a in spec.assumed}
    assert "not carried out" not in notes


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "CropForegroundd", "keys": "image"},
        {"_target_": "ScaleIntensityd", "minv": -1, "maxv": 1},
        {"_target_": "ScaleIntensityRanged", "a_min": WRITES, "a_max": 1},
        {"_target_": "Spacingd", "pixdim": WRITES},
        {**PERCENTILES, "b_min": 0, "b_max": 255},
    ],
)
def test_what_has_no_counterpart_is_named(tmp_path, step):
    spec, notes = open_steps(tmp_path, step)
    name = step["_target_"].removesuffix("d")
    assert f"the step {name} before the network is not carried out" in notes
    assert "normalization" in {a.field for a in spec.assumed}
    assert spec.spacing == {}


def test_steps_that_change_the_input_otherwise_are_noted(tmp_path):
    _, notes = open_steps(
        tmp_path,
        LOAD,
        {"_target_": "Orientationd", "axcodes": "RAS"},
        {"_target_": "NormalizeIntensityd", "nonzero": True},
        {"_target_": "ScaleIntensityd"},
        {"_target_": "CropForegroundd", "_disabled_": True},
        WRITES,
    )
    assert "axes X, Y, Z" in notes
    assert "axes run to RAS" in notes
    assert "pixels other than 0" in notes
    assert "the step ScaleIntensity before the network is not carried out" in notes
    assert "a step before the network is a program" in notes
    assert "CropForeground" not in notes


@pytest.mark.parametrize(
    ("settings", "turned"),
    [
        ({}, True),
        ({"reader": "ITKReader"}, True),
        ({"reader": "PILReader"}, True),
        ({"reader": "ITKReader", "reverse_indexing": True}, False),
        ({"reader": "PILReader", "reverse_indexing": False}, False),
        ({"reader": "NumpyReader"}, False),
    ],
)
def test_readers_that_leave_the_axes_in_order(tmp_path, settings, turned):
    network = checkpoints.load(bundle(tmp_path / "bundle", [{**LOAD, **settings}]))
    assert difference(network, turned) <= 1e-5
    assert (network.spec.architecture["axes"] == "XYZ") is turned


def test_without_a_reader_the_axes_are_ours(tmp_path):
    assert difference(checkpoints.load(bundle(tmp_path / "bundle"))) <= 1e-5


def test_a_turned_network_tells_its_view_and_goes_back_as_it_came(tmp_path):
    turned = checkpoints.load(bundle(tmp_path / "bundle", [LOAD]))
    plain = checkpoints.load(bundle(tmp_path / "plain"))
    assert turned.geometry.stride == plain.geometry.stride[::-1]
    assert turned.geometry.stride != plain.geometry.stride
    export(turned, tmp_path / "net.pth", ExportConfig())
    written = torch.load(tmp_path / "net.pth")
    assert all(torch.equal(written[k], v) for k, v in CASE.state.items())
    for path in ("net.pth", "own.safetensors"):
        if path != "net.pth":
            checkpoints.save(turned, tmp_path / path)
        assert difference(checkpoints.load(tmp_path / path), turned=True) <= 1e-5


def test_axes_may_be_told(tmp_path):
    torch.save(CASE.state, tmp_path / "net.pth")
    strides = [[1, 2, 2], [2, 2, 2]]
    told = {"architecture.axes": "XYZ", "architecture.strides": strides}
    network = checkpoints.tell(tmp_path / "net.pth", told)
    assert difference(network, turned=True) <= 1e-5


def test_damaged_and_ambiguous_bundles_are_refused(tmp_path):
    folder = bundle(tmp_path / "bundle")
    (folder / "configs" / "inference.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="not a MONAI bundle that can be read"):
        checkpoints.load(folder)
    folder = bundle(tmp_path / "two")
    (folder / "models" / "model.pt").rename(folder / "models" / "a.pt")
    torch.save(CASE.state, folder / "models" / "b.pt")
    with pytest.raises(ModelError, match="several sets of weights"):
        checkpoints.load(folder)
    assert difference(checkpoints.load(folder / "models" / "b.pt")) <= 1e-5
