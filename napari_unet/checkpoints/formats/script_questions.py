"""What scripted programs ask before they do something: of types, lengths and words.

Answered only where the answer is the same for every image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats.aten_numbers import number
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Value

if TYPE_CHECKING:
    from collections.abc import Callable

_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "ge": lambda a, b: a >= b,
}
_PLAIN = (bool, int, float, str, type(None))


def answer(name: str, args: list[Any]) -> Any:
    """Return what a question is answered with.

    Parameters
    ----------
    name : str
        One of `ASKED`.
    args : list
        What is asked about.

    Raises
    ------
    Refused
        If the answer depends on the image.
    """
    return ASKED[name](*args)


def _compare(name: str) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        a, b = number(a), number(b)
        values = [_COMPARED[name](x, y) for x, y in _pairs(a, b)]
        if len(set(values)) != 1:
            raise Refused("control flow that depends on the size of the image")
        return bool(values[0])

    return compare


def _pairs(a: Any, b: Any) -> list[tuple[Any, Any]]:
    """Return what is compared, for each probe where sizes are."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return list(zip(*(x.tolist() for x in np.broadcast_arrays(a, b)), strict=True))
    if not isinstance(a, _PLAIN) or not isinstance(b, _PLAIN):
        raise Refused("control flow that depends on the image")
    return [(a, b)]


def _is(a: Any, b: Any) -> bool:
    """Say whether something is None, which is all that scripts ask with ``is``."""
    if a is not None and b is not None:
        raise Refused("a comparison of objects")
    return a is b


def _negated(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused("control flow that depends on the image")
    return not value


def _axes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.ndim
    return len(_image(value).shape)


def _image(value: Any) -> Value:
    if not isinstance(value, Value):
        raise Refused("a question about something else than the image")
    return value


def _append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def _raised(*_: Any) -> None:
    raise Refused("a program that refuses such an image")


def _length(values: Any) -> int:
    if not isinstance(values, (list, tuple)):
        raise Refused("a length of something else than a list")
    return len(values)


ASKED: dict[str, Callable[..., Any]] = {
    **{f"__{name}__": _compare(name) for name in _COMPARED},
    **{name: _compare(name) for name in _COMPARED},
    **{"__is__": _is, "__isnot__": lambda a, b: not _is(a, b)},
    **{"__not__": _negated, "dim": _axes, "len": _length, "append": _append},
    "__contains__": lambda values, value: value in list(values),
    "__getitem__": lambda values, n: list(values)[n],
    "warn": lambda *_: None,
    "RaiseException": _raised,
    "list": lambda values: list(values),
}
"""Questions by name; ``gt`` is also an operation on images."""
