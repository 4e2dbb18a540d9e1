"""How much memory a forward pass takes, measured on a small input."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.inference.plan import PATCH
from napari_unet.inference.tiling import grids

if TYPE_CHECKING:
    from torch import nn

    from napari_unet.inference.tiling import Grid
    from napari_unet.networks.network import Network

SLACK = 1.5
"""Factor over the activations for convolution workspaces and results."""


def bytes_per_pixel(network: Network, grids: tuple[Grid, ...]) -> float:
    """Peak bytes of a float32 forward pass per input pixel.

    The network runs once over the smallest input with two positions at its deepest
    level; the tensors alive at the same time are added up as its layers see them.

    Parameters
    ----------
    network : Network
        Any network; its module stays where it is.
    grids : tuple of Grid
        What it asks of tiles, per spatial axis.
    """
    lengths = [g.fit(g.stride + 1) + 2 * g.margin for g in grids]
    weight = next(network.module.parameters(), torch.zeros(1))
    pixels = weight.new_zeros((1, network.spec.in_channels, *lengths))
    finished = 8 * (network.spec.in_channels + 2 * network.spec.out_channels)
    return SLACK * _peak(network.module, pixels) / math.prod(lengths) + finished


def for_tile(network: Network) -> dict[str, Any]:
    """Estimate the memory of one tile of the usual size.

    Returns
    -------
    dict
        ``tile``, the output's size in pixels, and ``bytes``, those of a float32 forward
        pass over it.
    """
    axes = grids(network.geometry)
    tile = [g.fit(n) for g, n in zip(axes, PATCH[network.spec.ndim], strict=True)]
    inputs = math.prod(n + 2 * g.margin for g, n in zip(axes, tile, strict=True))
    return {"tile": tile, "bytes": int(bytes_per_pixel(network, axes) * inputs)}


@torch.inference_mode()
def _peak(module: nn.Module, pixels: torch.Tensor) -> int:
    """Largest sum of the bytes of all tensors alive between two layers."""
    ledger = _Ledger()
    leaves = [m for m in module.modules() if not any(m.children())]
    hooks = [leaf.register_forward_hook(ledger.see) for leaf in leaves]
    try:
        module(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return ledger.peak


class _Ledger:
    """Tensors alive, by the address of their memory."""

    def __init__(self) -> None:
        self.alive: dict[int, int] = {}
        self.peak = 0

    def see(self, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Forward hook: note what a layer got and gave."""
        for tensor in (*inputs, output):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        self.peak = max(self.peak, sum(self.alive.values()))

    def _note(self, tensor: torch.Tensor) -> None:
        address = tensor.untyped_storage().data_ptr()
        if address not in self.alive:
            self.alive[address] = tensor.untyped_storage().nbytes()
            weakref.finalize(tensor, self.alive.pop, address, None)
