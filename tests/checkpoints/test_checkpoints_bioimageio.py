from __future__ import annotations

import hashlib
import json
import zipfile

import numpy as np
import pytest
import torch
import yaml
from shared import shared
from tiny_networks import lively

from napari_unet import checkpoints
from napari_unet.checkpoints.families.torch_em import TorchEm
from napari_unet.errors import ModelError

KEYWORDS = {"depth": 1, "final_activation": None}


def module():
    return lively(
        TorchEm().build(
            {
                **{"ndim": 2, "in_channels": 1, "out_channels": 1, "norm": "none"},
                **{"widths": [2, 4], "strides": [[2, 2]], "kernels": [[3, 3]] * 2},
            }
        )
    )


def package(folder, scale=None, sigmoid=True, factor=1.0, **changes):
    """Write a small package of format 0.5 and return its description."""
    folder.mkdir()
    net = module()
    torch.save(net.state_dict(), folder / "weights.pt")
    image = np.random.default_rng(0).normal(300, 50, (1, 1, 8, 12)).astype("float32")
    step = scale or {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}
    with torch.inference_mode():
        logits = net(torch.tensor((image - image.mean()) / (image.std() + 1e-6)))
    output = (logits.sigmoid() if sigmoid else logits).numpy() * factor
    np.save(folder / "in.npy", image)
    np.save(folder / "out.npy", output)
    after = [{"id": "sigmoid"}, {"id": "ensure_dtype"}] if sigmoid else []
    facts = {
        "type": "model",
        "format_version": "0.5.4",
        "name": "Little",
        "inputs": [
            {
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["a"]},
                ],
                "preprocessing": [{"id": "ensure_dtype"}, step],
                "test_tensor": {"source": "in.npy"},
            }
        ],
        "outputs": [
            {
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["n"]},
                ],
                "postprocessing": after,
                "test_tensor": {"source": "out.npy"},
            }
        ],
        "weights": {
            "pytorch_state_dict": {
                "source": "weights.pt",
                "sha256": sha256(folder / "weights.pt"),
                "architecture": {"source": "evil.py", "kwargs": KEYWORDS},
            }
        },
        **changes,
    }
    (folder / "bioimageio.yaml").write_text(yaml.safe_dump(facts))
    return facts


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def zipped(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in folder.iterdir():
            archive.write(member, prefix + member.name)
    return path


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("form", ["folder", "weights", "yaml", "zip", "deep zip"])
def test_every_way_in_gives_the_same(tmp_path, form):
    folder = tmp_path / "little"
    package(folder)
    path = {
        "folder": lambda: folder,
        "weights": lambda: folder / "weights.pt",
        "yaml": lambda: folder / "bioimageio.yaml",
        "zip": lambda: zipped(folder, tmp_path / "little.zip"),
        "deep zip": lambda: zipped(folder, tmp_path / "little.zip", "little/"),
    }[form]()
    report = checkpoints.inspect(path)
    assert report["name"] == "Little"
    assert report["activation"] == "sigmoid"
    assert report["classes"] == ["n"]
    assert report["normalization"][0]["kind"] == "zscore"
    assert report["normalization"][0]["joint"] is False
    assert report["test"]["passed"] is True
    assert report["test"]["difference"] < 1e-5
    fields = {a["field"] for a in report["assumed"]}
    assert not fields & {"activation", "normalization", "architecture.strides"}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("step", "kind", "fields"),
    [
        (
            {"name": "zero_mean_unit_variance", "kwargs": {"axes": "cyx"}},
            "zscore",
            {"joint": True, "eps": 1e-6},
        ),
        (
            {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 4, "std": 2}},
            "linear",
            {"gain": 0.5, "offset": -2.0},
        ),
        (
            {
                "id": "scale_range",
                "kwargs": {"min_percentile": 1, "max_percentile": 99, "eps": "1e-5"},
            },
            "percentile",
            {"joint": True, "low": 1.0, "high": 99.0, "eps": 1e-5},
        ),
        (
            {"id": "scale_linear", "kwargs": {"gain": 2, "offset": 1}},
            "linear",
            {"gain": 2.0, "offset": 1.0},
        ),
    ],
)
def test_preprocessing(tmp_path, step, kind, fields):
    facts = package(tmp_path / "p", scale=step)
    for side in ("inputs", "outputs"):
        del facts[side][0]["test_tensor"]
    (tmp_path / "p" / "bioimageio.yaml").write_text(yaml.safe_dump(facts))
    (norm,) = checkpoints.load(tmp_path / "p").spec.normalization
    assert norm.kind == kind
    assert {k: pytest.approx(getattr(norm, k)) for k in fields} == fields


@pytest.mark.usefixtures("in_process")
def test_activation_not_declared_is_assumed_none(tmp_path):
    package(tmp_path / "p", sigmoid=False)
    spec = checkpoints.load(tmp_path / "p").spec
    assert spec.activation == "none"
    assert [a.alternatives for a in spec.assumed] == [("sigmoid", "softmax")]


@pytest.mark.usefixtures("in_process")
def test_wrong_output_is_caught(tmp_path):
    package(tmp_path / "p", factor=0.9)
    with pytest.raises(ModelError, match="does not give the outputs stored"):
        checkpoints.load(tmp_path / "p")


@pytest.mark.usefixtures("in_process")
def test_changed_file_is_caught(tmp_path):
    package(tmp_path / "p")
    torch.save(lively(module()).double().state_dict(), tmp_path / "p" / "weights.pt")
    with pytest.raises(ModelError, match="another SHA-256"):
        checkpoints.load(tmp_path / "p")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("../weights.pt", "points outside itself"),
        ("/etc/passwd", "points outside itself"),
        ("C:\\weights.pt", "points outside itself"),
        ("https://example.com/w.pt", "not in the package"),
        ("other.pt", "not in the package"),
    ],
)
def test_weights_outside_the_package(tmp_path, source, words):
    facts = package(tmp_path / "p")
    torch.save(module().state_dict(), tmp_path / "weights.pt")
    facts["weights"]["pytorch_state_dict"] = {"source": source}
    (tmp_path / "p" / "bioimageio.yaml").write_text(yaml.safe_dump(facts))
    with pytest.raises(ModelError, match=words):
        checkpoints.load(tmp_path / "p")


def test_link_out_of_the_package(tmp_path):
    package(tmp_path / "p")
    (tmp_path / "p" / "weights.pt").rename(tmp_path / "away.pt")
    (tmp_path / "p" / "weights.pt").symlink_to(tmp_path / "away.pt")
    with pytest.raises(ModelError, match="points outside itself"):
        checkpoints.load(tmp_path / "p")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!!python/object/apply:builtins.open [MARK, w]", "no readable YAML"),
        ("type: dataset", "no model"),
        ("[" * 5000, "64 levels"),
        ("a: &a [1]\nb: [" + "*a, " * 1500 + "1]", "aliases"),
        ("type: model\nweights: {tensorflow_js: {}}\noutputs: []", "no weights"),
        ("type: model", "KeyError"),
        ("type: model\n" + "#" * (1 << 20), "larger than"),
    ],
)
def test_hostile_descriptions(no_mark, text, words):
    (no_mark / "p").mkdir()
    (no_mark / "p" / "rdf.yaml").write_text(text)
    with pytest.raises(ModelError, match=words):
        checkpoints.load(no_mark / "p")


WEIGHTS = "weights"


def stored(name, side):
    folder = shared(WEIGHTS, name)
    return np.concatenate(
        [np.load(p) for p in sorted(folder.glob(f"test_{side}*.npy"))], axis=1
    )


@pytest.mark.real
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", ["bioimageio_fixed_shape", "bioimageio_multi_tensor"])
@pytest.mark.parametrize("member", ["", "weights.pt"])
def test_real_package_reproduces_its_outputs(name, member):
    network = checkpoints.load(shared(WEIGHTS, name) / member)
    image = stored(name, "input").astype("float64")
    mean, std = (f((2, 3), keepdims=True) for f in (image.mean, image.std))
    output = network((image - mean) / (std + 1e-6)).numpy()
    assert np.abs(output - stored(name, "output")).max() < 1e-5
    assert network.spec.provenance["test"]["passed"]
    kinds = [n.kind for n in network.spec.normalization]
    assert kinds == ["zscore"] * (2 if "multi" in name else 1)
    placed = network.place("cpu", "float32")
    assert np.abs(placed((image - mean) / (std + 1e-6)).numpy() - output).max() < 1e-5


@pytest.mark.real
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("bioimageio_diff_output_shape",), r"\(1, 1, 256, 256\).*\(1, 1, 128, 128\)"),
    ],
)
def test_real_files_that_are_refused(path, words):
    with pytest.raises(ModelError, match=words):
        checkpoints.load(shared(WEIGHTS, *path))


@pytest.mark.real
def test_inspect_of_a_real_package():
    report = checkpoints.inspect(shared(WEIGHTS, "bioimageio_fixed_shape"))
    assert json.loads(json.dumps(report)) == report
    assert report["family"] == "torch_em"
    assert report["parameters"] == 449489
    assert report["stride"] == [8, 8]
    assert report["exact"] is False
    assert report["reason"] == "instance norm looks at the whole image"
    assert report["test"]["difference"] < 1e-5


NUCLEI = (
    *("state_dict.pt", "state_dict.safetensors"),
    *("weights_torchscript.pt", "weights.onnx", "."),
)


@pytest.mark.real
@pytest.mark.parametrize("member", NUCLEI)
def test_real_nuclei_broad_from_each_of_its_files(member):
    folder = shared("weights", "bioimageio_nuclei_broad")
    network = checkpoints.load(folder / member)
    image = np.load(folder / "test_input.npy")
    scaled = (image - image.mean()) / (image.std() + 1e-6)
    found = network(scaled).sigmoid().numpy()
    assert np.abs(found - np.load(folder / "test_output.npy")).max() <= 1e-5
    assert network.spec.activation == "sigmoid"
    assert network.spec.normalization[0].kind == "zscore"


@pytest.mark.real
def test_real_traced_torchscript():
    folder = shared("weights", "bioimageio_multi_tensor")
    traced = checkpoints.load(folder / "weights_torchscript_traced.pt")
    plain = checkpoints.load(folder / "weights.pt")
    image = torch.randn(1, 2, 64, 64)
    assert torch.equal(traced(image), plain(image))
