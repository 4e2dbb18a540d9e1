"""How much memory a forward pass takes, measured on a small input."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from napari_unet.errors import UsageError
from napari_unet.inference import tiling
from napari_unet.inference.plan import PATCH, RowCost
from napari_unet.inference.streaming.stream import Stream, Streamed
from napari_unet.inference.tiling import grids
from napari_unet.networks.graph import UnknownLayerError, read_graph

if TYPE_CHECKING:
    from torch import nn

    from napari_unet.inference.tiling import Grid
    from napari_unet.networks.network import Network

SLACK = 1.5
"""Factor over the activations for convolution workspaces and results."""
STREAM_SLACK = 2.2
"""The same for streaming, whose tensors of many sizes and ages leave gaps between them
where freed memory is kept, see `napari_unet.execution.memory`."""
CHUNK = {2: 64, 3: 8}
"""Rows and planes at a time; fewer make the deepest layers slow."""


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


def row_cost(network: Network, grids: tuple[Grid, ...]) -> RowCost | None:
    """Measure what streaming takes on two narrow frames.

    Parameters
    ----------
    network : Network
        Any network; its module stays where it is.
    grids : tuple of Grid
        What it asks of tiles, per spatial axis.

    Returns
    -------
    RowCost or None
        None where the network cannot be streamed.
    """
    spec, (first, *others) = network.spec, grids
    try:
        streamed = Streamed(read_graph(network.module, spec.ndim))
        peaks = [
            _stream_peak(streamed, network, grids, n * first.stride) for n in (1, 2)
        ]
    except (UnknownLayerError, UsageError):
        return None
    width = math.prod(g.fit(g.stride + 1) + 2 * g.margin for g in others)
    moving = max(0.0, (peaks[1] - peaks[0]) / first.stride)
    held = max(0.0, peaks[0] - moving * first.stride)
    finished = 8 * (spec.in_channels + 2 * spec.out_channels)
    return RowCost(
        STREAM_SLACK * held / width,
        STREAM_SLACK * moving / width + finished,
        first.up(CHUNK[spec.ndim]),
    )


@torch.inference_mode()
def _stream_peak(
    streamed: Streamed, network: Network, grids: tuple[Grid, ...], chunk: int
) -> int:
    """Most bytes of tensors alive while a frame is streamed."""
    first = grids[0]
    lengths = [g.fit(g.stride + 1) + 2 * g.margin for g in grids]
    rows = first.fit(first.before + first.after + 4 * chunk) + 2 * first.margin
    weight = next(network.module.parameters(), torch.zeros(1))
    stream, ledger = Stream(streamed, rows, chunk), Living()
    with ledger:
        for start, stop in tiling.pieces(0, rows, chunk):
            shape = (1, network.spec.in_channels, stop - start, *lengths[1:])
            for _ in stream.push(weight.new_zeros(shape)):
                pass
    return ledger.peak


class Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the tensors alive, as torch makes them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ledger = _Ledger()

    @property
    def peak(self) -> int:
        """Most bytes that were alive at a time."""
        return self._ledger.peak

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation of torch and note what it gives."""
        result = func(*args, **(kwargs or {}))
        self._ledger.note(result)
        return result


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
            self.note(tensor)

    def note(self, tensor: Any) -> None:
        """Note a tensor; weights laid out for oneDNN have no size."""
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            return
        address = tensor.untyped_storage().data_ptr()
        if address not in self.alive:
            self.alive[address] = tensor.untyped_storage().nbytes()
            weakref.finalize(tensor, self.alive.pop, address, None)
            self.peak = max(self.peak, sum(self.alive.values()))
