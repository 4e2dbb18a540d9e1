"""MONAI bundles: metadata, configuration and weights, read as data.

The configuration may hold Python (strings that begin with ``$``) and names of classes;
neither is run or looked up. Plain values and references to plain values are used (MONAI
bundle specification, Project-MONAI/MONAI 1.6.1).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.draft import Draft, settings
from napari_unet.checkpoints.families._monai import AXES
from napari_unet.checkpoints.packages.base import Package
from napari_unet.checkpoints.packages.monai_transforms import Steps, translate
from napari_unet.checkpoints.weights import MOST_WEIGHTS, read_weights
from napari_unet.checkpoints.yaml_text import read_yaml
from napari_unet.errors import ModelError
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.checkpoints.source import Source

_MOST_TEXT = 1 << 20
_DEEPEST = 32
_METADATA = "configs/metadata.json"
_CONFIGS = tuple(f"configs/inference.{end}" for end in ("json", "yaml", "yml"))
_WEIGHTS = re.compile(r"^models/[^/]+\.(pt|pth|ckpt|safetensors)$")
_AFFINE = ["instance", {"affine": True}]

DEFAULTS: dict[str, dict[str, Any]] = {
    "UNet": {"norm": "instance", "act": "prelu", "adn_ordering": "NDA"},
    "BasicUNet": {"norm": _AFFINE, "act": ["leakyrelu", {"negative_slope": 0.1}]},
    "DynUNet": {"norm_name": _AFFINE, "act_name": "leakyrelu"},
    "AttentionUnet": {},
    "SegResNet": {"norm": ["group", {"num_groups": 8}], "act": "relu"},
    "SegResNetVAE": {"norm": ["group", {"num_groups": 8}], "act": "relu"},
}
"""MONAI's classes that may be named, with its defaults of what weights do not show."""


class _Code:
    """Stands for Python that is not run."""


_CODE = _Code()


class MonaiBundle(Package):
    """A MONAI bundle, as a folder or zip archive."""

    title = "MONAI bundle"

    def claims(self, source: Source) -> bool:
        """Whether there is a configuration with weights."""
        names = source.names()
        has_config = any(n in names for n in (_METADATA, *_CONFIGS))
        return has_config and any(_WEIGHTS.match(n) for n in names)

    def holds(self, source: Source, name: str) -> bool:
        """Whether the file lies where a bundle has its weights."""
        del source
        return _WEIGHTS.match(name) is not None

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the configuration and the weights."""
        names = source.names()
        weights = weights or _chosen(source, names)
        texts = {n: source.read(n, _MOST_TEXT) for n in names if n in _texts()}
        config, metadata = _config(source, texts), _metadata(source, texts)
        with source.file(weights, MOST_WEIGHTS) as path:
            words, found = read_weights(path)
            sha256 = digest(path)
        steps = _steps(config)
        hints, notes = _network(config)
        hints |= {AXES: steps.axes} if steps.axes else {}
        found.notes += [*notes, *steps.notes]
        described = hashlib.sha256(b"".join(texts.values())).hexdigest()
        return Draft(
            source.path,
            f"MONAI bundle, {words}",
            found,
            [sha256, described],
            {**settings(found), **hints},
            {**_fields(metadata, steps, found.tensors), **_activation(config)},
        )


def _texts() -> tuple[str, ...]:
    return (_METADATA, *_CONFIGS)


def _chosen(source: Source, names: list[str]) -> str:
    """Return the weights: ``model.pt``, else the only ones."""
    found = [n for n in names if _WEIGHTS.match(n)]
    usual = [n for n in found if n.rpartition("/")[2].startswith("model.")]
    chosen = usual or found
    if len(chosen) != 1:
        raise ModelError(
            f"{source.path.name} holds several sets of weights",
            found=", ".join(found),
            hint="Open one of these files itself.",
        )
    return chosen[0]


def _config(source: Source, texts: Mapping[str, bytes]) -> dict[str, Any]:
    """Read the configuration of inference, empty without one."""
    name = next((n for n in _CONFIGS if n in texts), None)
    return _parse(source, name, texts[name]) if name else {}


def _metadata(source: Source, texts: Mapping[str, bytes]) -> dict[str, Any]:
    return _parse(source, _METADATA, texts[_METADATA]) if _METADATA in texts else {}


def _parse(source: Source, name: str, text: bytes) -> dict[str, Any]:
    """Read JSON or YAML of sane size and depth."""
    try:
        if name.endswith(".json"):
            facts = json.loads(text)
        else:
            facts = read_yaml(text, deepest=_DEEPEST)
    except (ValueError, RecursionError) as error:
        raise _wrong(source, f"{name}: {type(error).__name__}") from error
    if not isinstance(facts, dict):
        raise _wrong(source, f"{name}: a {type(facts).__name__}")
    return facts


def _resolved(value: Any, config: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value with references followed; `_CODE` for what is no plain value."""
    if depth > _DEEPEST:
        return _CODE
    if isinstance(value, str) and value.startswith("@"):
        return _resolved(_at(value[1:], config), config, depth + 1)
    if isinstance(value, str) and value[:1] in ("$", "%"):
        return _CODE
    if isinstance(value, dict):
        return {k: _resolved(v, config, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(v, config, depth + 1) for v in value]
    return value


def _at(place: str, config: Mapping[str, Any]) -> Any:
    """Return what lies at an id such as ``preprocessing#transforms#0``."""
    here: Any = config
    for part in place.replace("::", "#").split("#"):
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            return "$"  # names nothing that is written down
    return here


def _has_code(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_code(v) for v in value.values())
    if isinstance(value, list):
        return any(_has_code(v) for v in value)
    return value is _CODE


def _network(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of the network's class, and what was not understood.

    Only a class of `DEFAULTS` is; an argument that is Python stays open.
    """
    definition = _resolved(config.get("network_def"), config)
    target = definition.get("_target_") if isinstance(definition, dict) else None
    if not isinstance(target, str):
        return {}, ["the bundle does not say plainly which network it is"]
    package, _, name = target.rpartition(".")
    if name not in DEFAULTS or not f"{package}.".startswith((".", "monai.")):
        return {}, [f"the network {target} is matched by its weights alone"]
    given = {k: v for k, v in definition.items() if not k.startswith("_")}
    code = [k for k, v in given.items() if _has_code(v)]
    notes = [f"the setting {k} of the network is a program and not run" for k in code]
    hints = {**DEFAULTS[name], **given}
    return {k: v for k, v in hints.items() if k not in code}, notes


def _steps(config: Mapping[str, Any]) -> Steps:
    """Translate the preprocessing."""
    return translate(_transforms(config, "preprocessing"))


def _activation(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the activation after the network, if a step of its own says so."""
    for step in _transforms(config, "postprocessing"):
        target = step.get("_target_") if isinstance(step, dict) else None
        if str(target).rpartition(".")[2] in ("Activationsd", "ActivationsDict"):
            named = [n for n in ("sigmoid", "softmax") if step.get(n) is True]
            return {"activation": named[0]} if len(named) == 1 else {}
    return {}


def _transforms(config: Mapping[str, Any], name: str) -> list[Any]:
    """Return the transforms of a section, without the settings that are Python."""
    if config.get(name) is None:
        return []
    found = _resolved(config[name], config)
    transforms = found.get("transforms") if isinstance(found, dict) else found
    if not isinstance(transforms, list):
        transforms = [_CODE]
    return [_plain(t) for t in transforms]


def _plain(transform: Any) -> Any:
    """Leave out the settings of a transform that are Python."""
    if not isinstance(transform, dict):
        return transform
    return {k: v for k, v in transform.items() if not _has_code(v)}


def _fields(
    metadata: Mapping[str, Any], steps: Steps, tensors: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of the spec that the bundle declares."""
    fields: dict[str, Any] = {}
    if isinstance(metadata.get("name"), str):
        fields["name"] = metadata["name"]
    if steps.normalization is not None:
        fields["normalization"] = (steps.normalization,)
    if steps.spacing:
        ndim = max((t.ndim for t in tensors.values()), default=2) - 2
        axes = "XYZ"[:ndim]
        fields["spacing"] = {k: v for k, v in steps.spacing.items() if k in axes}
    if names := _class_names(metadata):
        fields["class_names"] = names
    return fields


def _class_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the output channels in order, if all have one."""
    here: Any = metadata
    for key in ("network_data_format", "outputs", "pred", "channel_def"):
        here = here.get(key) if isinstance(here, dict) else None
    if not isinstance(here, dict):
        return ()
    numbered = {str(k): str(v) for k, v in here.items()}
    names = tuple(numbered.get(str(n), "") for n in range(len(numbered)))
    return names if all(names) and len(set(names)) == len(names) else ()


def _wrong(source: Source, found: str) -> ModelError:
    return ModelError(
        f"{source.path.name} is not a MONAI bundle that can be read",
        found=found,
        expected="configs/metadata.json and configs/inference.json or .yaml",
    )
