"""Bare pickles as trees of plain values, without an unpickler.

The operations of the pickle are followed here, on a stack of plain values. Classes and
functions that it names become inert stubs: nothing is imported and nothing is called.
numpy's numbers and arrays and Python's own containers are read as the values they hold.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.pickle_values import Maker, Named
from napari_unet.checkpoints.source import damaged
from napari_unet.checkpoints.unpickle import Stub, refuse_dangerous

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MOST_OPERATIONS = 5_000_000
_LONGEST_KEY = 16
_DAMAGE = (
    *(ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError),
    *(OverflowError, MemoryError, UnicodeError),
)


def read_pickle(data: bytes, path: Path) -> Any:
    """Return the values that a pickle of any protocol holds.

    Keys of mappings become text, as in JSON; sets become lists; foreign objects
    become `napari_unet.checkpoints.unpickle.Stub`.

    Parameters
    ----------
    data : bytes
        The pickle.
    path : pathlib.Path
        Its name, for messages.

    Raises
    ------
    ModelError
        If it is damaged, or names something that could run code.
    """
    machine = _Machine()
    try:
        tree = machine.run(data)
    except _DAMAGE as error:
        refuse_dangerous(path, machine.names)
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        raise damaged(path, first[:160]) from error
    refuse_dangerous(path, machine.names)
    return tree


class _Machine:
    """The stack, the marks on it and what was put aside under numbers."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: set[str] = set()
        self.maker = Maker()

    def run(self, data: bytes) -> Any:
        """Follow all operations; return what is left on the stack."""
        for count, (code, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MOST_OPERATIONS:
                raise ValueError("over five million operations")
            if code.name in _LITERALS:
                self.stack.append(argument)
            elif code.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[code.name]())
            elif code.name in _STEPS:
                _STEPS[code.name](self, argument)
            elif code.name not in _IDLE:
                raise ValueError(f"the operation {code.name}")
        return self.stack.pop()

    def items(self) -> list[Any]:
        """Take everything above the last mark."""
        place = self.marks.pop()
        found = self.stack[place:]
        del self.stack[place:]
        return found

    def last(self, count: int) -> tuple[Any, ...]:
        """Take the last values."""
        if count > len(self.stack):
            raise IndexError("an empty stack")
        found = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return found

    def name(self, text: str) -> None:
        """Push a stub for a name."""
        stub = Named()
        stub.name = text
        self.names.add(text)
        self.stack.append(stub)


def _mark(machine: _Machine, _: Any) -> None:
    machine.marks.append(len(machine.stack))


def _push_items(kind: Callable[[list[Any]], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(kind(machine.items()))


def _push_last(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(machine.last(count))


def _append(machine: _Machine, _: Any) -> None:
    _extend(machine.stack, machine.last(1))


def _appends(machine: _Machine, _: Any) -> None:
    _extend(machine.stack, machine.items())


def _extend(stack: list[Any], items: Any) -> None:
    """Add items to the list on top; a foreign container loses them."""
    if isinstance(stack[-1], list):
        stack[-1] += items
    elif not isinstance(stack[-1], Stub):
        raise TypeError("items for no list")


def _set_item(machine: _Machine, _: Any) -> None:
    _update(machine.stack, machine.last(2))


def _set_items(machine: _Machine, _: Any) -> None:
    _update(machine.stack, machine.items())


def _update(stack: list[Any], items: Any) -> None:
    """Add keys and values to the mapping on top; a foreign one keeps them as state."""
    target = stack[-1].state if isinstance(stack[-1], Stub) else stack[-1]
    target |= _mapping(items)


def _mapping(items: Any) -> dict[str, Any]:
    return {_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


def _key(value: Any) -> str:
    """Return a key as text, whose place in a table no file can foresee."""
    parts = value if isinstance(value, tuple) else (value,)
    if len(parts) > _LONGEST_KEY or not all(map(_is_scalar, parts)):
        raise TypeError("a key that is no text or number")
    return str(value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _pop(machine: _Machine, _: Any) -> None:
    machine.stack.pop()


def _pop_mark(machine: _Machine, _: Any) -> None:
    machine.items()


def _double(machine: _Machine, _: Any) -> None:
    machine.stack.append(machine.stack[-1])


def _put(machine: _Machine, number: Any) -> None:
    machine.memo[len(machine.memo) if number is None else number] = machine.stack[-1]


def _get(machine: _Machine, number: Any) -> None:
    machine.stack.append(machine.memo[number])


def _global(machine: _Machine, argument: Any) -> None:
    machine.name(str(argument).replace(" ", "."))


def _stack_global(machine: _Machine, _: Any) -> None:
    module, name = machine.last(2)
    machine.name(f"{module}.{name}" if _is_scalar(module) and _is_scalar(name) else "")


def _instance(machine: _Machine, argument: Any) -> None:
    items = machine.items()
    _global(machine, argument)
    machine.stack.append(machine.maker.make(machine.stack.pop(), tuple(items)))


def _object(machine: _Machine, _: Any) -> None:
    kind, *items = machine.items()
    machine.stack.append(machine.maker.make(kind, tuple(items)))


def _reduce(machine: _Machine, _: Any) -> None:
    machine.stack.append(machine.maker.make(*machine.last(2)))


def _new_object(machine: _Machine, _: Any) -> None:
    kind, args, _named = machine.last(3)
    machine.stack.append(machine.maker.make(kind, args))


def _build(machine: _Machine, _: Any) -> None:
    (state,) = machine.last(1)
    machine.maker.build(machine.stack[-1], state)


_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
_IDLE = ("PROTO", "FRAME", "STOP")
_CONSTANTS: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    **{"EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict},
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _mark,
    "LIST": _push_items(list),
    "FROZENSET": _push_items(list),
    "TUPLE": _push_items(tuple),
    "DICT": _push_items(_mapping),
    **{f"TUPLE{n}": _push_last(n) for n in (1, 2, 3)},
    **{"APPEND": _append, "APPENDS": _appends, "ADDITEMS": _appends},
    **{"SETITEM": _set_item, "SETITEMS": _set_items},
    **{"POP": _pop, "POP_MARK": _pop_mark},
    **{"DUP": _double, "MEMOIZE": _put},
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    **{"GLOBAL": _global, "STACK_GLOBAL": _stack_global, "INST": _instance},
    **{"REDUCE": _reduce, "NEWOBJ": _reduce, "NEWOBJ_EX": _new_object},
    **{"OBJ": _object, "BUILD": _build},
}
