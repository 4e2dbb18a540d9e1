from __future__ import annotations

import pickle
import sys
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from hostile import files
from safetensors.torch import save, save_file
from tiny_networks import unet

from napari_unet import checkpoints
from napari_unet.checkpoints import quarantine
from napari_unet.checkpoints.quarantine import read_foreign
from napari_unet.errors import ModelError


def test_hostile_folder_is_not_imported_from(no_mark):
    (no_mark / "torch.py").write_text("open('MARK', 'w')")
    (no_mark / "json.py").write_text("open('MARK', 'w')")
    network = unet()
    torch.save(network.module.state_dict(), "model.pth")
    assert checkpoints.load("model.pth").parameters == network.parameters


def test_dead_child_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(quarantine, "_START", "import os; os.abort()")
    with pytest.raises(ModelError, match="reading process ended with code"):
        read_foreign(files.benign(tmp_path / "model.pth"), "torch")


def test_endless_child_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(quarantine, "_START", "import time; time.sleep(60)")
    with pytest.raises(ModelError, match="no end after"):
        read_foreign(files.benign(tmp_path / "model.pth"), "torch", timeout=0.3)


def test_protocol_4_is_told(tmp_path, in_process):
    torch.save({"a": Namespace()}, tmp_path / "model.pth", pickle_protocol=4)
    with pytest.raises(ModelError, match="pickle protocol"):
        checkpoints.load(tmp_path / "model.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_foreign_objects_are_inert(tmp_path, in_process, zipped):
    """Settings of other libraries lie beside the weights and are not imported."""
    network = unet()
    tree = {
        "hyper_parameters": Namespace(lr=0.1, widths=[4, 8]),
        "best": np.float64(0.5),
        "history": defaultdict(list, {"loss": [1.0]}),
        "lookup": slice(1, 2),
        "state_dict": OrderedDict(network.module.state_dict()),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(4, 1, 3, 3)}}}],
    }
    path = tmp_path / "model.ckpt"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    loaded = checkpoints.load(path)
    assert loaded.spec.provenance["wrapper"] == "state_dict"
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(loaded(image), network(image))


def test_whole_module_is_read_without_its_class(tmp_path, in_process):
    network = unet()
    torch.save(network.module, tmp_path / "model.pt")
    sys_modules = set(sys.modules)
    loaded = checkpoints.load(tmp_path / "model.pt")
    assert set(sys.modules) == sys_modules
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(loaded(image), network(image))


def write_keras(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(name, "{}")


def write_pt2(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/models/model.json", "{}")


NOT_CHECKPOINTS = {
    "empty": (lambda p: p.write_bytes(b""), "an empty file"),
    "text": (lambda p: p.write_text("weights, please"), "a text file"),
    "html": (lambda p: p.write_text("<!DOCTYPE html><html>"), "a web page"),
    "lfs": (
        lambda p: p.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256"
        ),
        "a Git LFS pointer",
    ),
    "noise": (lambda p: p.write_bytes(bytes(range(130, 256)) * 9), "unknown bytes"),
    "folder": (lambda p: p.mkdir(), "a folder without a model"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps([1])), "a bare Python pickle"),
    "hdf5": (
        lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        "readable HDF5",
    ),
    "tiff": (lambda p: p.write_bytes(b"II*\0" + bytes(99)), "a TIFF image"),
    "onnx": (
        lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch"),
        "no readable ONNX|0 inputs",
    ),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.zeros(3)), "a NumPy archive"),
    "keras": (write_keras, "no readable HDF5"),
    "pt2": (write_pt2, r"lacks a file it names: found no data/weights/model_w"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_what_is_no_checkpoint_is_named(tmp_path, name):
    write, words = NOT_CHECKPOINTS[name]
    path = tmp_path / "model.pth"
    write(path)
    with pytest.raises(ModelError, match=words):
        checkpoints.load(path)


def test_absent_file(tmp_path):
    with pytest.raises(ModelError, match="There is no file"):
        checkpoints.load(tmp_path / "model.pth")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_files(tmp_path, in_process, kind, share):
    path = tmp_path / "model.pth"
    state = unet().module.state_dict()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match="damaged"):
        checkpoints.load(path)


def test_lying_safetensors(tmp_path):
    good = save({"w": torch.zeros(1, 1, 3)})
    header = int.from_bytes(good[:8], "little")
    twice = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' * 2
    for data in (
        (10**12).to_bytes(8, "little") + good[8:],
        (header + 8).to_bytes(8, "little") + good[8:],
        good[:8] + good[8:].replace(b"[1,1,3]", b"[1,1,9]"),
        len(twice).to_bytes(8, "little") + twice[:-1] + b"}" + bytes(4),
    ):
        path = tmp_path / "model.safetensors"
        path.write_bytes(data)
        with pytest.raises(ModelError, match="damaged"):
            checkpoints.load(path)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.full((4, 1, 3, 3), float("nan")), "NaN or infinite values in encoder"),
        (torch.full((4, 1, 3, 3), float("inf")), "NaN or infinite values in encoder"),
        (torch.zeros(4, 1, 3, 3, dtype=torch.complex64), "complex"),
        (torch.zeros(4, 1, 3, 3).to_sparse(), "sparse"),
    ],
)
def test_unusable_weights(tmp_path, in_process, weight, words):
    state = unet().module.state_dict()
    state["encoder.0.0.weight"] = weight
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ModelError, match=words):
        checkpoints.load(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ([1, 2], "a list"),
        (torch.zeros(3, 3, 3, 3), "a single tensor"),
        ({}, "an empty mapping"),
        ({"epoch": 3, "loss": 0.5}, "keys epoch, loss"),
        (
            {"optimizer": {"state": {0: {"exp_avg": torch.zeros(4, 1, 3, 3)}}}},
            "keys optimizer",
        ),
    ],
)
def test_files_without_weights(tmp_path, in_process, tree, words):
    torch.save(tree, tmp_path / "model.pth")
    with pytest.raises(ModelError, match=f"no network weights: found {words}"):
        checkpoints.load(tmp_path / "model.pth")
