"""The layers of a network with as few passes over the memory as possible."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from napari_unet.inference.streaming.fused import NONE, Activation, fused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.networks.graph import Layer

_IDLE = (nn.Identity, _DropoutNd)
_RELU = {F.relu, torch.relu, "relu", "relu_"}


@dataclass(frozen=True)
class Condensed:
    """A layer together with the activation after it.

    Attributes
    ----------
    layer : Layer
        With `inputs` as numbers of condensed layers.
    activation : tuple
        oneDNN's name and numbers, see `napari_unet.inference.streaming.fused`.
    own : int
        Number of `layer` in the network's graph.
    """

    layer: Layer
    activation: Activation
    own: int


def condense(layers: Sequence[Layer]) -> list[Condensed]:
    """Leave out layers that do nothing, and join convolutions with their activation.

    Parameters
    ----------
    layers : sequence of Layer
        Of a network in evaluation mode, in order.

    Returns
    -------
    list of Condensed
        In order; the last gives what the last of `layers` gives.
    """
    readers = [0] * len(layers)
    for layer in layers:
        for n in layer.inputs:
            readers[n] += 1
    found: list[Condensed] = []
    place: list[int] = []
    alone: list[bool] = []
    for own, layer in enumerate(layers):
        inputs = tuple(place[n] for n in layer.inputs)
        activation = _activation(layer)
        before = found[inputs[0]] if inputs else None
        is_idle = isinstance(layer.module, _IDLE)
        if before and activation and alone[layer.inputs[0]] and _can_take(before):
            found[inputs[0]] = replace(before, activation=activation)
            place.append(inputs[0])
            alone.append(readers[own] == 1)
        elif before and is_idle:
            place.append(inputs[0])
            alone.append(alone[layer.inputs[0]] and readers[own] == 1)
        else:
            place.append(len(found))
            alone.append(readers[own] == 1)
            found.append(Condensed(replace(layer, inputs=inputs), NONE, own))
    return found


def _can_take(before: Condensed) -> bool:
    """Whether an activation can be computed together with a layer."""
    conv = before.layer.module
    is_conv = isinstance(conv, (nn.Conv2d, nn.Conv3d))
    is_plain = is_conv and conv.padding_mode == "zeros"  # type: ignore[union-attr]
    return before.activation == NONE and is_plain and fused(conv, ()) is not None


def _activation(layer: Layer) -> Activation | None:
    """Return oneDNN's name and numbers of an activation, None for one it lacks."""
    module, node = layer.module, layer.node
    if isinstance(module, nn.LeakyReLU):
        return "leaky_relu", [module.negative_slope]
    if isinstance(module, nn.ReLU):
        return "relu", []
    is_plain = module is None and node is not None and len(node.all_input_nodes) == 1
    return ("relu", []) if is_plain and node.target in _RELU else None  # type: ignore[union-attr]
