"""ONNX operators as steps of a program (operator specification, opset 7 to 23).

An operator gets what it reads: images (`Value`), known tensors (`Known`), or None where
an input is left out. Layers are those of `aten_layers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats import aten_layers as layers
from napari_unet.checkpoints.formats import aten_numbers as numbers
from napari_unet.checkpoints.formats import aten_pools as pools
from napari_unet.checkpoints.formats import aten_shapes as shapes
from napari_unet.checkpoints.formats import onnx_layers as own
from napari_unet.checkpoints.formats import onnx_layouts as layouts
from napari_unet.checkpoints.formats.aten_operators import call
from napari_unet.checkpoints.formats.onnx_layers import Grouped, tensor
from napari_unet.checkpoints.formats.onnx_numbers import NUMBERS, Known, work_out
from napari_unet.checkpoints.formats.onnx_resize import resize, upsample
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value, constant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Attributes = dict[str, Any]
    Operator = Callable[..., Any]

_ACTIVATIONS = {
    **{"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Selu": "selu"},
    **{"Softplus": "softplus", "Mish": "mish", "HardSwish": "hardswish"},
    "Erf": "erf",
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
    is_last = any(isinstance(i, layouts.Last) for i in inputs)
    if is_last and operator not in ("Transpose", "Shape"):
        return layouts.turned(tape, operator, attributes, inputs, carry_out)
    operate = OPERATORS.get(operator)
    if operate is None:
        raise Refused(f"the operator {operator[:80]}")
    return operate(tape, attributes, *inputs)


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
        pair = [v if isinstance(v, Value) else tensor(v) for v in (a, b)]
        return call(tape, kind, pair, {})

    return operate


def _hard_sigmoid(tape: Tape, attributes: Attributes, x: Any) -> Any:
    """Carry out max(0, min(1, alpha * x + beta))."""
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if (round(alpha, 5), beta) == (round(1 / 6, 5), 0.5):
        return call(tape, "hardsigmoid", [x], {})
    return call(
        tape,
        "clamp",
        [call(tape, "add", [call(tape, "mul", [x, alpha], {}), beta], {}), 0, 1],
        {},
    )


def _clip(
    tape: Tape, attributes: Attributes, x: Any, low: Any = None, high: Any = None
) -> Any:
    ends = [
        attributes.get(name) if value is None else tensor(value).item()
        for name, value in (("min", low), ("max", high))
    ]
    return call(tape, "clamp", [x, *ends], {})


def _prelu(tape: Tape, attributes: Attributes, x: Any, slope: Any) -> Any:
    return call(tape, "prelu", [x, tensor(slope)], {})


def _concat(tape: Tape, attributes: Attributes, *parts: Any) -> Any:
    return shapes.concatenate(tape, parts, attributes["axis"])


def _same(tape: Tape, attributes: Attributes, x: Any, *_: Any) -> Any:
    return x


def _dropout(
    tape: Tape, attributes: Attributes, x: Any, ratio: Any = None, training: Any = None
) -> Any:
    if training is not None and bool(tensor(training).any()):
        raise Refused("dropout that is still training")
    return x


def _expand(tape: Tape, attributes: Attributes, x: Any, shape: Any) -> Any:
    return shapes.expand(tape, x, list(shape.values))


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
        return shapes.view(
            tape, x.image, [_kept(x.image, n, w) for n, w in enumerate(wanted)]
        )
    if len(wanted) == 3 and len(x.shape) == tape.ndim + 2:
        groups = numbers.whole(wanted[1])
        if groups > 0 and x.channels % groups == 0:
            return Grouped(x, groups)
    return shapes.view(tape, x, [_kept(x, n, w) for n, w in enumerate(wanted)])


def _kept(x: Value, axis: int, length: Any) -> Any:
    """Return a length, where 0 stands for the one that is there."""
    return x.shape[axis] if constant(length) == 0 else length


def _flatten(tape: Tape, attributes: Attributes, x: Any) -> Any:
    return shapes.flatten(tape, x, attributes.get("axis", 1))


def _axes(turn: Operator) -> Operator:
    """Make ``Unsqueeze`` or ``Squeeze`` of an image, one axis after another."""

    def operate(tape: Tape, attributes: Attributes, x: Any, axes: Any = None) -> Any:
        given = attributes.get("axes") if axes is None else tensor(axes).tolist()
        if given is None:
            raise Refused("axes that are not named")
        for axis in sorted(given, reverse=turn is shapes.squeeze):
            x = turn(tape, x, axis)
        return x

    return operate


def _gemm(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any = None
) -> Any:
    factors = {attributes.get(name, 1) for name in ("alpha", "beta")}
    if factors != {1} or attributes.get("transA"):
        raise Refused("a linear layer with factors")
    known = tensor(weight)
    known = known if attributes.get("transB") else known.t()
    return layers.linear(tape, x, known, own.maybe(bias))


def _matmul(tape: Tape, attributes: Attributes, x: Any, weight: Any) -> Any:
    return layers.matrix(tape, x, tensor(weight))


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
    fill = attributes.get("value", 0.0) if value is None else tensor(value).item()
    if axes is not None or len(given) != 2 * (tape.ndim + 2):
        raise Refused("padding of some axes only")
    before, after = given[: tape.ndim + 2], given[tape.ndim + 2 :]
    sides = [n for pair in list(zip(before, after, strict=True))[::-1] for n in pair]
    return pools.pad(tape, x, sides, mode, fill)


def _slice(tape: Tape, attributes: Attributes, x: Any, *known: Any) -> Any:
    """Cut along each axis in turn."""
    given = [list(k.values) if k is not None else None for k in known]
    first, last, along, pace = (*given, None, None, None, None)[:4]
    starts: list[Any] = first or attributes["starts"]
    ends: list[Any] = last or attributes["ends"]
    axes = along or attributes.get("axes") or range(len(starts))
    steps = pace or [1] * len(starts)
    for a, b, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = shapes.cut(tape, x, axis, a, b, numbers.whole(step))
    return x


def _split(tape: Tape, attributes: Attributes, x: Any, parts: Any = None) -> list[Any]:
    given = attributes.get("split") if parts is None else tensor(parts).tolist()
    axis = attributes.get("axis", 0)
    if given is not None:
        return shapes.split(tape, x, list(given), axis)
    if "num_outputs" not in attributes:
        raise Refused("a division without sizes")
    return shapes.chunk(tape, x, attributes["num_outputs"], axis)


def _negative(tape: Tape, attributes: Attributes, x: Any) -> Any:
    return numbers.negative(tape, x)


OPERATORS: dict[str, Operator] = {
    **{name: _activation(aten) for name, aten in _ACTIVATIONS.items()},
    **{name: _sloped(*pair) for name, pair in _SLOPES.items()},
    **{name: _sum(kind) for name, kind in _SUMS.items()},
    **{"Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "Clip": _clip, "PRelu": _prelu},
    **{"Softmax": _softmax("softmax"), "LogSoftmax": _softmax("log_softmax")},
    **{
        "Conv": own.conv,
        "ConvTranspose": own.transposed,
        "GroupNormalization": own.group_norm,
    },
    **{
        "BatchNormalization": own.batch_norm,
        "InstanceNormalization": own.instance_norm,
    },
    **{"MaxPool": own.max_pool, "AveragePool": own.average_pool},
    **{
        "GlobalAveragePool": own.over_all("mean"),
        "GlobalMaxPool": own.over_all("maximum"),
    },
    **{"ReduceMean": own.reduced("mean"), "ReduceMax": own.reduced("maximum")},
    **{"Concat": _concat, "Split": _split, "Slice": _slice, "Pad": _pad},
    **{"Resize": resize, "Upsample": upsample, "Reshape": _reshape, "Shape": _shape},
    **{"Transpose": layouts.transpose, "Identity": _same, "Dropout": _dropout},
    **{"Flatten": _flatten, "Gemm": _gemm, "MatMul": _matmul},
    **{"Unsqueeze": _axes(shapes.unsqueeze), "Squeeze": _axes(shapes.squeeze)},
    **{"Cast": _cast, "CastLike": _same, "Expand": _expand, "Neg": _negative},
}
"""By ``op_type``."""
