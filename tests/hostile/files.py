"""Builders of harmless stand-ins for attacks on programs that open checkpoints.

What runs creates the file MARK in the working folder; what reads elsewhere gives the
bytes of the file SECRET; what grows gives more bytes than it has.
"""

from __future__ import annotations

import io
import json
import marshal
import os
import pickle
import shutil
import subprocess
import tarfile
import warnings
import zipfile
from base64 import b64encode
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MARK = "MARK"
SECRET = "SECRET"
CODE = f"open({MARK!r}, 'w').close()"


class Evil:
    """Unpickling it opens MARK for writing."""

    def __reduce__(self):
        return open, (MARK, "w")


class Odd:
    """Unpickling it calls something unknown, beside which an attack may hide."""

    def __reduce__(self):
        return os.getcwd, ()


def rezip(source: Path, target: Path, change=lambda name, data: data, extra=(), how=0):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, data in extra:
            new.writestr(name, data)


def benign(path: Path, **tensors: torch.Tensor) -> Path:
    torch.save(tensors or {"w": torch.zeros(2, 2, 3)}, path)
    return path


def zip_reduce(path: Path) -> None:
    torch.save({"state_dict": Evil()}, path)


def legacy_reduce(path: Path) -> None:
    torch.save({"state_dict": Evil()}, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(), 2))


def ascii_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(), 0))


def old_tar(path: Path) -> None:
    head = {"protocol_version": 1000, "little_endian": True, "type_sizes": {}}
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(head if name == "sys_info" else Evil())
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def two_pickles(path: Path) -> None:
    good = benign(path.with_name("good.pth"))
    with zipfile.ZipFile(good) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
    with warnings.catch_warnings(action="ignore"):
        rezip(good, path, extra=[(name, pickle.dumps(Evil(), 2))])


def other_local_name(path: Path) -> None:
    """Let the directory and the member's own header disagree."""
    good = benign(path.with_name("good.pth"))
    data = good.read_bytes()
    path.write_bytes(data.replace(b"data.pkl", b"dada.pkl", 1))


def odd_beside(path: Path) -> None:
    """Offer a loader that falls back to less safety a reason to do so."""
    torch.save({"odd": Odd(), "state_dict": Evil()}, path)


def bad_setitem(path: Path) -> None:
    """Set an item on a list (CVE-2026-24747)."""
    good = benign(path.with_name("good.pth"))
    evil = b"\x80\2]K\0K\1s."
    rezip(good, path, lambda n, b: evil if n.endswith("data.pkl") else b)


def short_storage(path: Path) -> None:
    good = benign(path.with_name("good.pth"))
    rezip(good, path, lambda n, b: b[:4] if n.endswith("data/0") else b)


def endless_stride(path: Path) -> None:
    torch.save({"w": torch.zeros(1, 1, 1).expand(10**4, 10**4, 10**4)}, path)


def meta(path: Path) -> None:
    torch.save({"w": torch.empty(10**6, 10**3, 10**3, device="meta")}, path)


def bomb(path: Path) -> None:
    good = benign(path.with_name("good.pth"), w=torch.zeros(10, 10**5, 4))
    rezip(good, path, how=zipfile.ZIP_DEFLATED)


def climbing_name(path: Path) -> None:
    rezip(benign(path.with_name("good.pth")), path, extra=[("../MARK", b"x")])


def deep_list(path: Path) -> None:
    good = benign(path.with_name("good.pth"))
    nested = b"\x80\2" + b"]" * 20000 + b"a" * 19999 + b"."
    rezip(good, path, lambda n, b: nested if n.endswith("data.pkl") else b)


def encrypted(path: Path) -> None:
    """Set the flag of an encrypted member, which scanners stumble over."""
    zip_reduce(path.with_name("good.pth"))
    data = bytearray(path.with_name("good.pth").read_bytes())
    for magic, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(magic) + at] |= 1
    path.write_bytes(data)


class Script(torch.nn.Module):
    """Touches a file as soon as it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.v = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self):
        return (self.v, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.training = state[1]
        self.v = torch.from_file("MARK", True, 4)

    def forward(self, x):
        return x


def torchscript(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(Script()).save(path)


class Traced(torch.nn.Module):
    """A network that no family knows."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = torch.nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return torch.sigmoid(self.odd(x))


def traced(path: Path, old: str, new: str) -> None:
    """Trace a network and change the text of its program."""
    good = path.with_name("good.pth")
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(Traced().eval(), torch.zeros(1, 1, 8, 8)).save(good)

    def change(name: str, data: bytes) -> bytes:
        is_text = "/code/" in name and name.endswith(".py")
        return data.replace(old.encode(), new.encode()) if is_text else data

    rezip(good, path, change)


def script_text(path: Path) -> None:
    """Touch a file when the network is used."""
    traced(path, "torch.sigmoid(", f'torch.add(torch.from_file("{MARK}", True, 1), ')


def script_depth(path: Path) -> None:
    line = f"y = {'(' * 500}1{')' * 500}"
    traced(path, "    return torch.sigmoid", f"    {line}\n    return torch.sigmoid")


def script_number(path: Path) -> None:
    line = f"y = {'9' * 4000}"
    traced(path, "    return torch.sigmoid", f"    {line}\n    return torch.sigmoid")


def package(path: Path) -> Path:
    """Write a harmless torch.export package."""
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(Traced().eval(), (torch.zeros(1, 1, 8, 8),))
        torch.export.save(program, path)
    return path


def evil_file() -> bytes:
    data = io.BytesIO()
    torch.save({"odd.weight": Evil()}, data)
    return data.getvalue()


def pt2_inputs(path: Path) -> None:
    """Hide a pickle among the example inputs (CVE-2026-4538), which are not read."""
    good = package(path.with_name("good.pt2"))
    evil, end = evil_file(), "sample_inputs/model.pt"
    rezip(good, path, lambda n, b: evil if n.endswith(end) else b)


def pt2_weights(path: Path) -> None:
    """Keep the weights in a pickle, as torch 2.7 did."""
    good = package(path.with_name("good.pt2"))
    rezip(good, path, extra=[("good/data/weights/model.pt", evil_file())])


def pt2_old_weights(path: Path) -> None:
    """Keep the weights in a pickle, as before torch 2.8."""
    with zipfile.ZipFile(package(path.with_name("good.pt2"))) as good:
        graph = good.read("good/models/model.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_exported_program.json", graph)
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", evil_file())


def pt2_object(path: Path) -> None:
    """Say that a weight is a pickle of a class of its own."""
    good = package(path.with_name("good.pt2"))

    def change(name: str, data: bytes) -> bytes:
        if name.endswith("weights/weight_0"):
            return evil_file()
        if name.endswith("model_weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true')
        return data

    rezip(good, path, change)


def pt2_graph(path: Path, graph: str) -> None:
    good = package(path.with_name("good.pt2"))
    end = "models/model.json"
    rezip(good, path, lambda n, b: graph.encode() if n.endswith(end) else b)


def pt2_depth(path: Path) -> None:
    pt2_graph(path, '{"graph_module": ' + "[" * 10**5 + "]" * 10**5 + "}")


def pt2_number(path: Path) -> None:
    pt2_graph(path, '{"graph_module": ' + "9" * 10**5 + "}")


def pt2_stride(path: Path) -> None:
    """Let a tensor of nine numbers claim to be of a million million."""
    good = package(path.with_name("good.pt2"))

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("model_weights_config.json"):
            return data
        facts = json.loads(data)
        meta = facts["config"]["odd.weight"]["tensor_meta"]
        meta["sizes"] = [{"as_int": 10**3}] * 4
        meta["strides"] = [{"as_int": 0}] * 4
        return json.dumps(facts).encode()

    rezip(good, path, change)


def pt2_bomb(path: Path) -> None:
    good = package(path.with_name("good.pt2"))
    zeros = bytes(10**8)
    rezip(
        good,
        path,
        lambda n, b: zeros if n.endswith("weight_0") else b,
        how=zipfile.ZIP_DEFLATED,
    )


def pt2_climbing(path: Path) -> None:
    """Let a weight lie outside the package."""
    good = package(path.with_name("good.pt2"))
    end = "model_weights_config.json"
    rezip(
        good,
        path,
        lambda n, b: b.replace(b"weight_0", b"../../../MARK") if n.endswith(end) else b,
    )


def pt2_library(path: Path) -> None:
    """Pack a shared library whose constructor runs (AOTInductor)."""
    code = path.with_name("x.c")
    code.write_text(
        "#include <stdio.h>\n__attribute__((constructor)) void f()"
        '{fclose(fopen("MARK","w"));}'
    )
    library = path.with_name("x.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, code], check=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {
            "archive_format": "pt2",
            "archive_version": "0",
            "byteorder": "little",
            ".data/version": "3\n",
            "data/aotinductor/model/x.wrapper.cpp": "",
            "data/aotinductor/model/x.wrapper_metadata.json": json.dumps(
                {"AOTI_DEVICE_KEY": "cpu"}
            ),
            "data/aotinductor/model/x.wrapper.so": library.read_bytes(),
        }.items():
            archive.writestr(f"m/{name}", data)


def torch_package(path: Path) -> None:
    with torch.package.PackageExporter(path) as exporter:
        exporter.save_source_string("net", f"{CODE}\nclass Net: pass\n")
        exporter.save_source_string("empty", "")


def module_of_the_folder(path: Path) -> None:
    """Name a class whose module lies beside the file and runs when imported."""
    path.with_name("evilnet.py").write_text(f"{CODE}\nclass Net: pass\n")
    good = benign(path.with_name("good.pth"))
    evil = b"\x80\2cevilnet\nNet\n)\x81."
    rezip(good, path, lambda n, b: evil if n.endswith("data.pkl") else b)


def described(path: Path, text: str, **files: str) -> None:
    """Write a package folder of weights, a description and other files."""
    path.mkdir()
    benign(path / "weights.pt")
    (path / "rdf.yaml").write_text(text)
    for name, data in files.items():
        (path / f"{name}.py").write_text(data)


def code_in_package(path: Path) -> None:
    described(
        path,
        "type: model\nformat_version: 0.4.9\nname: x\n"
        "inputs: [{name: a, axes: bcyx, shape: [1, 1, 8, 8]}]\n"
        "outputs: [{name: b, axes: bcyx, shape: [1, 1, 8, 8]}]\n"
        "weights: {pytorch_state_dict: {source: weights.pt, "
        "architecture: evil.py:Net}}\n",
        evil=CODE,
    )


def yaml_tag(path: Path) -> None:
    tag = f"!!python/object/apply:builtins.open [{MARK}, w]"
    described(path, f"type: model\nname: {tag}\n")


def yaml_bomb(path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 120)]
    described(path, "type: model\n" + "\n".join(lines) + "\n")


def yaml_depth(path: Path) -> None:
    described(path, "type: model\nname: " + "[" * 5000 + "]" * 5000 + "\n")


def monai_code(path: Path) -> None:
    """Let a bundle's network be an expression, which MONAI evaluates."""
    (path / "configs").mkdir(parents=True)
    (path / "models").mkdir()
    benign(path / "models/model.pt")
    (path / "configs/metadata.json").write_text("{}")
    facts = {"network_def": f"$open({MARK!r}, 'w').close()"}
    (path / "configs/inference.json").write_text(json.dumps(facts))


def keras_lambda(path: Path) -> None:
    """Hide a marshalled function in a Keras model's Lambda layer."""
    code = marshal.dumps(compile(CODE, "x", "exec"))
    keras_model(
        path,
        {"class_name": "Lambda", "config": {"function": b64encode(code).decode()}},
        lambda file: file.create_group("layers"),
    )


def keras_model(path: Path, layer: dict, weights: Callable) -> None:
    """Write a Keras model of one layer, its HDF5 file made by a function."""
    import h5py

    image = {"class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 1]}}
    layers = [
        {**image, "name": "image", "inbound_nodes": []},
        {**layer, "name": "net", "inbound_nodes": [[["image", 0, 0, {}]]]},
    ]
    ends = {"input_layers": [["image", 0, 0]], "output_layers": [["net", 0, 0]]}
    config = {"class_name": "Functional", "config": {"layers": layers, **ends}}
    inside = io.BytesIO()
    with h5py.File(inside, "w") as file:
        weights(file)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", inside.getvalue())


def keras_named_function(path: Path) -> None:
    """Name a function of a module as a layer's class (Keras CVE-2025-1550)."""
    layer = {"module": "builtins", "class_name": "exec", "config": {"source": CODE}}
    keras_model(path, layer, lambda file: file.create_group("layers"))


def keras_external(path: Path) -> None:
    """Keep a weight's bytes elsewhere, inside Keras' own archive."""
    secret = path.with_name(SECRET)

    def weights(file) -> None:
        place = [(os.fspath(secret.resolve()), 0, 16)]
        file.create_dataset("layers/conv2d/vars/0", (16,), "u1", external=place)

    keras_model(path, {"class_name": "Conv2D", "config": {}}, weights)


def keras_depth(path: Path) -> None:
    keras_model(path, {"class_name": "Add", "config": {}}, lambda file: None)
    good = path.rename(path.with_name("good.keras"))
    deep = b"[" * 200_000
    rezip(good, path, lambda n, b: deep if n == "config.json" else b)


def hdf5_external(path: Path) -> None:
    """Keep a dataset's bytes in a file elsewhere (Keras CVE-2026-1669)."""
    import h5py

    secret = path.with_name(SECRET)
    with h5py.File(path, "w") as file:
        place = [(os.fspath(secret.resolve()), 0, 16)]
        file.create_dataset("data/conv/0", (16,), "u1", external=place)


def hdf5_link(path: Path) -> None:
    import h5py

    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["secret"] = np.frombuffer(path.with_name(SECRET).read_bytes(), "u1")
    with h5py.File(path, "w") as file:
        file["data/conv/0"] = h5py.ExternalLink("other.h5", "secret")


def hdf5_virtual(path: Path) -> None:
    import h5py

    secret = np.frombuffer(path.with_name(SECRET).read_bytes(), "u1")
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["secret"] = secret
    other = os.fspath(path.with_name("other.h5").resolve())
    layout = h5py.VirtualLayout(secret.shape, "u1")
    layout[:] = h5py.VirtualSource(other, "secret", secret.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data/conv/0", layout)


def hdf5_huge(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("data/conv/0", (2**20, 2**20), "u1", chunks=(2**10, 2**10))


def onnx_external(path: Path) -> None:
    """Keep a weight's bytes in a file outside the model's folder."""
    import onnx
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[16])
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", f"../{SECRET}"
    node = helper.make_node("Identity", ["w"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, [16])
    graph = helper.make_graph([node], "g", [], [output], [weight])
    model = helper.make_model(graph)
    (path.parent / "inside").mkdir()
    with path.open("wb") as file:
        file.write(model.SerializeToString())
    assert onnx.load(path, load_external_data=False).graph.initializer


def zip_slip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("rdf.yaml", f"inner/../{MARK}", "C:\\MARK", "ok/\u202etxt.exe"):
            archive.writestr(name, "x")


def zip_link(path: Path) -> None:
    info = zipfile.ZipInfo("rdf.yaml")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, SECRET)


def many_tensors(path: Path) -> None:
    header = {f"t{n}": _empty() for n in range(200_000)}
    data = json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data)


def _empty() -> dict:
    return {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def beside(path: Path) -> None:
    """Lay what the attacks read elsewhere into the folder."""
    path.with_name(SECRET).write_bytes(b"do not read this")


HAS_COMPILER = shutil.which("cc") is not None
