"""Layers of Caffe as steps of a program (caffe.proto of the U-Net plugin for Fiji)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.formats.onnx_operators import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_unet.checkpoints.prototxt import Message

Tensors = dict[str, torch.Tensor]
Step = tuple[str, dict[str, Any], Tensors]
"""Kind and settings of an operation, and its weights by their names in the layer."""


@dataclass(frozen=True)
class Layer:
    """One layer of a network description.

    Attributes
    ----------
    name, kind : str
        Such as ``"conv_d0a-b"`` and ``"Convolution"``.
    bottoms, tops : tuple of str
        Names of what it reads and what it makes.
    fields : dict
        All of its fields.
    """

    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    fields: Message

    @classmethod
    def of(cls, fields: Message) -> Layer:
        """Read a message ``layer``."""
        return cls(
            name=str(last(fields, "name", "")),
            kind=str(last(fields, "type", "")),
            bottoms=tuple(map(str, fields.get("bottom", ()))),
            tops=tuple(map(str, fields.get("top", ()))),
            fields=fields,
        )

    def settings(self, name: str) -> Message:
        """Return a message inside, empty if there is none."""
        found = last(self.fields, name, {})
        return found if isinstance(found, dict) else {}

    @property
    def in_test(self) -> bool:
        """Whether it works when the network is applied, not only in training."""
        rules = [r for r in self.fields.get("include", ()) if isinstance(r, dict)]
        barred = [r for r in self.fields.get("exclude", ()) if isinstance(r, dict)]
        is_included = not rules or any(map(_holds, rules))
        return is_included and not any(map(_holds, barred))


def last(fields: Message, name: str, default: Any) -> Any:
    """Return the value of a field that may be given once; the last one counts."""
    values = fields.get(name) or [default]
    return values[-1]


def _holds(rule: Message) -> bool:
    """Whether a rule is met in phase TEST at level 0 without any stage."""
    is_test = last(rule, "phase", "TEST") in ("TEST", 1)
    levels = last(rule, "min_level", 0) <= 0 <= last(rule, "max_level", 0)
    return bool(is_test and levels and not rule.get("stage"))


def translate(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    """Return the steps that do the same as a layer of one input, one after another.

    Parameters
    ----------
    layer : Layer
        Not a Concat.
    weights : sequence of torch.Tensor
        As the file has them.
    channels : int
        Of its input.
    ndim : int
        Number of spatial axes.

    Raises
    ------
    Refused
        If there are none.
    """
    if layer.kind not in _TRANSLATORS:
        raise Refused(f"the layer {layer.name} of type {layer.kind}")
    return _TRANSLATORS[layer.kind](layer, weights, channels, ndim)


def is_known(kind: str) -> bool:
    """Whether `translate` knows a type of layer."""
    return kind in _TRANSLATORS


def _conv(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    param = layer.settings("convolution_param")
    outputs, groups = _whole(param, "num_output"), _whole(param, "group", 1)
    kernel = axes(param, "kernel_size", ndim)
    is_conv = layer.kind == "Convolution"
    pair = (outputs, channels // groups) if is_conv else (channels, outputs // groups)
    shapes: dict[str, tuple[int, ...]] = {"weight": (*pair, *kernel)}
    if last(param, "bias_term", True):
        shapes["bias"] = (outputs,)
    settings = {
        "in_channels": channels,
        "out_channels": outputs,
        "kernel_size": list(kernel),
        "stride": list(axes(param, "stride", ndim, 1)),
        "padding": list(axes(param, "pad", ndim, 0)),
        "dilation": list(axes(param, "dilation", ndim, 1)),
        "groups": groups,
        "bias": "bias" in shapes,
    }
    _needs_channel_axis(layer, param)
    kind = "conv" if is_conv else "transposed"
    return [(kind, settings, _shaped(layer, weights, shapes))]


def _pool(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    """Round sizes up and count the padding in averages, as Caffe does."""
    param = layer.settings("pooling_param")
    kind = {"MAX": "max_pool", "AVE": "average_pool", 0: "max_pool", 1: "average_pool"}
    method = last(param, "pool", "MAX")
    if method not in kind or last(param, "global_pooling", False):
        raise Refused(f"the pooling {layer.name} of another kind than MAX and AVE")
    _needs_channel_axis(layer, param)
    settings = {
        "kernel_size": list(axes(param, "kernel_size", ndim)),
        "stride": list(axes(param, "stride", ndim, 1)),
        "padding": list(axes(param, "pad", ndim, 0)),
        "ceil_mode": last(param, "round_mode", "CEIL") in ("CEIL", 0),
    }
    return [(kind[method], settings, {})]


def _relu(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    slope = float(last(layer.settings("relu_param"), "negative_slope", 0))
    settings = {"name": "leaky_relu", "slope": slope} if slope else {"name": "relu"}
    return [("activation", settings, {})]


def _softmax(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    _needs_channel_axis(layer, layer.settings("softmax_param"))
    return [("activation", {"name": "softmax"}, {})]


def _sigmoid(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    return [("activation", {"name": "sigmoid"}, {})]


def _nothing(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    return []


def _batch_norm(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    """Divide the stored sums by the third blob; affine numbers come in a Scale."""
    param = layer.settings("batch_norm_param")
    if not last(param, "use_global_stats", True):
        raise Refused(f"the batch norm {layer.name} with statistics of the image")
    shapes = {"mean": (channels,), "var": (channels,), "factor": (1,)}
    found = _shaped(layer, weights, shapes)
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


def _scale(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    param = layer.settings("scale_param")
    _needs_channel_axis(layer, param)
    if last(param, "num_axes", 1) != 1:
        raise Refused(f"the layer {layer.name} that scales more than channels")
    shapes = {"mul": (channels,)}
    if last(param, "bias_term", False):
        shapes["add"] = (channels,)
    found = _shaped(layer, weights, shapes)
    return [_constant(kind, value) for kind, value in found.items()]


def _value_transformation(
    layer: Layer, weights: Sequence[torch.Tensor], channels: int, ndim: int
) -> list[Step]:
    """Add an offset, then multiply; one number for all channels or one for each."""
    param = layer.settings("value_transformation_param")
    steps = []
    for name, kind in (("offset", "add"), ("scale", "mul")):
        values = last(param, name, {}).get("v", ())
        if values:
            steps.append(_constant(kind, torch.tensor(list(map(float, values)))))
    return steps


def _constant(kind: str, value: torch.Tensor) -> Step:
    settings = {"operation": kind, "channels": value.numel()}
    return "constant", settings, {"value": value}


def axes(
    param: Message, name: str, ndim: int, default: int | None = None
) -> tuple[int, ...]:
    """Return one number for each axis, given once for all or for each.

    In 2-D the two may come as ``kernel_h`` and ``kernel_w``.

    Raises
    ------
    Refused
        If there is another number of them, or no whole numbers.
    """
    short = name.removesuffix("_size")
    sides = [last(param, f"{short}_{side}", None) for side in "hw"]
    if ndim == 2 and None not in sides:
        values = sides
    else:
        values = param.get(name) or [default]
    if len(values) not in (1, ndim):
        raise Refused(f"{len(values)} numbers {name} for {ndim} axes")
    return tuple(_checked(v, name) for v in values * (ndim if len(values) == 1 else 1))


def _whole(param: Message, name: str, default: int | None = None) -> int:
    value = _checked(last(param, name, default), name)
    if not value:
        raise Refused(f"{name} 0")
    return value


def _checked(value: Any, name: str) -> int:
    """Return a whole number of sane size."""
    if type(value) is not int or not 0 <= value <= 65536:
        raise Refused(f"{name} {value}")
    return value


def _needs_channel_axis(layer: Layer, param: Message) -> None:
    if last(param, "axis", 1) != 1:
        raise Refused(f"the layer {layer.name} over another axis than the channels")


def _shaped(
    layer: Layer,
    weights: Sequence[torch.Tensor],
    shapes: Mapping[str, tuple[int, ...]],
) -> Tensors:
    """Name the weights of a layer; vectors may have axes of length 1 before them."""
    if len(weights) != len(shapes):
        raise Refused(f"{len(weights)} weights for the layer {layer.name}")
    named: Tensors = {}
    for tensor, (name, shape) in zip(weights, shapes.items(), strict=True):
        flat = tensor.flatten() if len(shape) == 1 else tensor
        if tuple(flat.shape) != shape:
            raise Refused(
                f"a {name} of shape {tuple(tensor.shape)} for the layer {layer.name}, "
                f"which needs {shape}"
            )
        named[name] = flat
    return named


_TRANSLATORS: dict[
    str, Callable[[Layer, Sequence[torch.Tensor], int, int], list[Step]]
] = {
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
