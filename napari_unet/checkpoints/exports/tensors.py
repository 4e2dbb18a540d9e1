"""Weights alone: our own format, and state dicts under the source's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as to_bytes

from napari_unet.checkpoints import formats, sidecar
from napari_unet.checkpoints import native as own
from napari_unet.checkpoints.container import sniff
from napari_unet.checkpoints.exports.proof import Written
from napari_unet.checkpoints.families import by_name
from napari_unet.checkpoints.families.base import Inferred, Shapes
from napari_unet.checkpoints.identify import Match, assemble, fit, identify
from napari_unet.checkpoints.loading import load
from napari_unet.checkpoints.probe import probe
from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.errors import ModelError
from napari_unet.files import writing

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.checkpoints.families.base import Family
    from napari_unet.config import ExportConfig
    from napari_unet.networks.network import Network

_ARCHITECTURE = "architecture."


def native(network: Network, part: Path, config: ExportConfig) -> Written:
    """Write our own format: safetensors with the spec inside."""
    del config
    own.save(network, part, {"exported_from": network.spec.name})
    return Written(probe(network).difference(load(part).module))


def state_dict(network: Network, part: Path, config: ExportConfig) -> Written:
    """Write the bare tensors under the names of the source's own module."""
    del config
    family = family_of(network)
    if family.is_graph:
        raise ModelError(
            f"{network.spec.name} came as a graph, and no library has it by name",
            hint="Export it as .safetensors (ours), ONNX or a bioimage.io package.",
        )
    if family.needs_order and part.suffix == ".safetensors":
        raise ModelError(
            f"{network.spec.name} is read by the order of its layers",
            found="safetensors, which keeps none",
            hint="Export it as .pth, or as our own checkpoint.",
        )
    emitted = emit(network)
    if part.suffix == ".safetensors":  # which knows no tensor of two names
        with writing(part) as file:
            file.write(to_bytes({k: v.clone() for k, v in emitted.items()}))
    else:
        torch.save(emitted, part)
    match = identify(_read(part), {}, part.name)
    if match.family.name != family.name:
        raise ModelError(
            f"The weights of {network.spec.name} would be taken for another network",
            found=match.family.title,
            expected=family.title,
        )
    module = _rebuilt(network, match)
    return Written(probe(network).difference(module), [_words(family)])


def family_of(network: Network) -> Family:
    """Return the family of a network.

    Raises
    ------
    ModelError
        If it is of no family.
    """
    family = by_name(network.spec.family)
    if family is None:
        raise ModelError("This network has no known kind", found=network.spec.family)
    return family


def emit(network: Network) -> dict[str, torch.Tensor]:
    """Return copies of the weights under the source's own names, on the CPU."""
    tensors = {
        key: tensor.detach().cpu().clone().contiguous()
        for key, tensor in network.module.state_dict().items()
    }
    return family_of(network).emit(tensors, network.spec.architecture)


def remember(network: Network, path: Path) -> str:
    """Write what a state dict cannot hold into the sidecar; say so."""
    spec = network.spec
    family = family_of(network)
    inferred = family.infer(Shapes(family.accept(emit(network))), {})
    names = [a.field.removeprefix(_ARCHITECTURE) for a in inferred.assumed]
    fields: dict[str, Any] = spec.model_dump(
        mode="json",
        include={"activation", "name", "normalization", "task"},
    )
    fields["architecture"] = {
        name: spec.architecture[name] for name in names if name in spec.architecture
    }
    for name in ("class_names", "spacing"):
        if value := getattr(spec, name):
            fields[name] = value
    side = sidecar.write(path, **fields)
    return f"What the weights do not tell is in {side.name} beside them."


def _read(part: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file that was just written here."""
    if part.suffix == ".safetensors":
        return read_tensors(part.read_bytes(), part.name)[0]
    return formats.read(part, sniff(part)).tensors


def _rebuilt(network: Network, match: Match) -> torch.nn.Module:
    """Assemble the network from what was read; strict."""
    architecture = network.spec.architecture
    miss = fit(match.family, Inferred(architecture, {}), match.view.tensors)
    if miss:
        raise ModelError(
            f"The weights of {network.spec.name} cannot be read again",
            found=str(miss),
        )
    return assemble(match.family, architecture, match.view.tensors)


def _words(family: Family) -> str:
    return (
        f"A bare state dict under the names of {family.source}, "
        "for load_state_dict(..., strict=True) there."
    )
