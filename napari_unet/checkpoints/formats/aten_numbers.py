"""ATen arithmetic: what a graph computes of sizes and constants is worked out here.

Only what concerns the image becomes a step.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value, constant

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1 << 27
"""Numbers that a constant worked out may have."""
_LARGEST = 1 << 62
_FOLDED: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "floor": operator.floordiv,
}


def number(value: Any) -> Any:
    """Return tensors without axes and sizes known for good as plain numbers."""
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        fixed = constant(value)
        return value if fixed is None else fixed
    return value


def whole(value: Any) -> int:
    """Return a whole number that does not depend on the size of the image."""
    value = number(value)
    if isinstance(value, (bool, np.ndarray)) or not isinstance(value, (int, float)):
        raise Refused("a number that depends on the size of the image")
    if value != int(value):
        raise Refused(f"{value} where a whole number belongs")
    return int(value)


def plain(value: Any) -> Value:
    """Return an image seen as (N, C, *spatial)."""
    if not isinstance(value, Value) or value.dropped or value.merged:
        raise Refused("an operation on something else than the image")
    return value


def each(tape: Tape, value: Any) -> list[int]:
    """Return one whole number for each spatial axis."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    values = values * tape.ndim if len(values) == 1 else values
    if len(values) != tape.ndim:
        raise Refused(f"{len(values)} numbers for {tape.ndim} axes")
    return [whole(n) for n in values]


def arithmetic(kind: str) -> Callable[..., Any]:
    """Make the operator add, sub, mul or div."""

    def operate(
        tape: Tape, a: Any, b: Any, alpha: Any = 1, rounding_mode: str | None = None
    ) -> Any:
        a, b = number(a), number(b)
        if alpha != 1 or rounding_mode not in (None, "floor"):
            raise Refused(f"{kind} with alpha {alpha}, rounding {rounding_mode}")
        if not isinstance(a, Value) and not isinstance(b, Value):
            return _fold(kind if rounding_mode is None else "floor", a, b)
        if rounding_mode is not None:
            raise Refused("rounding of the image")
        return _sum(tape, kind, a, b)

    return operate


def reverse_subtract(tape: Tape, a: Any, b: Any, alpha: Any = 1) -> Any:
    """Carry out ``rsub``: b - a."""
    return arithmetic("sub")(tape, b, a, alpha)


def negative(tape: Tape, a: Any) -> Any:
    """Carry out ``neg``."""
    return arithmetic("mul")(tape, a, -1)


def floor_divide(tape: Tape, a: Any, b: Any) -> Any:
    """Carry out ``floor_divide``, of numbers only."""
    return arithmetic("div")(tape, a, b, rounding_mode="floor")


def truncate(tape: Tape, value: Any) -> Any:
    """Carry out ``Int``: sizes are whole already where they can be used."""
    del tape
    value = number(value)
    if isinstance(value, np.ndarray):
        return np.trunc(value).astype(np.int64)
    return int(value)


def _fold(kind: str, a: Any, b: Any) -> Any:
    """Combine what is known: numbers, sizes and weights."""
    for value in (a, b):
        if not isinstance(value, (int, float, np.ndarray, torch.Tensor)):
            raise Refused("arithmetic with something else than numbers")
    is_tensor = [isinstance(v, torch.Tensor) for v in (a, b)]
    if any(is_tensor) and any(isinstance(v, np.ndarray) for v in (a, b)):
        raise Refused("weights that depend on the size of the image")
    if all(is_tensor):
        if prod(np.broadcast_shapes(a.shape, b.shape)) > MOST:
            raise Refused("weights that grow without measure")
    try:
        result = number(_FOLDED[kind](a, b))
    except (ZeroDivisionError, OverflowError) as error:
        raise Refused(f"arithmetic without a result ({error})") from None
    if isinstance(result, int) and abs(result) > _LARGEST:
        raise Refused("a number without measure")
    return result


def _sum(tape: Tape, kind: str, a: Any, b: Any) -> Value:
    """Write the step of a sum with the image."""
    if isinstance(a, Value) and isinstance(b, Value):
        if (a.dropped, a.merged) != (b.dropped, b.merged):
            raise Refused("a sum of images of other shapes")
        return replace(tape.add(kind, [a, b]), dropped=a.dropped, merged=a.merged)
    image, other = (a, b) if isinstance(a, Value) else (b, a)
    values = _per_channel(image, other)
    settings = {"operation": kind, "channels": values.numel(), "first": image is b}
    added = tape.add("constant", [image], settings, value=values)
    return replace(added, dropped=image.dropped, merged=image.merged)


def _per_channel(image: Value, other: Any) -> torch.Tensor:
    """Return a constant as one number, or one for each channel."""
    if isinstance(other, (int, float)):
        return torch.tensor([float(other)])
    if not isinstance(other, torch.Tensor) or image.merged:
        raise Refused("arithmetic with the size of the image")
    axes = len(image.shape)
    shape = (*[1] * (axes - other.ndim), *other.shape)
    is_plain = len(shape) == axes and shape[1] in (1, image.channels)
    if not is_plain or shape[0] != 1 or any(n != 1 for n in shape[2:]):
        raise Refused("arithmetic with an image in the file")
    return other.flatten()
