"""ATen operators that join, cut and reshape: arithmetic, sizes, views and slices.

What a graph computes of sizes and constants is worked out here; only what concerns the
image becomes a step.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats.tape import Refused, Tape, Value, constant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MOST = 1 << 27
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


def size(tape: Tape, x: Any, dim: int | None = None) -> Any:
    """Carry out ``size``: one number for each probe."""
    del tape
    shape = x.shape if isinstance(x, Value) else tuple(x.shape)
    return list(shape) if dim is None else shape[whole(dim)]


def truncate(tape: Tape, value: Any) -> Any:
    """Carry out ``Int``: sizes are whole already where they can be used."""
    del tape
    value = number(value)
    if isinstance(value, np.ndarray):
        return np.trunc(value).astype(np.int64)
    return int(value)


def view(tape: Tape, x: Any, *shape: Any) -> Any:
    """Carry out ``view`` and ``reshape`` where they only look at an image otherwise."""
    wanted = list(shape[0]) if isinstance(shape[0], (list, tuple)) else list(shape)
    if isinstance(x, torch.Tensor):
        return x.reshape([whole(n) for n in wanted])
    for seen in _ways(tape, plain_or_seen(x)):
        if _is_shape(seen.shape, wanted):
            return seen
    raise Refused("a change of shape")


def plain_or_seen(x: Any) -> Value:
    """Return an image, however the graph sees it."""
    if not isinstance(x, Value):
        raise Refused("an operation on something else than the image")
    return x


def flatten(tape: Tape, x: Any, start: int = 0, end: int = -1) -> Any:
    """Carry out ``flatten`` of an image of one pixel, and of constants."""
    if isinstance(x, torch.Tensor):
        return x.flatten(whole(start), whole(end))
    axes = len(plain_or_seen(x).shape)
    if start != 1 or end not in (-1, axes - 1):
        raise Refused("a change of shape")
    return view(tape, x, [x.shape[0], x.channels])


def squeeze(tape: Tape, x: Any, *dims: Any) -> Any:
    """Carry out ``squeeze`` of axes in space."""
    if isinstance(x, torch.Tensor):
        return x.squeeze(*(_axes(dims[0]) for _ in dims[:1]))
    axes = len(plain_or_seen(x).shape)
    gone = {a % axes for a in _axes(dims[0])} if dims else set(range(2, axes))
    if any(a < 2 or constant(x.shape[a]) != 1 for a in gone):
        raise Refused("a change of shape")
    if not all(constant(n) == 1 for n in x.shape[2:]):
        raise Refused("a change of shape")
    return replace(x, dropped=x.dropped + len(gone))


def unsqueeze(tape: Tape, x: Any, dim: int) -> Any:
    """Carry out ``unsqueeze``: the undoing of a squeeze."""
    if isinstance(x, torch.Tensor):
        return x.unsqueeze(whole(dim))
    axes = len(plain_or_seen(x).shape) + 1
    if not x.dropped or dim % axes < 2:
        raise Refused("a change of shape")
    return replace(x, dropped=x.dropped - 1)


def repeat(tape: Tape, x: Any, times: Sequence[Any]) -> Any:
    """Carry out ``repeat`` of constants: for each image of a merged batch the same."""
    del tape
    if not isinstance(x, torch.Tensor) or x.ndim != 1 or len(times) != 1:
        raise Refused("a repetition of the image")
    return x


def expand(tape: Tape, x: Any, shape: Sequence[Any], implicit: bool = False) -> Any:
    """Carry out ``expand`` to the shape that is there already."""
    del tape, implicit
    if isinstance(x, torch.Tensor):
        return x.expand([whole(n) for n in shape])
    if not _is_shape(plain_or_seen(x).shape, list(shape)):
        raise Refused("an expansion of the image")
    return x


def cut(
    tape: Tape, x: Any, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Any:
    """Carry out ``slice``: some channels, or what is left of borders of a fixed width."""
    if isinstance(x, (list, torch.Tensor)):
        raise Refused("a part of something else than the image")
    x, axis = plain(x), whole(dim) % (tape.ndim + 2)
    length = x.shape[axis]
    first, last = _place(start, length, 0), _place(end, length, length)
    before, after = constant(first), constant(length - last)
    if step != 1 or before is None or after is None or (axis == 0 and before + after):
        raise Refused("a part of the image")
    if not before + after:
        return x
    if axis == 1:
        return tape.add("channels", [x], {"start": before, "stop": x.channels - after})
    sides = [[0] * tape.ndim, [0] * tape.ndim]
    sides[0][axis - 2], sides[1][axis - 2] = -before, -after
    return tape.add("pad", [x], {"before": sides[0], "after": sides[1]})


def split(tape: Tape, x: Any, sizes: Any, dim: Any = 0) -> list[Any]:
    """Carry out ``split`` of channels, in parts of one size or of sizes given."""
    total = plain(x).channels
    if isinstance(sizes, (list, tuple)):
        ends = list(accumulate(whole(n) for n in sizes))
    else:
        step = whole(sizes)
        ends = [min(n + step, total) for n in range(0, total, step)]
    if whole(dim) % (tape.ndim + 2) != 1:
        raise Refused("a division of the image")
    return [cut(tape, x, 1, a, b) for a, b in pairwise([0, *ends])]


def chunk(tape: Tape, x: Any, parts: Any, dim: Any = 0) -> list[Any]:
    """Carry out ``chunk`` of channels."""
    return split(tape, x, -(-plain(x).channels // whole(parts)), dim)


def narrow(tape: Tape, x: Any, dim: Any, start: Any, length: Any) -> Any:
    """Carry out ``narrow``."""
    return cut(tape, x, dim, start, start + length)


def concatenate(tape: Tape, parts: Sequence[Any], dim: Any = 0) -> Any:
    """Carry out ``cat``, of channels only."""
    if whole(dim) not in (1, -tape.ndim - 1):
        raise Refused("a concatenation that is not of channels")
    values = [plain(part) for part in parts]
    return values[0] if len(values) == 1 else tape.add("concat", values)


def _fold(kind: str, a: Any, b: Any) -> Any:
    """Combine what is known: numbers, sizes and weights."""
    for value in (a, b):
        if not isinstance(value, (int, float, np.ndarray, torch.Tensor)):
            raise Refused("arithmetic with something else than numbers")
    is_tensor = [isinstance(v, torch.Tensor) for v in (a, b)]
    if any(is_tensor) and any(isinstance(v, np.ndarray) for v in (a, b)):
        raise Refused("weights that depend on the size of the image")
    if all(is_tensor):
        shape = torch.broadcast_shapes(a.shape, b.shape)
        if shape.numel() > _MOST:
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
    return replace(added, dropped=image.dropped)


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


def _ways(tape: Tape, x: Value) -> list[Value]:
    """Return the ways in which a graph may see an image."""
    ways = [replace(x, dropped=0, merged=False), replace(x, dropped=0, merged=True)]
    if all(constant(n) == 1 for n in x.space):
        ways.append(replace(x, dropped=tape.ndim, merged=False))
    return ways


def _is_shape(shape: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Whether a shape is the one asked for, where one length may be -1."""
    if len(shape) != len(wanted):
        return False
    free = [n for n in wanted if constant(n) == -1]
    same = [
        constant(n) == -1 or np.array_equal(*np.broadcast_arrays(n, own))
        for n, own in zip(wanted, shape, strict=True)
    ]
    return len(free) <= 1 and all(same)


def _place(value: Any, length: Any, default: Any) -> Any:
    """Return where a slice begins or ends, counted from the front."""
    if value is None:
        return default + 0 * length
    value = np.minimum(np.asarray(number(value), dtype=np.int64), length)
    return np.maximum(np.where(value < 0, value + length, value), 0)


def _axes(dims: Any) -> tuple[int, ...]:
    return tuple(whole(d) for d in (dims if isinstance(dims, (list, tuple)) else [dims]))
