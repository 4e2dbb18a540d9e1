"""The native format: safetensors with the `ModelSpec` as JSON in the header."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from safetensors.torch import save as to_bytes

from napari_unet import __version__
from napari_unet.checkpoints.families import FAMILIES, by_name
from napari_unet.checkpoints.families.base import Inferred
from napari_unet.checkpoints.identify import assemble, fit
from napari_unet.errors import ModelError
from napari_unet.files import digest, write
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from napari_unet.checkpoints.families.base import Family

METADATA = "unet"
_VERSION = 1
_MOST_JSON = 1 << 22


def save(
    network: Network,
    path: str | Path,
    provenance: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> str:
    """Write a native checkpoint; it appears complete or not at all.

    Parameters
    ----------
    network : Network
        As loaded or trained, not one prepared by `Network.place`.
    path : path-like
        New file, usually ``*.safetensors``.
    provenance : dict, optional
        JSON-able facts added to those the network has; the parent's digest and the
        version are added anyway.
    overwrite : bool
        Whether a file already there may be replaced.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    OutputError
        If the file is there already or cannot be written.
    ModelError
        If the module is not the one its spec describes.
    """
    spec = network.spec
    tensors = {
        key: tensor.detach().cpu().clone().contiguous()
        for key, tensor in network.module.state_dict().items()
    }
    miss = fit(_family(spec), _inferred(spec), tensors)
    if miss:
        raise ModelError("This network cannot be saved", found=str(miss))
    facts = {**spec.provenance, "parent": network.digest, **(provenance or {})}
    facts["version"] = __version__
    header = spec.model_copy(update={"provenance": facts}).model_dump_json()
    # save_file would leave a file that only its owner may read
    write(path, to_bytes(tensors, {METADATA: header}), overwrite=overwrite)
    return digest(path)


def open_native(
    tensors: dict[str, torch.Tensor], header: str, name: str, sha256: str
) -> Network:
    """Make the network of a native checkpoint.

    Raises
    ------
    ModelError
        If its spec is damaged, newer than this version, or does not fit the weights.
    """
    spec = _spec(header, name)
    family = _family(spec)
    try:
        miss = fit(family, _inferred(spec), tensors)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise _damaged(name, str(error).splitlines()[0]) from error
    if miss:
        raise _damaged(name, str(miss))
    return Network(assemble(family, spec.architecture, tensors), spec, sha256)


def build_module(spec: ModelSpec) -> nn.Module:
    """Make the module of a spec with fresh weights, of whichever family it is.

    Raises
    ------
    ModelError
        If the family is unknown or the architecture cannot be built.
    """
    try:
        return _family(spec).build(spec.architecture)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise ModelError(
            f"The network of {spec.name} cannot be built",
            found=str(error).splitlines()[0],
        ) from error


def _family(spec: ModelSpec) -> Family:
    family = by_name(spec.family)
    if family is not None:
        return family
    raise ModelError(
        f"The kind of network of {spec.name} is unknown",
        found=spec.family,
        expected=", ".join(family.name for family in FAMILIES),
        hint="A newer version of this plugin may know it.",
    )


def _inferred(spec: ModelSpec) -> Inferred:
    return Inferred(spec.architecture, {})


def _spec(header: str, name: str) -> ModelSpec:
    """Read the spec, telling a newer format from a damaged one."""
    if len(header) > _MOST_JSON:
        raise _damaged(name, f"a description of {len(header)} characters")
    try:
        facts = json.loads(header)
        version = facts.get("format_version", _VERSION)
        if isinstance(version, int) and version > _VERSION:
            raise ModelError(
                f"{name} was written by a newer version",
                found=f"format {version}",
                expected=f"at most {_VERSION}",
                hint="Update this plugin.",
            )
        spec = ModelSpec(**facts)
    except (
        ValidationError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as e:
        raise _damaged(name, str(e).splitlines()[0]) from e
    for key in ("ndim", "in_channels", "out_channels"):
        if spec.architecture.get(key, getattr(spec, key)) != getattr(spec, key):
            raise _damaged(name, f"two values for {key}")
    return spec


def _damaged(name: str, found: str) -> ModelError:
    return ModelError(
        f"{name} is a damaged native checkpoint",
        found=found,
        hint="Save or download it again.",
    )
