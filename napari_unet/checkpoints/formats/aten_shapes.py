"""ATen operators that look at an image otherwise, join images or cut them."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats.aten_numbers import MOST, number, plain, whole
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value, constant

if TYPE_CHECKING:
    from collections.abc import Sequence


def size(tape: Tape, x: Any, dim: int | None = None) -> Any:
    """Carry out ``size``: one number for each probe."""
    del tape
    shape = x.shape if isinstance(x, Value) else tuple(x.shape)
    return list(shape) if dim is None else shape[whole(dim)]


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
    gone = {a % axes for a in _axes(dims[0])} if dims else {0}
    if min(gone) < 2 or not all(constant(n) == 1 for n in x.shape[2:]):
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


def permute(tape: Tape, x: Any, order: Any = (1, 0)) -> Any:
    """Carry out ``permute`` and ``t``, of constants."""
    del tape
    if not isinstance(x, torch.Tensor):
        raise Refused("axes in another order")
    return x.permute([whole(n) for n in order])


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
        lengths = [whole(n) for n in shape]
        known = zip(lengths[::-1], (*x.shape[::-1], *[1] * len(shape)), strict=False)
        if prod(old if n < 0 else n for n, old in known) > MOST:
            raise Refused("weights that grow without measure")
        return x.expand(lengths).contiguous()
    if not _is_shape(plain_or_seen(x).shape, list(shape)):
        raise Refused("an expansion of the image")
    return x


def cut(
    tape: Tape, x: Any, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Any:
    """Carry out ``slice``: some channels, or all but borders of a fixed width."""
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
        return tape.part(x, "channels", {"start": before, "stop": x.channels - after})
    sides = [[0] * tape.ndim, [0] * tape.ndim]
    sides[0][axis - 2], sides[1][axis - 2] = -before, -after
    return tape.part(x, "pad", {"before": sides[0], "after": sides[1]})


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
        constant(n) == -1 or bool(np.all(np.asarray(n) == own))
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
    return tuple(
        whole(d) for d in (dims if isinstance(dims, (list, tuple)) else [dims])
    )
