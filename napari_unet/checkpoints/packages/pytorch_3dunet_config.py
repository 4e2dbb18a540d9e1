"""Checkpoints of pytorch-3dunet and PlantSeg with the configuration beside them.

The training program leaves its YAML beside ``best_checkpoint.pytorch``; PlantSeg's zoo
calls it ``config_train.yml`` (pytorch-3dunet 1.9.6). Its ``model`` section tells what
the weights do not, its loaders how images were scaled.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeGuard

from napari_unet.checkpoints.draft import Draft, settings
from napari_unet.checkpoints.packages.base import Package
from napari_unet.checkpoints.weights import MOST_WEIGHTS, read_weights
from napari_unet.checkpoints.yaml_text import read_yaml
from napari_unet.errors import ModelError
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.checkpoints.source import Source

CLASSES = (
    *("UNet2D", "UNet3D", "ResidualUNet2D", "ResidualUNet3D", "ResidualUNetSE3D"),
)
"""The source's classes that are built here."""

_ZOO = ("config_train.yml", "config_train.yaml")
_WEIGHTS = ("best_checkpoint.pytorch", "last_checkpoint.pytorch")
_MOST_TEXT = 1 << 20
_SETTINGS = (
    *("name", "layer_order", "num_groups", "upsample", "f_maps"),
    *("final_sigmoid", "is_segmentation"),
)
_EPS = 1e-10


class Pytorch3dunetConfig(Package):
    """A checkpoint with its training configuration."""

    title = "pytorch-3dunet checkpoint with its configuration"

    def claims(self, source: Source) -> bool:
        """Whether there are a configuration and weights in one folder."""
        return _config_name(source) is not None and bool(_weights(source))

    def holds(self, source: Source, name: str) -> bool:
        """Whether the configuration beside these weights is one of the source's."""
        try:
            return name in _weights(source) and "model" in _read(source)[0]
        except ModelError:
            return False

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the configuration and the weights, the best ones if not told which."""
        config, sha256 = _read(source)
        model = _model(config, source)
        name = weights or _weights(source)[0]
        with source.file(name, MOST_WEIGHTS) as path:
            words, found = read_weights(path)
            digests = [digest(path), sha256]
        hints = {key: model[key] for key in _SETTINGS if key in model}
        scaling, notes = _scaling(config)
        found.notes += notes
        fields = {"normalization": [scaling]} if scaling else {}
        hints = {"layer_order": "gcr", **settings(found), **hints}
        return Draft(
            source.path, f"{self.title}, {words}", found, digests, hints, fields
        )


def _config_name(source: Source) -> str | None:
    """Return the name of the configuration: the zoo's, else the only YAML there is."""
    texts = [
        n for n in source.names() if "/" not in n and n.endswith((".yml", ".yaml"))
    ]
    named = [n for n in texts if n in _ZOO]
    return (named or texts)[0] if named or len(texts) == 1 else None


def _weights(source: Source) -> list[str]:
    """Return the names of weights in the folder, the best first."""
    files = [n for n in source.names() if "/" not in n and n.endswith(".pytorch")]
    return [n for n in _WEIGHTS if n in files] + [n for n in files if n not in _WEIGHTS]


def _read(source: Source) -> tuple[dict[str, Any], str]:
    """Return the configuration and its hash."""
    name = _config_name(source) or _ZOO[0]
    text = source.read(name, _MOST_TEXT)
    try:
        config = read_yaml(text)
    except ValueError as error:
        raise _wrong(source, f"{name}: {error}", "YAML") from error
    if not isinstance(config, dict):
        raise _wrong(source, f"{name}: a {type(config).__name__}", "settings by name")
    return config, hashlib.sha256(text).hexdigest()


def _model(config: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Return the settings of the network; those that are not built are refused."""
    model = config.get("model")
    if not isinstance(model, dict):
        raise _wrong(source, f"sections {', '.join(map(str, config))}", "model")
    if model.get("name") not in CLASSES:
        found = f"the network {model.get('name')}"
        raise _wrong(source, found, " or ".join(CLASSES))
    if model.get("conv_padding", 1) != 1:
        found = f"conv_padding {model['conv_padding']}"
        raise _wrong(source, found, "conv_padding 1, which keeps the size")
    return model


def _scaling(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return how the loaders scale images, and what is not done of it."""
    scaling: dict[str, Any] = {}
    notes = []
    for step in _steps(config):
        name = step.get("name") if isinstance(step, dict) else None
        scale = _SCALES.get(str(name))
        if scale is None:
            continue
        found = {} if scaling else scale(step)
        if not found:
            notes.append(f"the step {name} before the network is not carried out")
        scaling = scaling or found
    return scaling, notes


def _steps(config: Mapping[str, Any]) -> list[Any]:
    """Return what is done to an image that is not trained on."""
    for phase in ("test", "val", "train"):
        place: Any = config
        for key in ("loaders", phase, "transformer", "raw"):
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, list):
            return place
    return []


def _standardize(step: Mapping[str, Any]) -> dict[str, Any]:
    mean, std = step.get("mean"), step.get("std")
    if _is_number(mean) and _is_number(std) and std:
        return {"kind": "linear", "gain": 1 / std, "offset": -mean / std}
    return {"kind": "zscore", "joint": _joint(step), "eps": _EPS}


def _percentiles(step: Mapping[str, Any]) -> dict[str, Any]:
    low, high = step.get("pmin", 1.0), step.get("pmax", 99.6)
    if not (_is_number(low) and _is_number(high)):
        return {}
    ends = {"low": low, "high": high}
    return {"kind": "percentile", **ends, "joint": _joint(step), "eps": _EPS}


def _normalize(step: Mapping[str, Any]) -> dict[str, Any]:
    """Between two values or the image's extremes; to -1 ... 1 if not told otherwise."""
    low, high = step.get("min_value"), step.get("max_value")
    is_unit = step.get("norm01") is True
    if low is None and high is None:
        return {"kind": "minmax", "joint": True, "eps": _EPS} if is_unit else {}
    if not (_is_number(low) and _is_number(high)) or high <= low or not is_unit:
        return {}
    gain = 1 / (high - low)
    return {"kind": "linear", "gain": gain, "offset": -low * gain, "clip": True}


def _joint(step: Mapping[str, Any]) -> bool:
    return step.get("channelwise") is not True


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(source: Source, found: str, expected: str) -> ModelError:
    return ModelError(
        f"The configuration beside the weights in {source.path.name} cannot be used",
        found=found,
        expected=expected,
        hint="Move it away to open the weights by themselves.",
    )


_SCALES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "Standardize": _standardize,
    "PercentileNormalizer": _percentiles,
    "Normalize": _normalize,
}
