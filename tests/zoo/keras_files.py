"""Keras' files without their weights: what is stored of them, and their making anew.

Weights come from `recipe`, by a key; everything else in a file is kept as it was.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

try:  # a script that records runs beside this file, the tests import it as zoo
    from zoo import recipe
except ImportError:
    import recipe

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = "model.weights.h5"


def value(key: str, shape: list[int]) -> np.ndarray:
    """Return the weight of a key such as ``"3.weight"``, in Keras' order of axes."""
    last_first = [*shape[-1:], *shape[:-1]] if len(shape) > 1 else shape
    drawn = recipe.fill([(key, last_first, "float32")])[key]
    return np.moveaxis(drawn, 0, -1)


def taken_apart(path: Path, keys: dict[bytes, str]) -> dict[str, Any]:
    """Return what a file holds, each array as its key by `keys`, from its bytes."""
    if path.suffix != ".keras":
        return {"hdf5": _tree(path, keys)}
    with zipfile.ZipFile(path) as archive:
        texts = {n: json.loads(archive.read(n)) for n in archive.namelist()[:-1]}
        data = archive.read(WEIGHTS)
    return {"texts": texts, "hdf5": _tree(io.BytesIO(data), keys)}


def put_together(facts: dict[str, Any], path: Path) -> Path:
    """Write the file that was taken apart."""
    if "texts" not in facts:
        _grow(facts["hdf5"], path)
        return path
    inside = io.BytesIO()
    _grow(facts["hdf5"], inside)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in facts["texts"].items():
            archive.writestr(name, json.dumps(text))
        archive.writestr(WEIGHTS, inside.getvalue())
    return path


def _tree(source: Any, keys: dict[bytes, str]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    arrays: list[list[Any]] = []

    def add(name: str, found: Any) -> None:
        if isinstance(found, h5py.Group):
            groups[name] = {k: _plain(v) for k, v in found.attrs.items()}
        else:
            numbers = np.asarray(found[()], np.float32)
            arrays.append([name, list(found.shape), keys[numbers.tobytes()]])

    with h5py.File(source) as file:
        add("/", file)
        file.visititems(add)
    return {"groups": groups, "arrays": arrays}


def _plain(found: Any) -> Any:
    """Return a JSON-able attribute; long texts of JSON are kept as what they say."""
    if isinstance(found, np.ndarray):
        names = found.tolist()
        is_old = any(isinstance(n, bytes) for n in names)
        return {"bytes": [n.decode() for n in names]} if is_old else names
    return {"json": json.loads(found)} if str(found).startswith("{") else str(found)


def _grow(tree: dict[str, Any], target: Any) -> None:
    with h5py.File(target, "w") as file:
        for name, attributes in tree["groups"].items():
            group = file.require_group(name)
            for key, found in attributes.items():
                group.attrs[key] = _attribute(found)
        for name, shape, key in tree["arrays"]:
            file[name] = value(key, shape)


def _attribute(found: Any) -> Any:
    if isinstance(found, dict) and "bytes" in found:
        return np.array([n.encode() for n in found["bytes"]])
    return json.dumps(found["json"]) if isinstance(found, dict) else found
