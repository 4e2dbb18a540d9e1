"""Images with their channels last, as exporters of Keras write them.

Transpositions that lead to another layout and back cancel. What lies between them, one
pixel at a time or along channels, is carried out on channels first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.checkpoints.formats.onnx_numbers import Known
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Attributes = dict[str, Any]

_POINTWISE = frozenset(
    "Relu Sigmoid Tanh Selu Softplus Mish HardSwish LeakyRelu Elu Celu HardSigmoid "
    "Gelu Clip Add Sub Mul Div Identity Dropout Cast Neg".split()
)
_ALONG = frozenset(("Concat", "Softmax", "LogSoftmax", "Split"))


@dataclass(frozen=True, eq=False)
class Last:
    """An image that the graph sees as (N, *spatial, C)."""

    image: Value


def transpose(tape: Tape, attributes: Attributes, x: Value | Last) -> Value | Last:
    """Carry out ``Transpose`` between the two layouts."""
    axes = list(range(tape.ndim + 2))
    order = list(attributes.get("perm", axes[::-1]))
    if order == axes:
        return x
    if isinstance(x, Last) and order == [0, axes[-1], *axes[1:-1]]:
        return x.image
    if isinstance(x, Value) and order == [0, *axes[2:], 1]:
        return Last(x)
    raise Refused(f"axes in the order {order}")


def shape(x: Value | Last) -> Known:
    """Return the shape that the graph sees."""
    batch, channels, *space = x.image.shape if isinstance(x, Last) else x.shape
    first = [batch, channels, *space]
    return Known(np.stack([batch, *space, channels] if isinstance(x, Last) else first))


def turned(
    tape: Tape,
    operator: str,
    attributes: Attributes,
    inputs: Sequence[Any],
    carry_out: Callable[..., Any],
) -> Any:
    """Carry out an operator between images whose channels are last.

    Raises
    ------
    Refused
        If it looks at other pixels, or mixes the layouts.
    """
    last = tape.ndim + 1
    if operator in _ALONG:
        if attributes.get("axis", -1) not in (-1, last):
            raise Refused(f"{operator} along space")
        attributes = {**attributes, "axis": 1}
    elif operator not in _POINTWISE:
        raise Refused(f"the operator {operator} on channels that are last")
    if any(isinstance(i, Value) for i in inputs):
        raise Refused("images of two layouts")
    is_sum = operator in ("Add", "Sub", "Mul", "Div")
    read = [_first(tape, i) if is_sum or isinstance(i, Last) else i for i in inputs]
    result = carry_out(tape, operator, attributes, read)
    return [Last(r) for r in result] if isinstance(result, list) else Last(result)


def _first(tape: Tape, value: Any) -> Any:
    """Return an image, or a constant beside one, with its channels first."""
    if isinstance(value, Last):
        return value.image
    missing = tape.ndim + 3 - value.values.ndim
    full = value.values.reshape((*[1] * missing, *value.values.shape))
    return Known(np.moveaxis(full, -2, 1))
