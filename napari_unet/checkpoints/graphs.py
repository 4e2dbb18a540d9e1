"""Files that hold the weights by name and the graph: which of the two is used.

A known family is preferred, as it knows more than the graph does (odd sizes, names,
other programs' settings). The graph is its proof: both are run on noise, and settings
that the names leave open are chosen by what the graph gives. Where no family fits, or
none computes the same, the graph itself is the network.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints import sidecar
from napari_unet.checkpoints.draft import Draft, Tests, finish
from napari_unet.checkpoints.formats.with_graph import is_own
from napari_unet.checkpoints.oracle import activate
from napari_unet.checkpoints.probe import lengths, probe
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    import torch

    from napari_unet.networks.network import Network

_MOST_PIXELS = 1 << 19
_RELATIVE, _SHARE = 1e-4, 1e-5
"""How far a family may be from the graph: of each value, and of the largest."""


def network_of(draft: Draft) -> Network:
    """Make the network of a draft, by its names or by its graph.

    Raises
    ------
    ModelError
        If no family fits and there is no graph that can be carried out.
    """
    program = draft.hints.get("program") or {}
    if "weights" in program:
        return _by_either(draft, dict(program))
    if "refused" not in draft.hints:
        return finish(draft)
    try:  # no guessing by shapes: the graph says that there is more
        return finish(draft, guess=False)
    except ModelError as error:
        raise _neither(draft, error) from error


def _by_either(draft: Draft, program: dict[str, Any]) -> Network:
    """Take the family that computes what the graph does, else the graph."""
    named = _by_names(draft)
    try:
        graph = finish(_by_graph(draft, program))
        if prod(lengths(graph)) > _MOST_PIXELS:
            return graph
        if named.tests is None:
            named.tests = _proof(graph, program["activation"] or "none")
    except (ModelError, RuntimeError):  # the weights' names may still tell
        return finish(named)
    try:
        return finish(named, guess=False)
    except (ModelError, RuntimeError):  # another network, or for other images
        return graph


def _by_names(draft: Draft) -> Draft:
    """Return the draft without its graph."""
    tensors = {k: t for k, t in draft.found.tensors.items() if not is_own(k)}
    hints = {k: v for k, v in draft.hints.items() if k != "program"}
    return replace(draft, found=replace(draft.found, tensors=tensors), hints=hints)


def _by_graph(draft: Draft, program: dict[str, Any]) -> Draft:
    """Return the draft with its weights named by the graph's steps.

    What a person told of a family's architecture is not meant for the graph.
    """
    told = sidecar.read(draft.path) if draft.told is None else draft.told
    names: dict[str, str] = program.pop("weights")
    tensors: dict[str, torch.Tensor] = {
        step: draft.found.tensors[name] for step, name in names.items()
    }
    notes = [*draft.found.notes, *program.pop("notes")]
    return replace(
        draft,
        found=replace(draft.found, tensors=tensors, notes=notes),
        hints={**draft.hints, "program": program},
        told={k: v for k, v in told.items() if k != "architecture"},
    )


def _proof(graph: Network, activation: str) -> Tests:
    """Run a graph, which ends in an activation or in none, on noise."""
    patch = probe(graph)
    output = activate(patch.output, activation).numpy()
    tolerance = (_RELATIVE, _SHARE * float(abs(output).max()))
    arrays = [patch.patch.numpy()], [output]
    return Tests(*arrays, activation, tolerance, of_graph=True)


def _neither(draft: Draft, error: ModelError) -> ModelError:
    """Say why neither the names nor the graph made a network."""
    return ModelError(
        f"The network in {draft.path.name} is of no known kind, and its graph cannot "
        "be carried out",
        found=f"{draft.hints['refused']}; {error.found}",
        expected="one image in, convolutions, norms, poolings, up-sampling and sums",
        hint="Save its state dict if it is of a known kind, or export it as ONNX.",
    )
