"""What a network sees and where: receptive field, stride grid and lost margin.

Derived from the graph in whole numbers: the interval of input pixels that each output
pixel of one stride period depends on is carried back layer by layer. A test compares it
with the pixels that really change the output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch.func import functional_call

from napari_unet.networks.graph import Graph, UnknownLayerError, read_graph

if TYPE_CHECKING:
    from torch import nn

_MOST_PHASES = 1024
_FAR = 1 << 14


@dataclass(frozen=True)
class Geometry:
    """How a network's output lies over its input, one number per spatial axis.

    Output pixel o lies over input pixel o + `margin` and depends on no pixel outside
    o + margin - `before` ... o + margin + `after`.

    Attributes
    ----------
    stride : tuple of int
        Shifting the input by this many pixels shifts the output by as many.
    before, after : tuple of int
        Reach of an output pixel to either side, the most over all phases of the stride
        grid. 0 where it could not be derived, see `reason`.
    halo : tuple of (int, int)
        Reach of a tile whose borders lie on multiples of `stride`, before and after it.
        Less than the reach of a pixel, because no tile starts inside a stride cell.
    margin : tuple of int
        Pixels that valid convolutions take off each side; 0 for same padding.
    remainder : tuple of int
        Output lengths L that the network can give have L % stride == remainder.
    exact : bool
        Whether tiles with this halo give the whole image's output.
    reason : str
        Why not, empty if exact.
    streams : bool
        Whether whole frames can be computed rows after rows.
    """

    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    halo: tuple[tuple[int, int], ...]
    margin: tuple[int, ...]
    remainder: tuple[int, ...]
    exact: bool
    reason: str = ""
    streams: bool = False


@dataclass(frozen=True)
class _Axis:
    stride: int
    before: int
    after: int
    halo: tuple[int, int]
    margin: int
    remainder: int


def geometry(module: nn.Module, ndim: int, in_channels: int) -> Geometry:
    """Derive the geometry of a network in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        Takes (N, in_channels, *spatial) and returns (N, channels, *spatial).
    ndim : int
        Number of spatial axes.
    in_channels : int
        Channels of the input.

    Returns
    -------
    Geometry
        With `exact` False and the reason where the layers cannot be followed or look
        at the whole image. The stride is then found by trying sizes.
    """
    try:
        graph = read_graph(module, ndim)
        axes = [_axis(graph, axis) for axis in range(ndim)]
    except UnknownLayerError as error:
        return _tried(module, ndim, in_channels, str(error))
    reason = next(iter([*graph.global_layers, *graph.sized_layers]), "")
    return Geometry(
        stride=tuple(a.stride for a in axes),
        before=tuple(a.before for a in axes),
        after=tuple(a.after for a in axes),
        halo=tuple(a.halo for a in axes),
        margin=tuple(a.margin for a in axes),
        remainder=tuple(a.remainder for a in axes),
        exact=not reason,
        reason=reason,
        streams=not graph.global_layers,
    )


def _axis(graph: Graph, axis: int) -> _Axis:
    """Derive everything along one axis."""
    stride = _stride(graph, axis)
    inputs, lengths = _fitting_length(graph, axis, stride)
    lost = inputs - lengths[-1]
    if lost % 2:
        raise UnknownLayerError("the network takes an odd number of pixels off")
    margin = lost // 2
    start = lengths[-1] // 2 // stride * stride
    reads = [_reads(graph, axis, lengths, start + n) for n in range(stride)]
    low = [first - start - margin for first, _ in reads]
    high = [last - start - margin for _, last in reads]
    return _Axis(
        stride=stride,
        before=max(0, *(n - first for n, first in enumerate(low))),
        after=max(0, *(last - n for n, last in enumerate(high))),
        halo=(max(0, -min(low)), max(0, max(high) - stride + 1)),
        margin=margin,
        remainder=lengths[-1] % stride,
    )


def _stride(graph: Graph, axis: int) -> int:
    """Return the least shift that moves every layer by whole pixels."""
    pitches: list[Fraction] = []
    for layer in graph.layers:
        spaces = {pitches[n] for n in layer.inputs} or {Fraction(1)}
        if len(spaces) > 1:
            raise UnknownLayerError("layers of different resolution are joined")
        pitches.append(spaces.pop() * layer.windows[axis].pitch)
    if pitches[-1] != 1:
        raise UnknownLayerError("the output has another resolution than the input")
    stride = math.lcm(*(p.numerator for p in pitches))
    if stride > _MOST_PHASES:
        raise UnknownLayerError(f"the poolings multiply to {stride}")
    return stride


def _fitting_length(graph: Graph, axis: int, stride: int) -> tuple[int, list[int]]:
    """Return a large input length that suits the network, and each layer's length."""
    start = stride * _FAR
    lengths = graph.lengths(axis, start)
    if lengths is not None and lengths[-1] == start:
        return start, lengths
    for inputs in range(start, start + stride):
        lengths = graph.lengths(axis, inputs, exact=True)
        if lengths is not None:
            return inputs, lengths
    raise UnknownLayerError("no image size suits all poolings")


def _reads(graph: Graph, axis: int, lengths: list[int], o: int) -> tuple[int, int]:
    """First and last input pixel that output pixel `o` depends on."""
    wanted: dict[int, tuple[int, int]] = {len(graph.layers) - 1: (o, o)}
    for number in range(len(graph.layers) - 1, 0, -1):
        if number not in wanted:
            continue
        layer = graph.layers[number]
        low, high = layer.windows[axis].reads(*wanted[number])
        inputs = layer.inputs
        if layer.crop is not None:
            source, like = inputs
            offset = layer.crop.offset(lengths[source], lengths[like])
            low, high, inputs = low + offset, high + offset, (source,)
        for n in inputs:
            first, last = wanted.get(n, (low, high))
            wanted[n] = min(first, low), max(last, high)
    return wanted.get(0, (o, o))


def _tried(module: nn.Module, ndim: int, in_channels: int, reason: str) -> Geometry:
    """Find the stride by the sizes a network accepts, without computing on pixels."""
    stride, lost = _try_sizes(module, ndim, in_channels)
    zero = (0,) * ndim
    margin = tuple(n // 2 for n in lost)
    remainder = tuple(-n % stride for n in lost)
    return Geometry(
        stride=(stride,) * ndim,
        before=zero,
        after=zero,
        halo=((0, 0),) * ndim,
        margin=margin,
        remainder=remainder,
        exact=False,
        reason=reason,
    )


def _try_sizes(
    module: nn.Module, ndim: int, in_channels: int
) -> tuple[int, tuple[int, ...]]:
    """Return the smallest power of two whose multiples fit, and the pixels lost."""
    for stride in (1, 2, 4, 8, 16, 32, 64):
        sizes = [stride * (64 // stride + n) for n in (1, 2)]
        first, second = (_lost(module, ndim, in_channels, size) for size in sizes)
        if first is not None and first == second and not any(n % 2 for n in first):
            return stride, first
    return 64, (0,) * ndim


def _lost(
    module: nn.Module, ndim: int, in_channels: int, size: int
) -> tuple[int, ...] | None:
    """Pixels a cube of `size` loses per axis, None where it does not fit."""
    weights = {
        name: tensor.to("meta")
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
    }
    image = torch.empty(1, in_channels, *(size,) * ndim, device="meta")
    try:
        with torch.inference_mode():
            output = functional_call(module, weights, (image,))
            return tuple(size - n for n in output.shape[2:])
    except Exception:  # a size that does not fit fails in the module's own code
        return None
