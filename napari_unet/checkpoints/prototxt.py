"""Text of protocol buffers, as Caffe describes networks: plain values of sane size.

No schema is needed or known: a field is a list of what the text gives for it. The
grammar is that of the protobuf text format without lists of messages, joined strings
and extensions, which no network description has.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = dict[str, list[Any]]
"""Fields by name; each value is a str, int, float, bool or Message."""

_MOST_TEXT = 1 << 20
_MOST_TOKENS = 200_000
_LONGEST_NUMBER = 40
_DEEPEST = 16
_TOKEN = re.compile(
    r"(?P<space>\s+|\#[^\n]*)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?f?(?![\w.]))"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<mark>[{}<>:;,\[\]])"
)
_WORDS = {"true": True, "false": False}
_ENDS = {"{": "}", "<": ">"}

Token = tuple[str, str]
_END: Token = ("end", "the end")


def parse(text: str) -> Message:
    """Read a message in text format.

    Parameters
    ----------
    text : str
        Such as ``layer { name: "pool" pooling_param { stride: 2 } }``.

    Returns
    -------
    dict of str to list
        Values in the order of the text. Names of enumerations are strings.

    Raises
    ------
    ValueError
        If it is no such text, over one megabyte or nested over 16 levels.
    """
    if len(text) > _MOST_TEXT:
        raise ValueError(f"a text of {len(text)} characters")
    return _Parser(text).message("", 0)


class _Parser:
    """Reads one text from its first token to its last."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = next(self._tokens, _END)

    def message(self, end: str, depth: int) -> Message:
        """Read fields up to the mark `end`; an empty one is the end of the text."""
        if depth > _DEEPEST:
            raise ValueError(f"messages nested over {_DEEPEST} levels")
        fields: Message = {}
        while not self._skip(end):
            name = self._take("word")
            fields.setdefault(name, []).extend(self._values(depth))
            _ = self._skip(",") or self._skip(";")
        return fields

    def _values(self, depth: int) -> list[Any]:
        """Read what follows the name of a field."""
        has_colon = self._skip(":")
        for start, end in _ENDS.items():
            if self._skip(start):
                return [self.message(end, depth + 1)]
        if not has_colon:
            raise ValueError(f"{self._next[1]!r} instead of : or {{")
        return self._list() if self._skip("[") else [self._scalar()]

    def _list(self) -> list[Any]:
        values: list[Any] = []
        while not self._skip("]"):
            values.append(self._scalar())
            if not self._skip(",") and self._next != ("mark", "]"):
                raise ValueError(f"{self._next[1]!r} instead of , or ]")
        return values

    def _scalar(self) -> Any:
        kind, text = self._advance()
        if kind == "string":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind == "word":
            return _WORDS.get(text, text)
        if kind == "number":
            return _number(text)
        raise ValueError(f"{text!r} instead of a value")

    def _take(self, kind: str) -> str:
        found, text = self._advance()
        if found != kind:
            raise ValueError(f"{text!r} instead of a {kind}")
        return text

    def _skip(self, mark: str) -> bool:
        """Take the mark if it comes next; an empty one is the end of the text."""
        if self._next != (("mark", mark) if mark else _END):
            return False
        self._advance()
        return True

    def _advance(self) -> Token:
        token, self._next = self._next, next(self._tokens, _END)
        return token


def _tokens(text: str) -> Iterator[Token]:
    """Yield kind and text of each token; spaces and comments are left out."""
    place = count = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or count > _MOST_TOKENS:
            line, found = text.count("\n", 0, place) + 1, text[place : place + 20]
            raise ValueError(f"no readable text in line {line}: {found!r}")
        place = match.end()
        if match.lastgroup and match.lastgroup != "space":
            count += 1
            yield match.lastgroup, match.group()


def _number(text: str) -> int | float:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits")
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    value = float(text.rstrip("f"))
    if not math.isfinite(value):
        raise ValueError(f"the number {text}")
    return value
