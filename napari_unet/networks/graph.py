"""A network's layers in order, as windows along each spatial axis.

The module is traced with `torch.fx`, not run. Layers it does not know are named, never
guessed.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from napari_unet.networks.blocks import ResizeTo
from napari_unet.networks.layers import convolution, padding, per_axis, pooling
from napari_unet.networks.leaves import Leaf, TurnAxes
from napari_unet.networks.unet import CropTo
from napari_unet.networks.windows import STILL, Align, Enlarge, Window

if TYPE_CHECKING:
    from collections.abc import Iterable

Windows = tuple[Window, ...]

_POINTWISE: tuple[type[nn.Module], ...] = (
    *(nn.Identity, _DropoutNd, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU),
    *(nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh),
    *(nn.Softplus, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softmax2d),
)
_POINTWISE_FUNCTIONS = {
    *(torch.relu, torch.sigmoid, torch.tanh, torch.add, torch.mul, torch.sub),
    *(F.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.sigmoid, F.tanh),
    *(F.dropout, F.dropout2d, F.dropout3d, F.prelu, F.softplus, torch.clamp),
    *(operator.add, operator.mul, operator.sub, operator.truediv, operator.neg),
    *(operator.iadd, operator.imul, torch.log, torch.logit),
}
_POINTWISE_METHODS = {
    *("relu", "relu_", "sigmoid", "tanh", "add", "add_", "mul", "mul_", "sub", "clamp"),
    *("contiguous", "clone", "float"),
}
_CHANNEL_SOFTMAX = {torch.softmax, F.softmax, F.log_softmax, torch.log_softmax}
_POOLS = (nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE = tuple(
    getattr(nn, f"Adaptive{kind}Pool{n}d") for kind in ("Avg", "Max") for n in (2, 3)
)
_NORMS = {nn.GroupNorm: "group norm", nn.LayerNorm: "layer norm"}


class UnknownLayerError(Exception):
    """A layer whose reach cannot be told; the text is the reason."""


@dataclass(frozen=True)
class Layer:
    """One step of a network.

    Attributes
    ----------
    inputs : tuple of int
        Numbers of the earlier layers it reads.
    windows : tuple of Window
        Its view along each spatial axis.
    crop : CropTo, optional
        Set where the first input is cropped or padded to the size of the second.
    node : torch.fx.Node, optional
        Where it comes from.
    module : torch.nn.Module, optional
        What `node` calls, where that is a module.
    turned : bool
        Whether its output has the spatial axes in reverse order; `windows` are in the
        order of the image all the same.
    """

    inputs: tuple[int, ...]
    windows: Windows
    crop: CropTo | None = None
    node: fx.Node | None = None
    module: nn.Module | None = None
    turned: bool = False


@dataclass(frozen=True)
class Graph:
    """The layers of a network in order; layer 0 is the image, the last the output."""

    layers: list[Layer]
    global_layers: list[str] = field(default_factory=list)
    """Why a pixel depends on the whole image, one sentence per kind of layer."""
    sized_layers: list[str] = field(default_factory=list)
    """Why a pixel depends on the size of the image, though not on all of it."""

    def lengths(self, axis: int, inputs: int, exact: bool = False) -> list[int] | None:
        """Length of each layer's output along an axis, None where layers do not meet.

        Parameters
        ----------
        axis : int
            Number of the spatial axis.
        inputs : int
            Length of the image.
        exact : bool
            Whether sizes that leave pixels over are refused too.
        """
        found: list[int] = []
        for layer in self.layers:
            sizes = [found[n] for n in layer.inputs] or [inputs]
            if layer.crop is not None:
                found.append(sizes[1])
                continue
            window = layer.windows[axis]
            if len(set(sizes)) > 1 or (exact and not window.fits(sizes[0])):
                return None
            found.append(window.length(sizes[0]))
        return found


class Tracer(fx.Tracer):
    """Traces through our own containers but not into torch's layers and crops."""

    def is_leaf_module(self, m: nn.Module, qualname: str) -> bool:
        """Whether `m` is a single layer."""
        return isinstance(m, (CropTo, Leaf)) or super().is_leaf_module(m, qualname)


def trace(module: nn.Module) -> fx.Graph:
    """Return the graph of a module.

    Raises
    ------
    UnknownLayerError
        If its code cannot be followed without running it.
    """
    try:
        return Tracer().trace(module)
    except Exception as error:  # fx raises whatever the module's own code raises
        raise UnknownLayerError(
            f"the layers of {type(module).__name__} cannot be followed"
        ) from error


def read_graph(module: nn.Module, ndim: int) -> Graph:
    """Return the layers of a module in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one tensor (N, C, *spatial) and returns one.
    ndim : int
        Number of spatial axes.

    Raises
    ------
    UnknownLayerError
        If a layer is unknown or the graph cannot be traced.
    """
    return _Reader(module, ndim).read(trace(module))


class _Reader:
    """Turns the nodes of an fx graph into layers."""

    def __init__(self, module: nn.Module, ndim: int) -> None:
        self.modules = dict(module.named_modules())
        self.ndim = ndim
        self.graph = Graph([])
        self.turned = False
        self.numbers: dict[fx.Node, int] = {}

    def read(self, graph: fx.Graph) -> Graph:
        for node in graph.nodes:
            if node.op == "output":
                self._add(node, self._still(), self._output(node))
            elif node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "call_module":
                self._module(node, self.modules[str(node.target)])
            elif node.op == "call_function":
                self._function(node)
            elif node.op == "call_method":
                self._method(node)
        return self.graph

    def _add(
        self,
        node: fx.Node,
        windows: Windows,
        inputs: Iterable[fx.Node],
        crop: CropTo | None = None,
    ) -> None:
        windows = windows[::-1] if self.turned else windows
        known = tuple(self.numbers[n] for n in inputs if n in self.numbers)
        is_module = node.op == "call_module"
        module = self.modules[str(node.target)] if is_module else None
        self.numbers[node] = len(self.graph.layers)
        layer = Layer(known, windows, crop, node, module, self.turned)
        self.graph.layers.append(layer)

    def _still(self) -> Windows:
        return (STILL,) * self.ndim

    def _global(self, reason: str) -> None:
        if reason not in self.graph.global_layers:
            self.graph.global_layers.append(reason)

    def _placeholder(self, node: fx.Node) -> None:
        if self.graph.layers and not node.args:
            raise UnknownLayerError("the network takes several inputs")
        if not self.graph.layers:
            self._add(node, self._still(), ())

    def _output(self, node: fx.Node) -> tuple[fx.Node]:
        if not isinstance(node.args[0], fx.Node):
            raise UnknownLayerError("the network gives several outputs")
        return (node.args[0],)

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        if isinstance(module, TurnAxes):
            self.turned = not self.turned
        crop = module if isinstance(module, CropTo) else None
        windows = self._still() if crop else self._windows(module)
        inputs = node.all_input_nodes
        if isinstance(module, ResizeTo):
            self._add(node, self._enlarged(module), inputs[:1])
            inputs = [node, inputs[1]]
        self._add(node, windows, inputs, crop)

    def _enlarged(self, module: ResizeTo) -> Windows:
        """Return the view of a resize before its crop to the other's size."""
        return self._interpolation(module.factor, None, module.mode, None)

    def _windows(self, module: nn.Module) -> Windows:
        """Return the view of one layer."""
        if isinstance(module, Leaf):
            return module.windows(self.ndim)
        if isinstance(module, _ConvNd):
            if module.padding_mode == "circular":
                self._global("circular padding joins opposite borders of the image")
            return convolution(module)
        if isinstance(module, _POOLS):
            return pooling(module, self.ndim)
        if isinstance(module, (nn.ConstantPad2d, nn.ConstantPad3d)):
            return padding(module, self.ndim)
        if isinstance(module, nn.Upsample):
            return self._interpolation(
                module.scale_factor, module.size, module.mode, module.align_corners
            )
        if isinstance(module, (_BatchNorm, _InstanceNorm, *_NORMS)):
            return self._norm(module)
        if isinstance(module, (nn.Softmax, nn.LogSoftmax)) and module.dim == 1:
            return self._still()
        if isinstance(module, _POINTWISE):
            return self._still()
        if isinstance(module, _ADAPTIVE):
            return self._adaptive(module)
        raise UnknownLayerError(f"unknown layer {type(module).__name__}")

    def _adaptive(self, module: Any) -> Windows:
        """Note one value for the image, which weighs channels of any size."""
        reason = "adaptive pooling looks at the whole image"
        if set(per_axis(module.output_size, self.ndim)) != {1}:
            raise UnknownLayerError(reason)
        self._global(reason)
        return self._still()

    def _norm(self, module: nn.Module) -> Windows:
        """Note norms whose statistics are those of the image at hand."""
        if type(module) in _NORMS:
            self._global(f"{_NORMS[type(module)]} looks at the whole image")
        elif getattr(module, "running_mean", None) is None:
            kind = "instance" if isinstance(module, _InstanceNorm) else "batch"
            self._global(f"{kind} norm looks at the whole image")
        return self._still()

    def _interpolation(
        self, scale: Any, size: Any, mode: str, align_corners: bool | None
    ) -> Windows:
        if size is not None or scale is None:
            raise UnknownLayerError("interpolation to a fixed size")
        if mode not in ("nearest", "nearest-exact", "bilinear", "trilinear"):
            raise UnknownLayerError(f"unknown interpolation {mode}")
        factors = per_axis(scale, self.ndim)
        if any(f != int(f) or f < 1 for f in factors):
            raise UnknownLayerError(f"interpolation by {scale} is no whole factor")
        if align_corners:
            self.graph.sized_layers.append(
                "up-sampling with align_corners=True depends on the image size"
            )
            return tuple(Align(int(f)) for f in factors)
        return tuple(Enlarge(int(f), "linear" in mode) for f in factors)

    def _function(self, node: fx.Node) -> None:
        target, settings = node.target, node.kwargs
        if target in (torch.cat, torch.concat):
            dim = settings.get("dim", node.args[1] if len(node.args) > 1 else 0)
            if dim != 1:
                raise UnknownLayerError("concatenation along a spatial axis")
            windows = self._still()
        elif target is F.interpolate:
            windows = self._interpolate(*node.args[1:], **settings)
        elif target in _CHANNEL_SOFTMAX:
            if settings.get("dim", node.args[1] if len(node.args) > 1 else None) != 1:
                raise UnknownLayerError("softmax over space")
            windows = self._still()
        elif target in _POINTWISE_FUNCTIONS:
            windows = self._still()
        else:
            name = getattr(target, "__name__", str(target))
            raise UnknownLayerError(f"unknown operation {name}")
        self._add(node, windows, node.all_input_nodes)

    def _interpolate(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: Any = "nearest",
        align_corners: Any = None,
        **_: Any,
    ) -> Windows:
        """Read the arguments of `torch.nn.functional.interpolate`."""
        return self._interpolation(scale_factor, size, mode, align_corners)

    def _method(self, node: fx.Node) -> None:
        if node.target not in _POINTWISE_METHODS:
            raise UnknownLayerError(f"unknown operation {node.target}")
        self._add(node, self._still(), node.all_input_nodes)
