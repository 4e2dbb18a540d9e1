"""Index arithmetic: any index of integers and slices as plain bounds."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def bounds(index: int | slice, size: int) -> slice:
    """Start and stop of an index along an axis of `size` pixels.

    Parameters
    ----------
    index : int or slice
        Negative numbers count from the end; the step of a slice must be 1.
    size : int
        Length of the axis.

    Returns
    -------
    slice
        With ``0 <= start <= stop <= size`` and no step.

    Raises
    ------
    IndexError
        If an integer lies outside the axis, or a step is not 1.
    """
    if isinstance(index, slice):
        start, stop, step = index.indices(size)
        if step != 1:
            raise IndexError(f"step {step}, only 1 can be read")
        return slice(start, max(start, stop))
    number = operator.index(index)
    if not -size <= number < size:
        raise IndexError(f"index {number} outside an axis of size {size}")
    return slice(number % size, number % size + 1)


def resolve(index: Any, shape: Sequence[int]) -> tuple[tuple[slice, ...], list[int]]:
    """Turn what stands between the brackets into bounds.

    Parameters
    ----------
    index : int, slice, Ellipsis or tuple of these
        As handed to ``__getitem__``.
    shape : sequence of int
        Shape of the array.

    Returns
    -------
    tuple of slice
        Bounds, one for each axis.
    list of int
        Axes that an integer drops.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    if len(parts) != len(shape):
        raise IndexError(f"{len(parts)} indices for {len(shape)} axes")
    found = tuple(bounds(part, size) for part, size in zip(parts, shape, strict=True))
    return found, [i for i, part in enumerate(parts) if not isinstance(part, slice)]


def length(part: slice) -> int:
    """Pixels between resolved bounds."""
    return int(part.stop - part.start)
