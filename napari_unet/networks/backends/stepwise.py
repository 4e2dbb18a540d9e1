"""Instance and group norm whose means are taken axis by axis.

OpenVINO 2026.4 sums a patch number by number in float32, which costs two digits on half
a million pixels. Sums of sums keep them, and a reshape between keeps it from merging
the sums again.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm


class StepwiseNorm(nn.Module):
    """A norm over the pixels of each group of channels.

    Parameters
    ----------
    layer : torch.nn.Module
        An instance norm without running statistics, or a group norm.
    groups : int
        Its groups of channels.
    """

    def __init__(self, layer: nn.GroupNorm | _InstanceNorm, groups: int) -> None:
        super().__init__()
        self.weight: torch.Tensor | None = layer.weight
        self.bias: torch.Tensor | None = layer.bias
        self._eps = layer.eps
        self._groups = groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, *spatial)."""
        parts = x.reshape(x.shape[0], self._groups, -1, *x.shape[2:])
        centred = parts - _mean(parts)
        scale = torch.rsqrt(_mean(centred * centred) + self._eps)
        result = (centred * scale).reshape(x.shape)
        if self.weight is None or self.bias is None:
            return result
        shape = (1, -1, *[1] * (x.ndim - 2))
        return result * self.weight.view(shape) + self.bias.view(shape)


def stepwise(module: nn.Module) -> nn.Module:
    """Replace the norms inside a module, in place, and return it."""
    for name, layer in module.named_children():
        if isinstance(layer, nn.GroupNorm):
            setattr(module, name, StepwiseNorm(layer, layer.num_groups))
        elif isinstance(layer, _InstanceNorm) and not layer.track_running_stats:
            setattr(module, name, StepwiseNorm(layer, layer.num_features))
        else:
            stepwise(layer)
    return module


def _mean(x: torch.Tensor) -> torch.Tensor:
    """Mean over all axes but the first two, one after another."""
    batch, groups, *lengths = x.shape
    for length in lengths[::-1]:
        x = x.reshape(batch, groups, -1, length).mean(-1)
    return x.reshape(batch, groups, *[1] * len(lengths))
