"""Command-line options made from the settings, so that both stay one."""

from __future__ import annotations

import argparse
import types
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic.fields import FieldInfo

    from napari_unet.config import Config

    C = TypeVar("C", bound=Config)

_PREFIX = "settings."
_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def add_settings(
    parser: argparse.ArgumentParser,
    config: type[Config],
    *,
    flags: Mapping[str, str] | None = None,
    leave_out: Collection[str] = (),
) -> None:
    """Give a parser one option for each field of a config.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Gets the options, in one group.
    config : type of Config
        Its titles, descriptions, ranges, choices and defaults make the help.
    flags : mapping of str to str, optional
        Option name of a field where it is not ``--`` and the field's name.
    leave_out : collection of str
        Fields that get no option.
    """
    group = parser.add_argument_group("settings")
    for name, field in config.model_fields.items():
        if name not in leave_out:
            flag = (flags or {}).get(name, "--" + name.replace("_", "-"))
            group.add_argument(
                flag,
                dest=_PREFIX + name,
                default=argparse.SUPPRESS,
                help=_help(field),
                **_form(field),
            )


def read_settings(config: type[C], args: argparse.Namespace) -> C:
    """Build a config from the options that were given.

    Raises
    ------
    UsageError
        If a value is out of range.
    """
    given = vars(args)
    names = (name for name in config.model_fields if _PREFIX + name in given)
    return config.build(**{name: given[_PREFIX + name] for name in names})


def _form(field: FieldInfo) -> dict[str, Any]:
    """How argparse reads the values of a field."""
    kind = _without_none(field.annotation)
    if kind is bool:
        action = argparse.BooleanOptionalAction if field.default else "store_true"
        return {"action": action}
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return {"type": type(choices[0]), "choices": choices}
    if get_origin(kind) is tuple:
        return {
            "type": get_args(kind)[0],
            "nargs": "+",
            "metavar": _metavar(get_args(kind)[0], field),
        }
    return {"type": kind, "metavar": _metavar(kind, field)}


def _metavar(kind: Any, field: FieldInfo) -> str:
    """Name a value in the help."""
    return {int: "N", float: "X"}.get(kind, (field.title or "text").upper())


def _without_none(annotation: Any) -> Any:
    """Take the type out of ``type | None``."""
    if get_origin(annotation) in (types.UnionType, Union):
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return annotation


def _help(field: FieldInfo) -> str:
    """Tell what a field is, with its range and default."""
    limits = [
        f"{words} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, words in _LIMITS.items()
        if hasattr(limit, name)
    ]
    facts = [" and ".join(limits)] if limits else []
    if field.default not in (None, ()) and not isinstance(field.default, bool):
        facts.append(f"default {field.default}")
    text = field.description or ""
    text += f" ({'; '.join(facts)})" if facts else ""
    return text.replace("%", "%%")
