"""Convolutions on a processor together with the activation after them.

oneDNN, which torch brings, computes both in one pass over the memory and takes weights
that are laid out for it beforehand. torch reaches it through the operators of its
compiler; where a build lacks them, nothing is fused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

Activation = tuple[str, list[float]]
NONE: Activation = ("none", [])
_TYPES = (torch.float32, torch.bfloat16)


def fused(
    conv: Any, padding: Sequence[int], activation: Activation = NONE
) -> Callable[[Tensor], Tensor] | None:
    """Return a convolution, with zeros around it, and its activation.

    Parameters
    ----------
    conv : torch.nn.Conv2d or torch.nn.Conv3d
        The layer; its own padding is not looked at.
    padding : sequence of int
        Zeros on both sides of each axis.
    activation : tuple
        Its name and numbers, as oneDNN has them.

    Returns
    -------
    callable or None
        From (N, C, *spatial) to the result; None where this processor or build of
        torch cannot.
    """
    weight, bias = conv.weight, conv.bias
    if not _can(weight):
        return None
    operators = torch.ops.mkldnn
    shape = list(padding), list(conv.stride), list(conv.dilation), conv.groups
    name, numbers = activation
    packed: list[Tensor] = []

    def call(x: Tensor) -> Tensor:
        if not packed:
            packed.append(
                operators._reorder_convolution_weight(weight, *shape, list(x.shape))
            )
        result: Tensor = operators._convolution_pointwise(
            x, packed[0], bias, *shape, name, numbers, ""
        )
        return result

    return call


def _can(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or weight.dtype not in _TYPES:
        return False
    is_there = hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return is_there and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
