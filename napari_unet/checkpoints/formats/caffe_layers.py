"""Layers of Caffe as steps of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.formats.caffe_messages import Layer, axes, last, whole
from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_unet.checkpoints.prototxt import Message

Tensors = dict[str, torch.Tensor]
_POOLS = {"MAX": "max_pool", 0: "max_pool", "AVE": "average_pool", 1: "average_pool"}

Step = tuple[str, dict[str, Any], Tensors]
"""Kind and settings of an operation, and its weights by their names in the layer."""


@dataclass(frozen=True)
class Use:
    """A layer of one input at its place in a network.

    Attributes
    ----------
    layer : Layer
        Not a Concat.
    weights : sequence of torch.Tensor
        As the file has them.
    channels : int
        Of its input.
    ndim : int
        Number of spatial axes.
    """

    layer: Layer
    weights: Sequence[torch.Tensor]
    channels: int
    ndim: int

    def settings(self, name: str) -> Message:
        """Return a message of the layer that may name the axis of the channels.

        Raises
        ------
        Refused
            If it names another axis.
        """
        param = self.layer.settings(name)
        if last(param, "axis", 1) != 1:
            raise Refused(
                f"the layer {self.layer.name} over another axis than channels"
            )
        return param

    def shaped(self, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
        """Name the weights; vectors may have axes of length 1 before them.

        Raises
        ------
        Refused
            If they are of another number or other shapes.
        """
        if len(self.weights) != len(shapes):
            raise Refused(
                f"{len(self.weights)} weights for the layer {self.layer.name}"
            )
        named: Tensors = {}
        for tensor, (name, shape) in zip(self.weights, shapes.items(), strict=True):
            named[name] = tensor.flatten() if len(shape) == 1 else tensor
            if tuple(named[name].shape) != shape:
                raise Refused(
                    f"a {name} of shape {tuple(tensor.shape)} for the layer "
                    f"{self.layer.name}, which needs {shape}"
                )
        return named


def is_known(kind: str) -> bool:
    """Whether `translate` knows a type of layer."""
    return kind in _TRANSLATORS


def translate(use: Use) -> list[Step]:
    """Return the steps that do the same as a layer, one after another.

    Raises
    ------
    Refused
        If there are none.
    """
    if use.layer.kind not in _TRANSLATORS:
        raise Refused(f"the layer {use.layer.name} of type {use.layer.kind}")
    return _TRANSLATORS[use.layer.kind](use)


def _conv(use: Use) -> list[Step]:
    param, is_conv = use.settings("convolution_param"), use.layer.kind == "Convolution"
    outputs, groups = whole(param, "num_output"), whole(param, "group", 1)
    kernel = axes(param, "kernel_size", use.ndim)
    ends = (outputs, use.channels) if is_conv else (use.channels, outputs)
    shapes: dict[str, tuple[int, ...]] = {
        "weight": (ends[0], ends[1] // groups, *kernel)
    }
    if last(param, "bias_term", True):
        shapes["bias"] = (outputs,)
    settings = {
        "in_channels": use.channels,
        "out_channels": outputs,
        "kernel_size": list(kernel),
        "stride": list(axes(param, "stride", use.ndim, 1)),
        "padding": list(axes(param, "pad", use.ndim, 0, least=0)),
        "dilation": list(axes(param, "dilation", use.ndim, 1)),
        "groups": groups,
        "bias": "bias" in shapes,
    }
    kind = "conv" if is_conv else "transposed"
    return [(kind, settings, use.shaped(shapes))]


def _pool(use: Use) -> list[Step]:
    """Round sizes up and count the padding in averages, as Caffe does."""
    param = use.settings("pooling_param")
    kind = _POOLS.get(last(param, "pool", "MAX"))
    if kind is None or last(param, "global_pooling", False):
        raise Refused(f"the pooling {use.layer.name} of another kind than MAX and AVE")
    kernel = axes(param, "kernel_size", use.ndim)
    padding = axes(param, "pad", use.ndim, 0, least=0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise Refused(f"the pooling {use.layer.name} padded by over half its kernel")
    settings = {
        "kernel_size": list(kernel),
        "stride": list(axes(param, "stride", use.ndim, 1)),
        "padding": list(padding),
        "ceil_mode": last(param, "round_mode", "CEIL") in ("CEIL", 0),
    }
    return [(kind, settings, {})]


def _relu(use: Use) -> list[Step]:
    slope = float(last(use.settings("relu_param"), "negative_slope", 0))
    settings = {"name": "leaky_relu", "slope": slope} if slope else {"name": "relu"}
    return [("activation", settings, {})]


def _softmax(use: Use) -> list[Step]:
    use.settings("softmax_param")
    return [("activation", {"name": "softmax"}, {})]


def _sigmoid(use: Use) -> list[Step]:
    return [("activation", {"name": "sigmoid"}, {})]


def _nothing(use: Use) -> list[Step]:
    return []


def _batch_norm(use: Use) -> list[Step]:
    """Divide the stored sums by the third blob; affine numbers come in a Scale."""
    param, channels = use.settings("batch_norm_param"), use.channels
    if not last(param, "use_global_stats", True):
        raise Refused(f"the batch norm {use.layer.name} with statistics of the image")
    found = use.shaped({"mean": (channels,), "var": (channels,), "factor": (1,)})
    factor = float(found["factor"])
    share = 1 / factor if factor else 0.0
    settings = {"num_features": channels, "eps": float(last(param, "eps", 1e-5))}
    tensors = {
        "weight": torch.ones(channels),
        "bias": torch.zeros(channels),
        "running_mean": found["mean"] * share,
        "running_var": found["var"] * share,
    }
    return [("batch_norm", settings, tensors)]


def _scale(use: Use) -> list[Step]:
    param = use.settings("scale_param")
    if last(param, "num_axes", 1) != 1:
        raise Refused(f"the layer {use.layer.name} that scales more than channels")
    kinds = ("mul", "add") if last(param, "bias_term", False) else ("mul",)
    found = use.shaped(dict.fromkeys(kinds, (use.channels,)))
    return [_constant(kind, value) for kind, value in found.items()]


def _value_transformation(use: Use) -> list[Step]:
    """Add an offset, then multiply; one number for all channels or one for each."""
    param = use.settings("value_transformation_param")
    steps = []
    for name, kind in (("offset", "add"), ("scale", "mul")):
        values = last(param, name, {}).get("v", ())
        if values:
            steps.append(_constant(kind, torch.tensor(list(map(float, values)))))
    return steps


def _constant(kind: str, value: torch.Tensor) -> Step:
    settings = {"operation": kind, "channels": value.numel()}
    return "constant", settings, {"value": value}


_TRANSLATORS: dict[str, Callable[[Use], list[Step]]] = {
    "Convolution": _conv,
    "Deconvolution": _conv,
    "Pooling": _pool,
    "ReLU": _relu,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Dropout": _nothing,
    "Split": _nothing,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "ValueTransformation": _value_transformation,
}
