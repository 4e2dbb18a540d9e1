"""Files that hold the weights by name and the graph: which of the two is used.

A known family is preferred, as it knows more than the graph does (sizes, names, other
programs' settings). The graph is its proof: both are run on noise, and settings that the
names leave open are chosen by what the graph gives. Where no family fits, or none
computes the same, the graph itself is the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.with_graph import is_own
from napari_unet.checkpoints.oracle import activate
from napari_unet.checkpoints.probe import probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch

    from napari_unet.networks.network import Network

Tensors = dict[str, "torch.Tensor"]

_NEAR = (1e-4, 1e-5)


@dataclass(frozen=True)
class Sides:
    """The two readings of a file.

    Attributes
    ----------
    named : dict of str to torch.Tensor
        The weights under the network's own names.
    steps : dict of str to torch.Tensor
        The weights as the graph's steps name them.
    program : dict
        The graph, for `napari_unet.checkpoints.families.program`.
    notes : list of str
        What to know about the graph.
    """

    named: Tensors
    steps: Tensors
    program: dict[str, Any]
    notes: list[str]


def sides(tensors: Tensors, hints: Mapping[str, Any]) -> Sides | None:
    """Take a file's tensors and hints apart; None where it holds no such graph."""
    program = dict(hints.get("program") or {})
    if "weights" not in program:
        return None
    names, notes = program.pop("weights"), program.pop("notes")
    return Sides(
        {k: t for k, t in tensors.items() if not is_own(k)},
        {step: tensors[name] for step, name in names.items()},
        program,
        notes,
    )


def proof(graph: Network) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Run a graph on noise; returns input and output with its final activation."""
    patch = probe(graph)
    output = activate(patch.output, graph.spec.activation)
    return patch.patch.numpy(), output.numpy()


def tolerance(outputs: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return how far a family may be from the graph: what rounding explains.

    Returns
    -------
    tuple of float
        Relative to each value, and absolute.
    """
    relative, share = _NEAR
    return relative, share * float(abs(outputs).max())
