"""Keras models in a folder: weights with their configuration, or with settings.

``model.to_json()`` beside a weights file makes a whole model. The program napari-unet
1.0.0 (a plugin that shares its name with this one) leaves ``settings.json`` beside
``best.keras``; it scales each image between its least and greatest pixel.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.draft import Draft, settings
from napari_unet.checkpoints.packages.base import Package
from napari_unet.checkpoints.weights import MOST_WEIGHTS, read_weights
from napari_unet.errors import ModelError
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.checkpoints.source import Source

_MOST_TEXT = 1 << 24
_HDF5 = (".h5", ".hdf5")
_OTHERS = (".pt", ".pth", ".ckpt", ".pytorch", ".safetensors", ".yaml", ".yml")
_MODELS = ("Functional", "Model", "Sequential")


class KerasConfig(Package):
    """Weights and the text of ``model.to_json()``."""

    title = "Keras weights with their configuration"

    def claims(self, source: Source) -> bool:
        """Whether there are weights and JSON, and no other program's files."""
        has_both = _files(source, _HDF5) and _files(source, (".json",))
        return bool(has_both) and not _files(source, _OTHERS)

    def holds(self, source: Source, name: str) -> bool:
        """Whether a configuration beside these weights is of Keras."""
        return name in _files(source, _HDF5) and _config(source, name) is not None

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the weights, the first ones if not told which."""
        name = weights or _files(source, _HDF5)[0]
        text = _config(source, name)
        if text is None:
            raise ModelError(
                f"{source.path.name} has weights, but no configuration of Keras",
                found=", ".join(_files(source, (".json",))),
                expected="the text of model.to_json()",
                hint=f"Open {name} by itself, if it is a whole model.",
            )
        with source.file(name, MOST_WEIGHTS) as path, _joined(path, text) as whole:
            words, found = read_weights(whole)
            digests = [digest(path), hashlib.sha256(text).hexdigest()]
        container = f"{self.title}, {words}"
        return Draft(source.path, container, found, digests, settings(found))


class NapariUnet1(Package):
    """The folder of a model that napari-unet 1.0.0 trained."""

    title = "napari-unet 1.0.0 folder"

    _SETTINGS = "settings.json"
    _WEIGHTS = ("best.keras", "last.keras")

    def claims(self, source: Source) -> bool:
        """Whether both files are there."""
        names = source.names()
        return self._SETTINGS in names and any(n in names for n in self._WEIGHTS)

    def holds(self, source: Source, name: str) -> bool:
        """Whether these are its weights, and the settings are the program's."""
        return name in self._WEIGHTS and "unet_depth" in _read(source, self._SETTINGS)

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the weights, the best ones if not told which."""
        name = weights or next(n for n in self._WEIGHTS if n in source.names())
        with source.file(name, MOST_WEIGHTS) as path:
            words, found = read_weights(path)
            digests = [digest(path)]
        hints, fields = settings(found), {}
        if self.holds(source, name):
            fields = {"normalization": [{"kind": "minmax"}]}
        return Draft(
            source.path, f"{self.title}, {words}", found, digests, hints, fields
        )


def _files(source: Source, endings: tuple[str, ...]) -> list[str]:
    """Return the names of files in the folder itself."""
    return [n for n in source.names() if "/" not in n and n.endswith(endings)]


def _config(source: Source, weights: str) -> bytes | None:
    """Return the configuration of some weights: of like name, else the only one."""
    stem = weights.partition(".")[0]
    wanted = ("config.json", "model.json", f"{stem}.json")
    texts = _files(source, (".json",))
    named = [n for n in wanted if n in texts] or (texts if len(texts) == 1 else [])
    known = [n for n in named if _read(source, n).get("class_name") in _MODELS]
    return source.read(known[0], _MOST_TEXT) if known else None


def _read(source: Source, name: str) -> dict[str, Any]:
    """Return the settings in a file, empty if it is no JSON object."""
    try:
        config = json.loads(source.read(name, _MOST_TEXT))
    except (ValueError, RecursionError, ModelError):
        return {}
    return config if isinstance(config, dict) else {}


@contextmanager
def _joined(weights: Path, text: bytes) -> Iterator[Path]:
    """Lend configuration and weights as one archive of Keras."""
    with tempfile.TemporaryDirectory(prefix="napari-unet-") as folder:
        path = Path(folder) / weights.with_suffix(".keras").name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("config.json"), text)
            member = zipfile.ZipInfo("model.weights.h5")
            archive.writestr(member, weights.read_bytes())
        yield path
