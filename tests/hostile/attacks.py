"""The corpus: each attack, a careless program that falls for it, and our answer."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import marshal
import math
import os
import pickle
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from hostile import files

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Attack:
    """One row of the corpus.

    Attributes
    ----------
    row : str
        Its place in the threat model: A runs code, B exhausts, C reads elsewhere, D
        writes elsewhere.
    build : callable
        Writes the file or folder.
    words : str
        Pattern that our refusal must match; empty where what is harmless in the file
        is opened.
    careless : callable, optional
        Opens it as a careless program does. Returns what it got, for C and B rows.
    name : str
        Of the file; an ending must not matter.
    """

    row: str
    build: Callable[[Path], None]
    words: str
    careless: Callable[[Path], Any] | None = None
    name: str = "model.pth"

    def __str__(self) -> str:
        return f"{self.row}-{self.build.__name__}-{self.name}"

    @property
    def goal(self) -> str:
        """What a careless program does: run, read, grow, or nothing that shows."""
        if self.careless is None:
            return ""
        return {"A": "run", "B": "grow", "C": "read", "D": "run"}[self.row[0]]


def unsafe_load(path: Path) -> None:
    """Load as before torch 2.6."""
    with warnings.catch_warnings(action="ignore"):
        torch.load(path, weights_only=False)


def fall_back(path: Path) -> None:
    """Try safely, then not so."""
    try:
        torch.load(path, weights_only=True)
    except pickle.UnpicklingError:
        unsafe_load(path)


def unpickle(path: Path) -> None:
    pickle.loads(path.read_bytes())


def run_script(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.load(path)


def run_forward(path: Path) -> None:
    """Load a traced network and use it."""
    with warnings.catch_warnings(action="ignore"):
        torch.jit.load(path)(torch.zeros(1, 1, 8, 8))


def run_export(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.export.load(path)


def run_library(path: Path) -> None:
    from torch._inductor import aoti_load_package

    aoti_load_package(os.fspath(path))


def import_package(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.package.PackageImporter(path).import_module("net")


def run_architecture(path: Path) -> None:
    """Import the module that the description names."""
    facts = yaml.safe_load((path / "rdf.yaml").read_text())
    source = facts["weights"]["pytorch_state_dict"]["architecture"].split(":")[0]
    spec = importlib.util.spec_from_file_location("architecture", path / source)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def unsafe_yaml(path: Path) -> None:
    yaml.unsafe_load((path / "rdf.yaml").read_text())


def expand_yaml(path: Path) -> int:
    """Count the leaves as printing the description would."""

    def leaves(value: Any, known: dict[int, int]) -> int:
        if not isinstance(value, (list, dict)):
            return 1
        if id(value) not in known:
            items = value.values() if isinstance(value, dict) else value
            known[id(value)] = sum(leaves(v, known) for v in items)
        return known[id(value)]

    return leaves(yaml.safe_load((path / "rdf.yaml").read_text()), {})


def evaluate(path: Path) -> None:
    facts = json.loads((path / "configs/inference.json").read_text())
    eval(facts["network_def"].removeprefix("$"))


def run_lambda(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    code = config["config"]["layers"][1]["config"]["function"]
    exec(marshal.loads(base64.b64decode(code)))


def call_named(path: Path) -> None:
    """Look a class up by the names in the file and make one."""
    with zipfile.ZipFile(path) as archive:
        layer = json.loads(archive.read("config.json"))["config"]["layers"][1]
    made = getattr(importlib.import_module(layer["module"]), layer["class_name"])
    made(*layer["config"].values())


def read_keras(path: Path) -> bytes:
    import h5py

    with zipfile.ZipFile(path) as archive:
        archive.extract("model.weights.h5", path.parent)
    with h5py.File(path.parent / "model.weights.h5") as file:
        return bytes(file["layers/conv2d/vars/0"][()])


def read_hdf5(path: Path) -> bytes:
    import h5py

    with h5py.File(path) as file:
        return bytes(file["data/conv/0"][()])


def size_of_hdf5(path: Path) -> int:
    import h5py

    with h5py.File(path) as file:
        return file["data/conv/0"].nbytes


def read_onnx(path: Path) -> bytes:
    """Follow the location without looking where it leads."""
    import onnx

    weight = onnx.load(path, load_external_data=False).graph.initializer[0]
    return (path.parent / "inside" / weight.external_data[0].value).read_bytes()


def size_of_tensors(path: Path) -> int:
    tensor = torch.load(path, weights_only=True)["w"]
    return tensor.numel() * tensor.element_size()


def size_of_pt2(path: Path) -> int:
    """Add up what the tensors claim."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("weights_config.json"))
        entries = json.loads(archive.read(name))["config"].values()
    sizes = [[n["as_int"] for n in e["tensor_meta"]["sizes"]] for e in entries]
    return sum(4 * math.prod(size) for size in sizes)


def size_of_members(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(info.file_size for info in archive.infolist())


def extract(path: Path) -> None:
    """Write each member under its name, as it stands."""
    folder = path.parent / "out"
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            target = Path(f"{folder}/{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                target.write_bytes(archive.read(name))
    if (folder / files.MARK).exists():  # climbed out of inner/
        Path(files.MARK).write_bytes(b"")


OPEN = r"call of (_?io|builtins)\.open"
CORPUS = [
    Attack("A1", files.zip_reduce, OPEN, unsafe_load),
    Attack("A2", files.legacy_reduce, OPEN, unsafe_load),
    *(
        Attack("A3", build, words, unpickle, f"model.{ending}")
        for build, words in (
            (files.bare_pickle, "bare Python pickle"),
            (files.ascii_pickle, "not a checkpoint"),
        )
        for ending in ("pth", "bin", "txt", "h5", "safetensors", "onnx")
    ),
    Attack("A4", files.old_tar, "tar archive", unsafe_load),
    Attack("A5", files.two_pickles, "two members of one name", unsafe_load),
    Attack("A5", files.other_local_name, "ambiguous archive"),
    Attack("A5", files.encrypted, "encrypted"),
    Attack("A6", files.bad_setitem, "damaged"),
    Attack("A6", files.short_storage, "damaged"),
    Attack("A7", files.odd_beside, r"call of (_?io\.open|posix|nt)", fall_back),
    Attack("A8", files.torchscript, "model.pth", run_script),
    Attack("A8", files.script_text, "operator from_file", run_forward),
    Attack("A9", files.pt2_inputs, "", run_export, "model.pt2"),
    Attack("A9", files.pt2_weights, OPEN, run_export, "model.pt2"),
    Attack("A9", files.pt2_old_weights, OPEN, run_export, "model.pt2"),
    Attack("A9", files.pt2_object, "objects of another class", run_export, "model.pt2"),
    Attack("A10", files.pt2_library, "machine code", run_library, "model.pt2"),
    Attack("A11", files.torch_package, "torch.package", import_package),
    Attack("A11", files.module_of_the_folder, "no network weights", unsafe_load),
    Attack("A13", files.code_in_package, "known kinds", run_architecture, "package"),
    Attack("A13", files.monai_code, "package", evaluate, "package"),
    Attack("A13", files.keras_lambda, "layer Lambda", run_lambda, "model.keras"),
    Attack(
        *("A13", files.keras_named_function, "a class of its own", call_named),
        "model.keras",
    ),
    Attack("A14", files.yaml_tag, "no readable YAML", unsafe_yaml, "package"),
    Attack("B1", files.endless_stride, "larger than its data", size_of_tensors),
    Attack("B2", files.meta, "without data", size_of_tensors),
    Attack("B3", files.bomb, "grows from", size_of_members),
    Attack("B6", files.yaml_bomb, "aliases", expand_yaml, "package"),
    Attack("B6", files.pt2_depth, "too many levels", name="model.pt2"),
    Attack("B6", files.pt2_number, "package that does not fit", name="model.pt2"),
    Attack("B6", files.script_depth, "nested too deeply"),
    Attack("B6", files.script_number, "number without measure"),
    Attack("B1", files.pt2_stride, "larger than its data", size_of_pt2, "model.pt2"),
    Attack("B3", files.pt2_bomb, "grows from", size_of_members, "model.pt2"),
    Attack("B6", files.yaml_depth, "levels|no readable YAML", name="package"),
    Attack("B7", files.many_tensors, "tensors", name="model.safetensors"),
    Attack("B6", files.keras_depth, "no readable config", name="model.keras"),
    Attack("B8", files.hdf5_huge, "array of shape", size_of_hdf5, "model.h5"),
    Attack("B9", files.deep_list, "no network weights"),
    Attack("C2", files.hdf5_external, "kept outside", read_hdf5, "model.h5"),
    Attack("C2", files.hdf5_link, "not followed", read_hdf5, "model.h5"),
    Attack("C2", files.hdf5_virtual, "kept outside", read_hdf5, "model.h5"),
    Attack("C2", files.keras_external, "kept outside", read_keras, "model.keras"),
    Attack("C3", files.onnx_external, "model.onnx", read_onnx, "model.onnx"),
    Attack("D1", files.climbing_name, "points outside itself"),
    Attack("D1", files.pt2_climbing, "points outside itself", name="model.pt2"),
    Attack("D1", files.zip_slip, "points outside itself", extract, "package.zip"),
    Attack("D2", files.zip_link, "link inside", name="package.zip"),
]
"""Rows of the threat model that concern checkpoints."""
