"""What a pickle's calls would have made: known values as such, the rest as stubs.

Nothing is called: names are compared with those of Python's containers and of numpy's
arrays and numbers, of any version.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from napari_unet.checkpoints.unpickle import Stub

_MOST_MADE = 1 << 26
_NUMBERS = re.compile(r"[biuf][1248]")
_MAPPINGS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict")
_CONTAINERS = {
    f"{module}.{name}": empty
    for module in ("builtins", "__builtin__")
    for name, empty in (("bytes", b""), ("bytearray", b""), ("set", ()))
}
_ENCODE = "_codecs.encode"
_ARRAY, _BUFFER = "multiarray._reconstruct", "numeric._frombuffer"
_NUMBER, _DTYPE = "multiarray.scalar", "numpy.dtype"


class Named(Stub):
    """Stands for a class or function that a pickle names."""


class Array(list[Any]):
    """Stands for an array whose values come later."""


class Maker:
    """Makes values, of a bounded size in all: a file could ask for many copies."""

    def __init__(self) -> None:
        self._made = 0

    def make(self, kind: Any, args: Any) -> Any:
        """Return what a call of `kind` would have made.

        Raises
        ------
        TypeError, ValueError
            If it is no call, or asks for too much.
        """
        if not isinstance(kind, Named) or not isinstance(args, tuple):
            raise TypeError("a call of what is no name")
        self._charge(len(args))
        if kind.name in _MAPPINGS:
            return {}
        if kind.name in _CONTAINERS:
            return args[0] if args else _CONTAINERS[kind.name]
        if kind.name.endswith((_ARRAY, _BUFFER, _NUMBER)):
            return self._of_numpy(kind.name, args)
        if kind.name == _ENCODE:
            self._charge(len(args[0]))
            return args[0].encode("latin-1")
        stub = Stub(*args)
        stub.name = kind.name
        return stub

    def build(self, target: Any, state: Any) -> None:
        """Give an object its state; that of an array is its values."""
        if isinstance(target, Array):
            _, shape, dtype, fortran, raw = state
            target[:] = self._array(shape, dtype, fortran, raw)
        elif isinstance(target, Stub):
            target.__setstate__(state)

    def _charge(self, count: int) -> None:
        self._made += count
        if self._made > _MOST_MADE:
            raise ValueError("more copies of its values than are plausible")

    def _of_numpy(self, name: str, args: tuple[Any, ...]) -> Any:
        if name.endswith(_NUMBER):
            return self._numbers(*args)[0]
        if name.endswith(_ARRAY):
            return Array()
        raw, dtype, shape, order = args
        return self._array(shape, dtype, order == "F", raw)

    def _array(self, shape: Any, dtype: Any, fortran: Any, raw: Any) -> list[Any]:
        """Return the values of an array, nested by its axes."""
        self._charge(len(raw))
        if isinstance(raw, list):
            return raw  # of objects
        values = np.array(self._numbers(dtype, raw))
        if not values.size:
            return []
        nested = values.reshape(shape, order="F" if fortran else "C").tolist()
        return nested if isinstance(nested, list) else [nested]

    def _numbers(self, dtype: Any, raw: Any) -> list[Any]:
        """Decode numbers of a plain kind."""
        self._charge(len(raw))
        code = str(dtype.args[0])
        if dtype.name != _DTYPE or not _NUMBERS.fullmatch(code):
            raise ValueError(f"numbers of the kind {code[:20]}")
        state = dtype.state.get("state") or (3, "<")
        packed = raw.encode("latin-1") if isinstance(raw, str) else raw
        found: list[Any] = np.frombuffer(
            packed, np.dtype((">" if state[1] == ">" else "<") + code)
        ).tolist()
        return found
