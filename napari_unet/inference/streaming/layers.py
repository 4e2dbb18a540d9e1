"""Layers that take their padding along the streamed axis from outside.

Within a frame a piece of rows is not at the border, so a layer must not pad there. What
a convolution or pooling sees beyond the frame becomes rows of the piece instead, and
the layer pads along the other axes only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch.nn.functional as F
from torch import nn
from torch.nn.modules.conv import _ConvNd

from napari_unet.inference.streaming.fused import NONE, Activation, fused
from napari_unet.networks.layers import padding, per_axis
from napari_unet.networks.program import Pad

if TYPE_CHECKING:
    from torch import Tensor

    from napari_unet.inference.streaming.rows import Fill

Call = Callable[..., "Tensor"]
_POOLS: dict[type[nn.Module], Call] = {
    nn.MaxPool2d: F.max_pool2d,
    nn.MaxPool3d: F.max_pool3d,
    nn.AvgPool2d: F.avg_pool2d,
    nn.AvgPool3d: F.avg_pool3d,
}


class Unpadded(NamedTuple):
    """A layer without its padding along one axis.

    Attributes
    ----------
    call : callable
        From a piece, (N, C, *spatial) with what lies outside the frame, to its output.
    fill : float or str
        What lies outside, see `napari_unet.inference.streaming.rows.Fill`.
    """

    call: Call
    fill: Fill


def unpadded(
    module: nn.Module | None, axis: int, activation: Activation = NONE
) -> Unpadded | None:
    """Return a convolution, pooling or padding that does not pad along `axis`.

    Parameters
    ----------
    module : torch.nn.Module
        A layer of a network.
    axis : int
        Number of the spatial axis.
    activation : tuple
        To be computed with a convolution, where that can be fused.

    Returns
    -------
    Unpadded or None
        None for other layers, which are run as they are.
    """
    if isinstance(module, _ConvNd) and not module.transposed:
        return _convolution(module, axis, activation)
    if type(module) in _POOLS:
        return _pooling(module, axis)
    if isinstance(module, (nn.ConstantPad2d, nn.ConstantPad3d)):
        sides = list(padding(module, len(module.padding) // 2))
        before, after = ([getattr(s, n) for s in sides] for n in ("left", "right"))
        return _padding(Pad(tuple(before), tuple(after), module.value), axis)
    return _padding(module, axis) if isinstance(module, Pad) else None


def _convolution(conv: Any, axis: int, activation: Activation) -> Unpadded | None:
    """Leave the padding out along one axis, whatever its mode."""
    mode, sides = conv.padding_mode, _sides(conv)
    if mode == "circular":
        return None
    sides[axis] = (0, 0)
    function = F.conv2d if len(sides) == 2 else F.conv3d
    settings = {"stride": conv.stride, "dilation": conv.dilation, "groups": conv.groups}
    is_even = all(a == b for a, b in sides)
    if mode == "zeros" and is_even:
        settings["padding"] = [a for a, _ in sides]
        together = fused(conv, settings["padding"], activation)
        if together is not None:
            return Unpadded(together, 0.0)
        return Unpadded(lambda x: function(x, conv.weight, conv.bias, **settings), 0.0)
    pads = [n for side in reversed(sides) for n in side]
    kind = "constant" if mode == "zeros" else mode
    return Unpadded(
        lambda x: function(F.pad(x, pads, kind), conv.weight, conv.bias, **settings),
        0.0 if mode == "zeros" else mode,
    )


def _sides(conv: Any) -> list[tuple[int, int]]:
    """Return the padding before and after each axis; torch lists the last first."""
    pads = conv._reversed_padding_repeated_twice[::-1]
    return [(pads[n + 1], pads[n]) for n in range(0, len(pads), 2)]


def _pooling(pool: Any, axis: int) -> Unpadded | None:
    """Leave the padding of a pooling out along one axis."""
    ndim = 2 if isinstance(pool, (nn.MaxPool2d, nn.AvgPool2d)) else 3
    is_max = isinstance(pool, (nn.MaxPool2d, nn.MaxPool3d))
    sides = list(per_axis(pool.padding, ndim))
    counts = is_max or pool.count_include_pad or not sides[axis]
    if (pool.ceil_mode and not is_max) or not counts:
        return None
    sides[axis] = 0
    settings: dict[str, Any] = {"kernel_size": pool.kernel_size, "stride": pool.stride}
    settings |= {"padding": sides, "ceil_mode": pool.ceil_mode}
    if is_max:
        settings["dilation"] = pool.dilation
    else:
        settings["count_include_pad"] = pool.count_include_pad
        settings["divisor_override"] = pool.divisor_override
    call = partial(_POOLS[type(pool)], **settings)
    return Unpadded(call, -math.inf if is_max else 0.0)


def _padding(pad: Pad, axis: int) -> Unpadded:
    """Leave one axis out."""
    sides = [list(pad.before), list(pad.after)]
    for side in sides:
        side[axis] = 0
    before, after = (tuple(side) for side in sides)
    fill: Fill = pad.value if pad.mode == "constant" else pad.mode
    return Unpadded(Pad(before, after, pad.value, pad.mode), fill)
