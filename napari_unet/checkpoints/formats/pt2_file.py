"""torch.export packages (``.pt2``): the graph and the weights, read as data.

`torch.export.load` unpickles what the file holds without limits, also in torch 2.13
(CVE-2026-4538), and is never called. The graph is JSON and the weights are raw bytes
with their shapes in JSON; where they are pickled, the restricted unpickler reads them.
Example inputs and objects of other classes are not read at all. Three layouts are known
(torch/export/__init__.py and torch/export/pt2_archive/_package.py of torch 2.13):

- ``models/<name>.json``, ``data/weights/<name>_weights_config.json`` and raw bytes;
- ``models/<name>.json`` and the state dict in ``data/weights/<name>.pt``;
- ``serialized_exported_program.json`` and ``serialized_state_dict.pt``, up to 2.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.formats.pt2_graph import DTYPES, translate
from napari_unet.checkpoints.formats.with_graph import found
from napari_unet.checkpoints.json_text import read_json
from napari_unet.checkpoints.source import Zip, damaged, open_zip
from napari_unet.checkpoints.unpickle import read_tree
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.checkpoints.source import Source
    from napari_unet.checkpoints.unwrap import Found

Tensors = dict[str, torch.Tensor]

_MOST_JSON = 1 << 26
_MOST_WEIGHTS = 1 << 34
_ORDER = b"little"
_OLD_GRAPH = "serialized_exported_program.json"
_OLD = {
    "weights": "serialized_state_dict.pt",
    "constants": "serialized_constants.pt",
}


def read(path: Path) -> Found:
    """Return the weights by name, and the graph as ``hints["program"]``.

    Raises
    ------
    ModelError
        If the package is damaged, compiled, holds several networks or objects that
        could run code.
    """
    with open_zip(path) as archive:
        source = Zip(path, archive)
        name = _graph(source)
        try:
            if "byteorder" in source.names() and source.read("byteorder", 8) != _ORDER:
                raise ValueError("numbers in another byte order")
            facts = read_json(source.read(name, _MOST_JSON))
            state = _tensors(source, name, "weights")
            constants = _tensors(source, name, "constants")
        except ModelError:
            raise
        except Exception as error:  # the file's bytes decide what breaks here
            raise damaged(path, f"a package that does not fit ({error})") from error
    return found(path.name, state, lambda: translate(facts, {**constants, **state}))


def _graph(source: Source) -> str:
    """Return the member that holds the graph."""
    names = source.names()
    graphs = [n for n in names if n.startswith("models/") and n.endswith(".json")]
    if _OLD_GRAPH in names:
        graphs.append(_OLD_GRAPH)
    if len(graphs) == 1:
        return graphs[0]
    compiled = any(n.startswith("data/aotinductor/") for n in names)
    raise ModelError(
        f"The torch.export package {source.path.name} cannot be opened",
        found="machine code" if compiled else f"{len(graphs)} networks",
        expected="the graph of one network",
        hint="Save the exported program with torch.export.save where it was made.",
    )


def _tensors(source: Source, graph: str, kind: str) -> Tensors:
    """Read the weights or constants that belong to a graph."""
    if graph == _OLD_GRAPH:
        return _pickled(source, _OLD[kind])
    model = graph.removeprefix("models/").removesuffix(".json")
    whole = f"data/{kind}/{model}.pt"
    if whole in source.names():
        return _pickled(source, whole)
    name = f"data/{kind}/{model}_{kind}_config.json"
    if kind == "constants" and name not in source.names():
        return {}
    entries = read_json(source.read(name, _MOST_JSON))["config"]
    stores: dict[str, bytearray] = {}
    return {
        key: _tensor(source, f"data/{kind}/{entry['path_name']}", entry, stores)
        for key, entry in entries.items()
        if entry["tensor_meta"] is not None  # objects of other classes have none
    }


def _pickled(source: Source, name: str) -> Tensors:
    """Read a torch file inside the package."""
    if name not in source.names():
        return {}
    with source.file(name, _MOST_WEIGHTS) as path:
        tree = read_tree(path, is_zip=True)
    if not isinstance(tree, dict):
        raise TypeError("pickled weights without names")
    return {str(k): v for k, v in tree.items() if isinstance(v, torch.Tensor)}


def _tensor(
    source: Source, name: str, entry: dict[str, Any], stores: dict[str, bytearray]
) -> torch.Tensor:
    """Read one tensor; several may share the bytes of a member."""
    if entry["use_pickle"]:
        raise TypeError("objects of another class among the weights")
    if name not in stores:
        stores[name] = bytearray(source.read(name, _MOST_WEIGHTS))
    meta, data = entry["tensor_meta"], stores[name]
    dtype = DTYPES[meta["dtype"]]
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    sizes, strides = ([n["as_int"] for n in meta[k]] for k in ("sizes", "strides"))
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])
