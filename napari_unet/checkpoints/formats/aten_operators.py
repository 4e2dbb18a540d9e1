"""ATen operators as steps of a program, for torch.export and TorchScript alike.

`call` is given what a file says: the name of an operator and its arguments, which are
images (`Value`), weights (tensors) and numbers; what it does not know is refused by
name. Nothing here runs an operator because a file names it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.formats import aten_layers as layers
from napari_unet.checkpoints.formats import aten_numbers as numbers
from napari_unet.checkpoints.formats import aten_pools as pools
from napari_unet.checkpoints.formats import aten_shapes as shapes
from napari_unet.checkpoints.formats.aten_numbers import number, plain
from napari_unet.checkpoints.formats.aten_shapes import plain_or_seen
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Operator = Callable[..., Any]

_FLOATS = (6, torch.float32)
"""What TorchScript (the number of c10::ScalarType) and torch.export call float32."""


def call(
    tape: Tape, name: str, args: Sequence[Any], settings: Mapping[str, Any]
) -> Any:
    """Carry out an operator on a tape.

    Parameters
    ----------
    tape : Tape
        Gets the steps.
    name : str
        Without namespace and overload, such as ``"conv2d"`` or ``"relu_"``.
    args : sequence
        In the order of the schema, without those left to their defaults at the end.
    settings : mapping
        Those that can only be given by name.

    Returns
    -------
    object
        As ATen returns: an image, a number, or a tuple for operators with several
        outputs, of which only the first is known.

    Raises
    ------
    Refused
        If the operator, or this use of it, is not carried out.
    """
    operate = OPERATORS.get(name.removesuffix("_"))
    if operate is None:
        raise Refused(f"the operator {name[:80]}")
    read = [_newest(tape, a) for a in args]
    given = {key: _newest(tape, value) for key, value in settings.items()}
    in_place = name.endswith("_") and operate is not _same
    if in_place and isinstance(read[0], torch.Tensor):
        raise Refused("weights that are changed")
    try:
        result = operate(tape, *read, **given)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise Refused(f"the operator {name} with such arguments ({error})") from None
    if in_place and isinstance(read[0], Value):
        tape.overwrite(read[0], result)
    return result


@dataclass(frozen=True, eq=False)
class _Positive:
    """Where an image is above 0, as PReLU asks when it is taken apart."""

    image: Value


def _newest(tape: Tape, value: Any) -> Any:
    """Return an argument as it is by now; lists hold no lists."""
    if isinstance(value, (list, tuple)):
        if any(isinstance(v, (list, tuple)) for v in value):
            raise Refused("lists in lists")
        return [_newest(tape, v) for v in value]
    return tape.newest(value) if isinstance(value, Value) else value


def _activation(name: str) -> Operator:
    return lambda tape, x: _pointwise(tape, x, name)


def _pointwise(tape: Tape, x: Any, name: str, slope: Any = None) -> Value:
    settings: dict[str, Any] = {"name": name}
    if slope is not None:
        settings["slope"] = float(number(slope))
    image = plain_or_seen(x)
    done = tape.add("activation", [image], settings)
    return replace(done, dropped=image.dropped, merged=image.merged)


def _leaky_relu(tape: Tape, x: Any, slope: Any = 0.01) -> Value:
    return _pointwise(tape, x, "leaky_relu", slope)


def _rrelu(
    tape: Tape, x: Any, low: float = 1 / 8, high: float = 1 / 3, training: bool = False
) -> Value:
    if training:
        raise Refused("a random slope")
    return _pointwise(tape, x, "leaky_relu", (low + high) / 2)


def _elu(tape: Tape, x: Any, alpha: Any = 1, scale: Any = 1, inner: Any = 1) -> Value:
    if scale != 1 or inner != 1:
        raise Refused("a scaled ELU")
    return _pointwise(tape, x, "elu", alpha)


def _celu(tape: Tape, x: Any, alpha: Any = 1) -> Value:
    return _pointwise(tape, x, "celu", alpha)


def _gelu(tape: Tape, x: Any, approximate: str = "none") -> Value:
    return _pointwise(tape, x, {"none": "gelu", "tanh": "gelu_tanh"}[approximate])


def _softplus(tape: Tape, x: Any, beta: Any = 1, threshold: Any = 20) -> Value:
    if (beta, threshold) != (1, 20):
        raise Refused("a softplus of another shape")
    return _pointwise(tape, x, "softplus")


def _clip(tape: Tape, x: Any, low: Any = None, high: Any = None) -> Value:
    low, high = number(low), number(high)
    settings = {
        "low": "-inf" if low is None else str(float(low)),
        "high": "inf" if high is None else str(float(high)),
    }
    image = plain_or_seen(x)
    done = tape.add("clip", [image], settings)
    return replace(done, dropped=image.dropped, merged=image.merged)


def _clip_below(tape: Tape, x: Any, low: Any) -> Value:
    return _clip(tape, x, low)


def _relu6(tape: Tape, x: Any) -> Value:
    return _clip(tape, x, 0, 6)


def _hardtanh(tape: Tape, x: Any, low: Any = -1, high: Any = 1) -> Value:
    return _clip(tape, x, low, high)


def _softmax(name: str) -> Operator:
    def operate(tape: Tape, x: Any, dim: int, dtype: Any = None) -> Value:
        # the fourth argument is a dtype, or whether half becomes float
        if dim not in (1, -tape.ndim - 1) or dtype not in (None, False, torch.float32):
            raise Refused("a softmax over space")
        return _pointwise(tape, plain(x), name)

    return operate


def _prelu(tape: Tape, x: Any, weight: Any) -> Value:
    slopes = layers.known(weight).flatten()
    return tape.add("prelu", [plain(x)], {"num_parameters": len(slopes)}, weight=slopes)


def _positive(tape: Tape, x: Any, threshold: Any) -> _Positive:
    del tape
    if number(threshold) != 0:
        raise Refused("a comparison")
    return _Positive(plain(x))


def _where(tape: Tape, condition: Any, x: Any, other: Any) -> Value:
    """Carry out what becomes of PReLU: x where it is above 0, else weight * x."""
    if not isinstance(condition, _Positive) or condition.image.number != x.number:
        raise Refused("a choice by the values of the image")
    slopes = tape.slopes(plain(other), plain(x))
    if slopes is None:
        raise Refused("a choice by the values of the image")
    return _prelu(tape, x, slopes)


def _same(tape: Tape, x: Any, *_: Any, **__: Any) -> Any:
    """Return the input itself: a view, or dropout when not training."""
    del tape
    return x


def _dropout(tape: Tape, x: Any, p: float, training: bool = False) -> Any:
    del tape, p
    if training:
        raise Refused("dropout that is still training")
    return x


def _copy(tape: Tape, x: Any, memory_format: Any = None) -> Any:
    del memory_format
    if not isinstance(x, Value):
        return x
    done = tape.add("identity", [x])
    return replace(done, dropped=x.dropped, merged=x.merged)


def _to(tape: Tape, x: Any, *args: Any, dtype: Any = None, **_: Any) -> Any:
    """Carry out ``to``: images stay in float32, numbers may become whole."""
    kinds = [
        a
        for a in (*args, dtype)
        if isinstance(a, (int, torch.dtype)) and not isinstance(a, bool)
    ]
    if all(kind in _FLOATS for kind in kinds):
        return x
    if isinstance(x, Value) or (number(x) is x and isinstance(x, torch.Tensor)):
        raise Refused("another precision than float32")
    return numbers.truncate(tape, x)


def _nothing(tape: Tape, *_: Any, **__: Any) -> None:
    """Leave out a check of sizes, or where a tensor lies."""
    del tape


def _first(operate: Operator) -> Operator:
    """Make an operator with several outputs, of which only the first is known."""
    return lambda tape, *args, **settings: (operate(tape, *args, **settings),)


_batch_norm_eval: Operator = lambda tape, x, w, b, mean, var, momentum, eps: (  # noqa: E731
    layers.batch_norm(tape, x, w, b, mean, var, False, momentum, eps)
)

OPERATORS: dict[str, Operator] = {
    **{
        name: _activation(name)
        for name in ("relu", "selu", "silu", "mish", "sigmoid", "tanh", "erf")
    },
    **{"hardsigmoid": _activation("hard_sigmoid")},
    **{"hardswish": _activation("hard_swish"), "gelu": _gelu, "softplus": _softplus},
    **{"leaky_relu": _leaky_relu, "rrelu": _rrelu, "elu": _elu, "celu": _celu},
    **{"relu6": _relu6, "hardtanh": _hardtanh, "clamp": _clip, "clip": _clip},
    **{"clamp_min": _clip_below, "prelu": _prelu, "_prelu_kernel": _prelu},
    **{"softmax": _softmax("softmax"), "_softmax": _softmax("softmax")},
    **{"log_softmax": _softmax("log_softmax")},
    **{"_log_softmax": _softmax("log_softmax"), "gt": _positive, "where": _where},
    **{"convolution": layers.convolution, "_convolution": layers.convolution},
    **{"_convolution_mode": layers.conv, "linear": layers.linear},
    **{f"conv{n}d": layers.conv for n in (2, 3)},
    **{f"conv_transpose{n}d": layers.conv_transpose for n in (2, 3)},
    **{"batch_norm": layers.batch_norm, "instance_norm": layers.instance_norm},
    **{"group_norm": layers.group_norm},
    **{"native_batch_norm": _first(layers.batch_norm)},
    **{"cudnn_batch_norm": _first(layers.batch_norm)},
    **{"_native_batch_norm_legit": _first(layers.norm_of_images)},
    **{"_native_batch_norm_legit_no_training": _first(_batch_norm_eval)},
    **{"native_group_norm": _first(layers.native_group_norm)},
    **{f"max_pool{n}d": pools.max_pool for n in (2, 3)},
    **{f"max_pool{n}d_with_indices": _first(pools.max_pool) for n in (2, 3)},
    **{f"avg_pool{n}d": pools.average_pool for n in (2, 3)},
    **{f"adaptive_avg_pool{n}d": pools.adaptive("mean") for n in (2, 3)},
    **{f"_adaptive_avg_pool{n}d": pools.adaptive("mean") for n in (2, 3)},
    **{f"adaptive_max_pool{n}d": _first(pools.adaptive("maximum")) for n in (2, 3)},
    **{"mean": pools.over_space("mean"), "amax": pools.over_space("maximum")},
    **{f"upsample_nearest{n}d": pools.upsample_nearest for n in (2, 3)},
    **{"upsample_bilinear2d": pools.upsample_linear},
    **{"upsample_trilinear3d": pools.upsample_linear},
    **{"pad": pools.pad, "constant_pad_nd": pools.constant_pad},
    **{f"reflection_pad{n}d": pools.padded("reflect") for n in (2, 3)},
    **{f"replication_pad{n}d": pools.padded("replicate") for n in (2, 3)},
    **{kind: numbers.arithmetic(kind) for kind in ("add", "sub", "mul", "div")},
    **{"truediv": numbers.arithmetic("div"), "rsub": numbers.reverse_subtract},
    **{"floor_divide": numbers.floor_divide, "floordiv": numbers.floor_divide},
    **{
        "neg": numbers.negative,
        "cat": shapes.concatenate,
        "concat": shapes.concatenate,
    },
    **{"size": shapes.size, "sym_size": shapes.size, "NumToTensor": _same},
    **{"Int": numbers.truncate, "trunc": numbers.truncate, "ScalarImplicit": _same},
    **{"view": shapes.view, "reshape": shapes.view, "_unsafe_view": shapes.view},
    **{"flatten": shapes.flatten, "squeeze": shapes.squeeze, "repeat": shapes.repeat},
    **{"unsqueeze": shapes.unsqueeze, "expand": shapes.expand},
    **{"permute": shapes.permute, "t": shapes.permute},
    **{"mm": layers.matrix, "addmm": layers.added_matrix},
    **{"slice": shapes.cut, "narrow": shapes.narrow, "chunk": shapes.chunk},
    **{"split": shapes.split, "split_with_sizes": shapes.split},
    **dict.fromkeys(
        ("contiguous", "detach", "alias", "lift_fresh_copy", "lift"), _same
    ),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), _dropout),
    **{"clone": _copy, "to": _to, "_to_copy": _to, "type_as": _same},
    **dict.fromkeys(
        ("_assert_scalar", "_assert_tensor_metadata", "device"),
        _nothing,
    ),
}
"""By name without the underscore that marks an operation in place."""
