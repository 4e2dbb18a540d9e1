"""ONNX operators as steps of a program (operator specification, opset 7 to 23).

An operator gets what it reads: images (`Value`), known tensors (`Known`), or None where
an input is left out. Layers are those of `aten_layers`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats import aten_layers as layers
from napari_unet.checkpoints.formats import aten_sizes as sizes
from napari_unet.checkpoints.formats import onnx_layouts as layouts
from napari_unet.checkpoints.formats.aten_operators import call
from napari_unet.checkpoints.formats.onnx_numbers import NUMBERS, Known, work_out
from napari_unet.checkpoints.formats.onnx_padding import around, beyond, evened
from napari_unet.checkpoints.formats.onnx_resize import resize, upsample
from napari_unet.checkpoints.formats.tape import Refused, Tape, Value, constant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Attributes = dict[str, Any]
    Operator = Callable[..., Any]

_ACTIVATIONS = {
    **{"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Selu": "selu"},
    **{"Softplus": "softplus", "Mish": "mish", "HardSwish": "hardswish"},
}
_SLOPES = {"LeakyRelu": ("leaky_relu", 0.01), "Elu": ("elu", 1.0), "Celu": ("celu", 1)}
_SUMS = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}


def carry_out(
    tape: Tape, operator: str, attributes: Attributes, inputs: Sequence[Any]
) -> Any:
    """Carry out an operator.

    Parameters
    ----------
    tape : Tape
        Gets the steps.
    operator : str
        Its ``op_type``.
    attributes : dict
        As the file gives them.
    inputs : sequence of Value, Known or None
        What it reads.

    Returns
    -------
    Value, Known or list
        What it gives; a list for operators with several outputs.

    Raises
    ------
    Refused
        If the operator, or this use of it, is not carried out.
    """
    if operator in NUMBERS and all(i is None or isinstance(i, Known) for i in inputs):
        return work_out(operator, attributes, inputs)
    if any(isinstance(i, layouts.Last) for i in inputs):
        return layouts.turned(tape, operator, attributes, inputs, carry_out)
    operate = OPERATORS.get(operator)
    if operate is None:
        raise Refused(f"the operator {operator[:80]}")
    return operate(tape, attributes, *inputs)


@dataclass(frozen=True, eq=False)
class Grouped:
    """An image seen as (N, groups, rest), as a group norm is written with others."""

    image: Value
    groups: int


def _tensor(value: Any) -> torch.Tensor:
    """Return a known tensor that does not depend on the size of the image."""
    fixed = value.fixed if isinstance(value, Known) else None
    if fixed is None:
        raise Refused("weights that are computed")
    return torch.from_numpy(np.array(fixed))


def _maybe(value: Any) -> torch.Tensor | None:
    return None if value is None else _tensor(value)


def _activation(name: str) -> Operator:
    return lambda tape, attributes, x: call(tape, name, [x], {})


def _sloped(name: str, slope: float) -> Operator:
    return lambda tape, attributes, x: call(
        tape, name, [x, attributes.get("alpha", slope)], {}
    )


def _gelu(tape: Tape, attributes: Attributes, x: Any) -> Any:
    kind = attributes.get("approximate", b"none").decode()
    return call(tape, "gelu", [x], {"approximate": kind})


def _softmax(name: str) -> Operator:
    return lambda tape, attributes, x: call(
        tape, name, [x, attributes.get("axis", -1)], {}
    )


def _sum(kind: str) -> Operator:
    def operate(tape: Tape, attributes: Attributes, a: Any, b: Any) -> Any:
        pair = [v if isinstance(v, Value) else _tensor(v) for v in (a, b)]
        return call(tape, kind, pair, {})

    return operate


def _hard_sigmoid(tape: Tape, attributes: Attributes, x: Any) -> Any:
    """Carry out max(0, min(1, alpha * x + beta))."""
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if (round(alpha, 5), beta) == (round(1 / 6, 5), 0.5):
        return call(tape, "hardsigmoid", [x], {})
    return call(
        tape, "clamp", [call(tape, "add", [call(tape, "mul", [x, alpha], {}), beta], {}), 0, 1], {}
    )


def _clip(
    tape: Tape, attributes: Attributes, x: Any, low: Any = None, high: Any = None
) -> Any:
    ends = [
        attributes.get(name) if value is None else _tensor(value).item()
        for name, value in (("min", low), ("max", high))
    ]
    return call(tape, "clamp", [x, *ends], {})


def _conv(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any = None
) -> Value:
    kernel = _tensor(weight)
    sides = around(tape, attributes, x, kernel.shape[2:])
    x, padding = evened(tape, x, sides)
    stride, dilation = attributes.get("strides", 1), attributes.get("dilations", 1)
    groups = attributes.get("group", 1)
    return layers.conv(
        tape, x, kernel, _maybe(bias), stride, padding, dilation, groups
    )


def _transposed(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any = None
) -> Value:
    if "output_shape" in attributes:
        raise Refused("a transposed convolution to a fixed size")
    kernel = _tensor(weight)
    before, after = beyond(tape, attributes, kernel.shape[2:])
    even = before == after
    done = layers.conv_transpose(
        tape,
        x,
        kernel,
        _maybe(bias),
        attributes.get("strides", 1),
        before if even else 0,
        attributes.get("output_padding", 0),
        attributes.get("group", 1),
        attributes.get("dilations", 1),
    )
    if even:
        return done
    settings = {"before": [-n for n in before], "after": [-n for n in after]}
    return tape.add("pad", [done], settings)


def _batch_norm(tape: Tape, attributes: Attributes, x: Any, *known: Any) -> Value:
    weights = [_tensor(k) for k in known]
    training, eps = attributes.get("training_mode", 0), attributes.get("epsilon", 1e-5)
    return layers.batch_norm(tape, x, *weights, bool(training), 0, eps)


def _instance_norm(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any
) -> Any:
    eps, affine = attributes.get("epsilon", 1e-5), (_tensor(weight), _tensor(bias))
    if not isinstance(x, Grouped):
        return layers.instance_norm(tape, x, *affine, None, None, True, 0, eps)
    times = x.image.channels // x.groups
    each = [t.repeat_interleave(times) for t in affine]
    return replace(x, image=layers.group_norm(tape, x.image, x.groups, *each, eps))


def _group_norm(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any
) -> Value:
    eps, groups = attributes.get("epsilon", 1e-5), attributes["num_groups"]
    return layers.group_norm(tape, x, groups, _tensor(weight), _tensor(bias), eps)


def _max_pool(tape: Tape, attributes: Attributes, x: Any) -> list[Value]:
    kernel, ceil = attributes["kernel_shape"], bool(attributes.get("ceil_mode", 0))
    before, after = around(tape, attributes, x, kernel)
    if before != after and ceil:
        raise Refused("a pooling padded unevenly that rounds up")
    x, padding = evened(tape, x, (before, after), "-inf")
    stride, dilation = attributes.get("strides", 1), attributes.get("dilations", 1)
    return [layers.max_pool(tape, x, kernel, stride, padding, dilation, ceil)]


def _average_pool(tape: Tape, attributes: Attributes, x: Any) -> Value:
    if set(attributes.get("dilations", [1])) != {1}:
        raise Refused("a dilated average pooling")
    kernel, ceil = attributes["kernel_shape"], bool(attributes.get("ceil_mode", 0))
    counts = bool(attributes.get("count_include_pad", 0))
    before, after = around(tape, attributes, x, kernel)
    if before != after and (ceil or not counts):
        raise Refused("an average pooling padded unevenly")
    x, padding = evened(tape, x, (before, after))
    stride = attributes.get("strides", 1)
    return layers.average_pool(tape, x, kernel, stride, padding, ceil, counts)


def _global(kind: str) -> Operator:
    return lambda tape, attributes, x: layers.adaptive(kind)(tape, x, 1)


def _reduced(kind: str) -> Operator:
    def operate(tape: Tape, attributes: Attributes, x: Any, axes: Any = None) -> Value:
        given = attributes.get("axes") if axes is None else _tensor(axes).tolist()
        keep = bool(attributes.get("keepdims", 1))
        return layers.over_space(kind)(tape, x, given, keep)

    return operate


def _prelu(tape: Tape, attributes: Attributes, x: Any, slope: Any) -> Any:
    return call(tape, "prelu", [x, _tensor(slope)], {})


def _concat(tape: Tape, attributes: Attributes, *parts: Any) -> Value:
    return sizes.concatenate(tape, parts, attributes["axis"])


def _same(tape: Tape, attributes: Attributes, x: Any, *_: Any) -> Any:
    return x


def _cast(tape: Tape, attributes: Attributes, x: Any) -> Any:
    if attributes["to"] != 1:
        raise Refused("another precision than float32")
    return x


def _shape(tape: Tape, attributes: Attributes, x: Any) -> Known:
    first, last = attributes.get("start", 0), attributes.get("end")
    return Known(layouts.shape(x).values[first:last])


def _reshape(tape: Tape, attributes: Attributes, x: Any, shape: Any) -> Any:
    wanted = list(shape.values)
    if isinstance(x, Grouped):
        return sizes.view(tape, x.image, [_kept(x.image, n, w) for n, w in enumerate(wanted)])
    if len(wanted) == 3 and len(x.shape) == tape.ndim + 2:
        groups = sizes.whole(wanted[1])
        if groups > 0 and x.channels % groups == 0:
            return Grouped(x, groups)
    return sizes.view(tape, x, [_kept(x, n, w) for n, w in enumerate(wanted)])


def _kept(x: Value, axis: int, length: Any) -> Any:
    """Return a length, where 0 stands for the one that is there."""
    return x.shape[axis] if constant(length) == 0 else length


def _pad(
    tape: Tape,
    attributes: Attributes,
    x: Any,
    pads: Any = None,
    value: Any = None,
    axes: Any = None,
) -> Value:
    mode = attributes.get("mode", b"constant").decode()
    mode = {"edge": "replicate"}.get(mode, mode)
    given = list(pads.values) if pads is not None else attributes["pads"]
    fill = attributes.get("value", 0.0) if value is None else _tensor(value).item()
    if axes is not None or len(given) != 2 * (tape.ndim + 2):
        raise Refused("padding of some axes only")
    before, after = given[: tape.ndim + 2], given[tape.ndim + 2 :]
    sides = [n for pair in list(zip(before, after, strict=True))[::-1] for n in pair]
    return layers.pad(tape, x, sides, mode, fill)


def _slice(tape: Tape, attributes: Attributes, x: Any, *known: Any) -> Any:
    """Cut along each axis in turn."""
    given = [list(k.values) if k is not None else None for k in known]
    starts, ends, axes, steps = (*given, None, None, None, None)[:4]
    starts, ends = starts or attributes["starts"], ends or attributes["ends"]
    axes = axes or attributes.get("axes") or range(len(starts))
    for a, b, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        x = sizes.cut(tape, x, axis, a, b, sizes.whole(step))
    return x


def _split(tape: Tape, attributes: Attributes, x: Any, parts: Any = None) -> list[Any]:
    given = attributes.get("split") if parts is None else _tensor(parts).tolist()
    if given is None:
        raise Refused("a division without sizes")
    return sizes.split(tape, x, list(given), attributes.get("axis", 0))


def _negative(tape: Tape, attributes: Attributes, x: Any) -> Any:
    return sizes.negative(tape, x)


OPERATORS: dict[str, Operator] = {
    **{name: _activation(aten) for name, aten in _ACTIVATIONS.items()},
    **{name: _sloped(*pair) for name, pair in _SLOPES.items()},
    **{name: _sum(kind) for name, kind in _SUMS.items()},
    **{"Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "Clip": _clip, "PRelu": _prelu},
    **{"Softmax": _softmax("softmax"), "LogSoftmax": _softmax("log_softmax")},
    **{"Conv": _conv, "ConvTranspose": _transposed, "GroupNormalization": _group_norm},
    **{"BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm},
    **{"MaxPool": _max_pool, "AveragePool": _average_pool},
    **{"GlobalAveragePool": _global("mean"), "GlobalMaxPool": _global("maximum")},
    **{"ReduceMean": _reduced("mean"), "ReduceMax": _reduced("maximum")},
    **{"Concat": _concat, "Split": _split, "Slice": _slice, "Pad": _pad},
    **{"Resize": resize, "Upsample": upsample, "Reshape": _reshape, "Shape": _shape},
    **{"Transpose": layouts.transpose, "Identity": _same, "Dropout": _same},
    **{"Cast": _cast, "Neg": _negative},
}
"""By ``op_type``."""
