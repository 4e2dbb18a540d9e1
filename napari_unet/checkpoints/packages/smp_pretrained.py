"""Folders that segmentation_models_pytorch saved: config.json and weights.

`save_pretrained` writes all arguments of the network (smp 0.6.0).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.draft import Draft
from napari_unet.checkpoints.families.smp import ACTIVATIONS, MODES
from napari_unet.checkpoints.packages.base import Package
from napari_unet.checkpoints.weights import MOST_WEIGHTS, read_weights
from napari_unet.errors import ModelError
from napari_unet.files import digest

if TYPE_CHECKING:
    from napari_unet.checkpoints.source import Source

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_MOST_TEXT = 1 << 20
_CLASS = "_model_class"
_KNOWN = "Unet"
_LIBRARY = "segmentation_models_pytorch"


class SmpPretrained(Package):
    """A folder of `save_pretrained`."""

    title = "segmentation_models_pytorch folder"

    def claims(self, source: Source) -> bool:
        """Whether both files are there."""
        return {_CONFIG, _WEIGHTS} <= set(source.names())

    def holds(self, source: Source, name: str) -> bool:
        """Whether these are weights of the library; others write such files as well."""
        return name == _WEIGHTS and _CLASS in _read(source)

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the configuration and the weights."""
        del weights  # there is one set
        config = _config(source)
        text = source.read(_CONFIG, _MOST_TEXT)
        with source.file(_WEIGHTS, MOST_WEIGHTS) as path:
            words, found = read_weights(path)
            digests = [digest(path), hashlib.sha256(text).hexdigest()]
        hints = {key: value for key, value in config.items() if key != _CLASS}
        container = f"{self.title}, {words}"
        return Draft(source.path, container, found, digests, hints)


def _config(source: Source) -> dict[str, Any]:
    """Return the configuration of a Unet."""
    config = _read(source)
    if _CLASS not in config:
        raise ModelError(
            f"{source.path.name} has a {_CONFIG}, but not of a network that is known",
            found=", ".join(list(config)[:6]) or "no settings",
            expected=f"a folder that {_LIBRARY} saved",
            hint=f"Open {_WEIGHTS} in it by itself.",
        )
    if config[_CLASS] != _KNOWN:
        raise ModelError(
            f"The network in {source.path.name} is not one that is built here",
            found=f"{config[_CLASS]} of {_LIBRARY}",
            expected=_KNOWN,
        )
    _refuse_unbuilt(config, source)
    return config


def _refuse_unbuilt(config: dict[str, Any], source: Source) -> None:
    """Refuse settings that change the output, show in no weight and are not built."""
    norm = config.get("decoder_use_norm")
    kind = norm.get("type") if isinstance(norm, dict) else norm
    known = {
        "activation": (None, "identity", *ACTIVATIONS),
        "decoder_interpolation": MODES,
        "decoder_use_norm": (True, False, "batchnorm", "identity", "instancenorm"),
        "output_stride": (32,),
    }
    found = {**config, "decoder_use_norm": kind}
    for name, choices in known.items():
        if name in config and found[name] not in choices:
            raise ModelError(
                f"The network in {source.path.name} has a setting that is not built",
                found=f"{name} {json.dumps(config[name])}",
                expected=", ".join(map(str, choices)),
            )


def _read(source: Source) -> dict[str, Any]:
    """Return the settings in the file, empty if it is no JSON object."""
    try:
        config = json.loads(source.read(_CONFIG, _MOST_TEXT))
    except (ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
