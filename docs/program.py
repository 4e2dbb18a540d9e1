"""Directives whose content comes from the program, so that pages cannot differ from it.

``settings`` makes a table of the fields of one class of `napari_unet.config`, ``help``
writes what a command prints for ``--help``.
"""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin
from unittest.mock import patch

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from napari_unet import config
from napari_unet.cli.parser import parser

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from sphinx.application import Sphinx

_HEAD = ("Name", "Default", "Values", "Meaning")
_WIDTHS = (15, 10, 20, 55)


class Settings(SphinxDirective):
    """Writes the table; its arguments are the class and, if any, its base."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table of the fields that the base class does not have."""
        found = getattr(config, self.arguments[0]).model_fields
        base = self.arguments[1:] and getattr(config, self.arguments[1]).model_fields
        rows = [_row(n, f) for n, f in found.items() if n not in (base or ())]
        return [_table([_HEAD, *rows])]


class Help(SphinxDirective):
    """Writes the help of a command; its argument is the command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the text in the width of a page."""
        text = io.StringIO()
        with (
            patch.dict(os.environ, COLUMNS="88"),
            redirect_stdout(text),
            suppress(SystemExit),
        ):
            parser().parse_args([self.arguments[0], "--help"])
        return [nodes.literal_block(text=text.getvalue(), language="text")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the directives known to Sphinx."""
    app.add_directive("help", Help)
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}


def _row(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Say all of one field."""
    return (name, _default(field), _values(field), field.description or "")


def _default(field: FieldInfo) -> str:
    """Write the default; None stands for what is chosen or not limited."""
    return "" if field.default is None else str(field.default)


def _values(field: FieldInfo) -> str:
    """Say which values a field takes."""
    kinds = _choices(field.annotation)
    bounds = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([*kinds, *bounds])


def _choices(kind: Any) -> list[str]:
    """Name the choices of a field, or its type."""
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if get_origin(kind) is tuple:
        return ["numbers" if get_args(kind)[0] is int else "words"]
    if parts := get_args(kind):
        return [c for part in parts if part is not type(None) for c in _choices(part)]
    names = {bool: "yes, no", int: "integer", float: "number", str: "text"}
    return [names[kind]]


def _table(rows: list[tuple[str, ...]]) -> nodes.table:
    """Build a table whose first row is its head."""
    group = nodes.tgroup(cols=len(_WIDTHS))
    group += [nodes.colspec(colwidth=width) for width in _WIDTHS]
    head, body = nodes.thead(), nodes.tbody()
    head += _cells(rows[0], code=())
    body += [_cells(row, code=(0, 1)) for row in rows[1:]]
    group += [head, body]
    table = nodes.table(classes=["settings"])
    table += group
    return table


def _cells(row: tuple[str, ...], code: tuple[int, ...]) -> nodes.row:
    """Build a row; the columns in `code` are literal."""
    built = nodes.row()
    for column, text in enumerate(row):
        kind = nodes.literal if column in code and text else nodes.inline
        paragraph = nodes.paragraph()
        paragraph += kind(text=text)
        entry = nodes.entry()
        entry += paragraph
        built += entry
    return built
