"""TorchScript's own program text, read line by line and never run as Python.

A traced network is saved as classes whose methods are straight lines of calls
(torch/csrc/jit/serialization/python_print.cpp). The text is parsed into a tree, which
is walked here: calls of modules lead to their own methods, calls of operators to
`aten_operators`. A branch is followed where what it asks is known for every image, and
a loop where it is counted beforehand; all else that Python has is refused.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.formats.aten_numbers import whole
from napari_unet.checkpoints.formats.aten_operators import call
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.script_questions import ASKED, answer
from napari_unet.checkpoints.formats.tape import Tape, Value
from napari_unet.checkpoints.unpickle import Stub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONGEST_LINE = 20_000
_DEEPEST = 64
_MOST_LINES = 200_000
_LARGEST = 1 << 63
_ROOT = "__torch__"
_CASTS = {"int": "Int", "float": "Float", "bool": "Bool"}
_OPENING, _CLOSING = "([{", ")]}"
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')


class Script:
    """The classes and functions of a program.

    Parameters
    ----------
    texts : mapping of str to str
        Source text by the name of its module, such as ``"__torch__.net"``.
    constants : sequence
        What ``CONSTANTS.c0`` and so on stand for.

    Raises
    ------
    Refused
        If a text is no TorchScript, or nested too deeply.
    """

    def __init__(self, texts: Mapping[str, str], constants: Sequence[Any]) -> None:
        self.constants = constants
        self.methods: dict[str, ast.FunctionDef] = {}
        for module, text in texts.items():
            for node in _parse(text).body:
                self._add(module, node)

    def _add(self, prefix: str, node: ast.stmt) -> None:
        """Name a function, or those of a class."""
        if isinstance(node, ast.FunctionDef):
            self.methods[f"{prefix}.{node.name}"] = node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    self._add(f"{prefix}.{node.name}", inner)

    def play(self, tape: Tape, network: Stub) -> Value:
        """Follow the network's ``forward`` on a tape.

        Parameters
        ----------
        tape : Tape
            Gets the steps.
        network : Stub
            The network as it was pickled: tensors and modules by name.

        Raises
        ------
        Refused
            If it is no straight line from one image to one image.
        """
        output = _Walk(self, tape).method(network, "forward", [tape.image])
        if isinstance(output, (list, tuple)) and output:
            tape.note("only the first of several outputs is used")
            output = output[0]
        if not isinstance(output, Value):
            raise Refused("an output that is no image")
        return output


class _Walk:
    """Follows one run through a program."""

    def __init__(self, script: Script, tape: Tape) -> None:
        self.script, self.tape = script, tape
        self.lines = self.depth = 0

    def method(self, module: Stub, name: str, args: Sequence[Any]) -> Any:
        """Follow a method of a module."""
        known = self.script.methods.get(f"{module.name}.{name}")
        if known is None:
            raise Refused(f"a call of {name} of {module.name[:80]}")
        return self.function(known, [module, *args])

    def function(self, node: ast.FunctionDef, args: Sequence[Any]) -> Any:
        """Follow a function with its arguments bound."""
        names = [a.arg for a in node.args.args]
        rest = len(names) - len(args)
        defaults = node.args.defaults[-rest:] if rest else []
        if rest < 0 or len(defaults) != rest:
            raise Refused(f"{len(names) - 1} inputs")
        args = [*args, *(self._value(d, {}) for d in defaults)]
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Refused(f"over {_DEEPEST} nested calls")
        _, result = self._block(node.body, dict(zip(names, args, strict=True)))
        self.depth -= 1
        return result

    def _block(
        self, body: Sequence[ast.stmt], names: dict[str, Any]
    ) -> tuple[bool, Any]:
        """Follow lines; return whether they returned, and what."""
        for line in body:
            self.lines += 1
            if self.lines > _MOST_LINES:
                raise Refused(f"over {_MOST_LINES} lines")
            if isinstance(line, ast.Return):
                return True, self._value(line.value, names)
            returned, result = self._part(line, names)
            if returned:
                return True, result
        return False, None

    def _part(self, line: ast.stmt, names: dict[str, Any]) -> tuple[bool, Any]:
        """Follow a line, or what is indented below it."""
        if isinstance(line, ast.If):
            return self._branch(line, names)
        if isinstance(line, ast.For):
            return self._times(line, names)
        self._line(line, names)
        return False, None

    def _times(self, line: ast.For, names: dict[str, Any]) -> tuple[bool, Any]:
        """Follow the lines of a loop that is counted beforehand."""
        if not isinstance(line.iter, ast.Call) or _path(line.iter.func) != ["range"]:
            raise Refused("control flow: a loop")
        for n in range(*(whole(self._value(a, names)) for a in line.iter.args)):
            self._bind(line.target, n, names)
            returned, result = self._block(line.body, names)
            if returned:
                return True, result
        return False, None

    def _branch(self, line: ast.If, names: dict[str, Any]) -> tuple[bool, Any]:
        """Follow the one side of a branch that every image takes."""
        taken = self._value(line.test, names)
        if not isinstance(taken, bool):
            raise Refused("control flow that depends on the image")
        return self._block(line.body if taken else line.orelse, names)

    def _line(self, line: ast.stmt, names: dict[str, Any]) -> None:
        if isinstance(line, ast.Assign) and len(line.targets) == 1:
            self._bind(line.targets[0], self._value(line.value, names), names)
        elif isinstance(line, ast.AnnAssign) and line.value is not None:
            self._bind(line.target, self._value(line.value, names), names)
        elif isinstance(line, ast.Expr):
            self._value(line.value, names)
        elif not isinstance(line, ast.Pass):
            raise Refused(f"control flow: {type(line).__name__}")

    def _bind(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Tuple) and len(target.elts) == len(value):
            for part, one in zip(target.elts, value, strict=True):
                self._bind(part, one, names)
        else:
            raise Refused("an assignment to something else than a name")

    def _value(self, node: ast.expr | None, names: dict[str, Any]) -> Any:
        """Return what an expression stands for."""
        if isinstance(node, ast.Constant):
            return _literal(node.value)
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, (ast.List, ast.Tuple)):
            values = [self._value(n, names) for n in node.elts]
            return values if isinstance(node, ast.List) else tuple(values)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -_literal(self._value(node.operand, names))
        if isinstance(node, ast.Subscript):
            return self._value(node.value, names)[self._value(node.slice, names)]
        if isinstance(node, ast.Attribute):
            return self._attribute(node, names)
        if isinstance(node, ast.Call):
            return self._call(node, names)
        raise Refused(f"an expression of kind {type(node).__name__}")

    def _attribute(self, node: ast.Attribute, names: dict[str, Any]) -> Any:
        """Return a constant, a function, or what a module holds."""
        path = _path(node)
        if path[0] == "CONSTANTS":
            return self.script.constants[int(path[1].removeprefix("c"))]
        if path[0] == _ROOT:
            return self.script.methods[".".join(path)]
        return _held(self._value(node.value, names), node.attr)

    def _call(self, node: ast.Call, names: dict[str, Any]) -> Any:
        """Carry out a call of a module, a function or an operator."""
        path = _path(node.func)
        if path == ["annotate"] or path == ["unchecked_cast"]:  # a type and a value
            return self._value(node.args[1], names)
        if path == ["uninitialized"]:
            return None
        args = [self._value(a, names) for a in node.args]
        settings = {str(k.arg): self._value(k.value, names) for k in node.keywords}
        if path == ["getattr"]:
            return _held(args[0], args[1])
        if len(path) == 1 and path[0] in _CASTS:
            return self._operator(_CASTS[path[0]], args, settings)
        if path[0] == "torch" or path[0] == "ops":
            return self._operator(path[-1], args, settings)
        if path[0] == _ROOT or (len(path) == 1 and path[0] in names):
            return self.function(self._value(node.func, names), args)
        if isinstance(node.func, ast.Attribute):
            module = self._value(node.func.value, names)
            if isinstance(module, Stub):
                return self.method(module, node.func.attr, args)
        raise Refused(f"a call of {'.'.join(path)[:80]}")

    def _operator(self, name: str, args: list[Any], settings: dict[str, Any]) -> Any:
        is_of_image = name == "gt" and isinstance(args[0], Value)
        if name in ASKED and not is_of_image:
            return answer(name, args)
        return call(self.tape, name, args, settings)


def _parse(text: str) -> ast.Module:
    """Parse a text that is neither too deep nor too long for the parser."""
    for line in text.splitlines():
        bare = _TEXT.sub("", line)
        depth = deepest = 0
        for letter in bare:
            depth += (letter in _OPENING) - (letter in _CLOSING)
            deepest = max(deepest, depth)
        if len(line) > _LONGEST_LINE or deepest > _DEEPEST:
            raise Refused("a program nested too deeply")
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"a text that is no TorchScript ({error})"[:200]) from error


def _path(node: ast.expr) -> list[str]:
    """Return the names of ``a.b.c``; of other expressions a question mark first."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    names.append(node.id if isinstance(node, ast.Name) else "?")
    return names[::-1]


def _held(module: Any, name: Any) -> Any:
    """Return a tensor, number or module that a module holds."""
    if not isinstance(module, Stub) or name not in module.state:
        raise Refused(f"an attribute {str(name)[:80]} that is not in the file")
    value = module.state[name]
    if value is None or isinstance(value, (Stub, torch.Tensor)):
        return value
    return list(value) if isinstance(value, tuple) else _literal(value)


def _literal(value: Any) -> Any:
    """Return a plain value; numbers of sane size."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise Refused("a number without measure")
    if value is not None and not isinstance(value, (int, float, str, list)):
        raise Refused(f"a value of kind {type(value).__name__}")
    return value
