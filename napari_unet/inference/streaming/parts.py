"""Parts: the layers of a network, made ready to run on some rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx

from napari_unet.inference.streaming.aligned import across
from napari_unet.inference.streaming.condense import Condensed, condense
from napari_unet.inference.streaming.layers import Call, unpadded
from napari_unet.networks.blocks import ResizeTo
from napari_unet.networks.windows import STILL, Align

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_unet.inference.streaming.rows import Fill
    from napari_unet.networks.graph import Graph, Layer
    from napari_unet.networks.unet import CropTo
    from napari_unet.networks.windows import Window


_JOINS = (torch.cat, torch.concat)


@dataclass(frozen=True)
class Part:
    """A layer that can be run on pieces of rows.

    Attributes
    ----------
    call : callable
        From a piece of each input, (N, C, *spatial), to a piece of the output.
    inputs : tuple of int
        Numbers of the parts it reads; none for the image.
    window : Window
        Which rows an output row depends on.
    own : int
        Number of the layer in the network's graph.
    axis : int
        Number of the spatial axis of its output that rows are stacked along.
    fill : float or str
        What lies outside its inputs.
    pads : bool
        Whether `call` pads by itself along the streamed axis; rows that its padding
        has touched are wrong within a frame.
    crop : CropTo, optional
        Set where the first input is moved to meet the second.
    joins : bool
        Whether it only puts channels side by side.
    """

    call: Call
    inputs: tuple[int, ...]
    window: Window
    own: int
    axis: int
    fill: Fill = 0.0
    pads: bool = False
    crop: CropTo | None = None
    joins: bool = False


def parts(graph: Graph, axis: int) -> list[Part]:
    """Return the parts of a network in order; the first is the image.

    Parameters
    ----------
    graph : Graph
        The network's layers.
    axis : int
        Number of the image's spatial axis that rows are stacked along.
    """
    return [_part(one, axis) for one in condense(graph.layers)]


def _part(one: Condensed, axis: int) -> Part:
    layer, own = one.layer, one.own
    window, windows = layer.windows[axis], layer.windows
    if layer.turned:
        axis, windows = len(windows) - 1 - axis, windows[::-1]
    if layer.crop is not None:
        crop = layer.crop
        call: Call = crop if not isinstance(crop, ResizeTo) else _cropped
        return Part(call, layer.inputs, STILL, own, axis, crop.outside, crop=crop)
    if len(layer.inputs) != 1:
        joins = layer.node is not None and layer.node.target in _JOINS
        return Part(_call(layer), layer.inputs, window, own, axis, joins=joins)
    if isinstance(window, Align):
        factors = [w.pitch.denominator for w in windows]
        call = partial(across, factors=factors, axis=axis)
        return Part(call, layer.inputs, window, own, axis)
    bare = unpadded(layer.module, axis, one.activation)
    if bare is not None:
        return Part(bare.call, layer.inputs, window, own, axis, bare.fill)
    return Part(_call(layer), layer.inputs, window, own, axis, pads=window != STILL)


def _call(layer: Layer) -> Call:
    """Return what a node of the graph does to pieces of its inputs."""
    node, module = layer.node, layer.module
    assert node is not None
    if node.op in ("output", "placeholder"):
        return _itself
    if isinstance(module, ResizeTo):
        scale, mode = module.factor, module.mode
        return lambda x: F.interpolate(x, scale_factor=scale, mode=mode)
    return lambda *pieces: _run(node, module, pieces)


def _run(node: fx.Node, module: Any, pieces: Sequence[Tensor]) -> Tensor:
    """Run a node with `pieces` in place of its inputs."""
    values = dict(zip(node.all_input_nodes, pieces, strict=True))
    args = fx.map_arg(node.args, values.__getitem__)
    kwargs = fx.map_arg(node.kwargs, values.__getitem__)
    if module is not None:
        result: Tensor = module(*args, **kwargs)
    elif node.op == "call_method":
        result = getattr(args[0], str(node.target))(*args[1:], **kwargs)
    else:
        result = node.target(*args, **kwargs)  # type: ignore[operator]
    return result


def _itself(x: Tensor) -> Tensor:
    return x


def _cropped(x: Tensor, like: Tensor) -> Tensor:
    """Cut the ends off what was enlarged before."""
    for dim in range(2, x.ndim):
        x = x.narrow(dim, 0, like.shape[dim])
    return x
