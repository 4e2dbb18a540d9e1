"""What a checkpoint leaves open, as rows a person can change, without Qt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_ARCHITECTURE = "architecture."
_TITLES = {
    "activation": "Output activation",
    "normalization": "Intensity scaling",
    "weights": "Set of weights",
    "architecture.slope": "Activation slope",
}


@dataclass(frozen=True)
class OpenFact:
    """One thing that a checkpoint does not say.

    Attributes
    ----------
    field : str
        As `napari_unet.checkpoints.tell` takes it.
    title : str
        For people.
    value : str
        What is taken now.
    choices : tuple of str
        What is offered, `value` first; anything else may be typed where there are none.
    reason : str
        Why it is open, or who told it.
    told : bool
        Whether a person said so.
    """

    field: str
    title: str
    value: str
    choices: tuple[str, ...]
    reason: str
    told: bool = False


def open_facts(facts: Mapping[str, Any]) -> tuple[OpenFact, ...]:
    """List what was assumed, then what a person told.

    Parameters
    ----------
    facts : mapping
        What `napari_unet.checkpoints.inspect` returns.
    """
    return (*map(_assumed, facts.get("assumed", ())), *_told(facts.get("told") or {}))


def read_value(text: str) -> Any:
    """Read a typed value: JSON, else a word."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def _assumed(fact: Mapping[str, Any]) -> OpenFact:
    value = written(fact["value"])
    others = tuple(written(a) for a in fact.get("alternatives", ()))
    return OpenFact(
        fact["field"],
        title(fact["field"]),
        value,
        (value, *others) if others else (),
        str(fact.get("reason", "")),
    )


def _told(told: Mapping[str, Any]) -> list[OpenFact]:
    settings = told.get("architecture", {})
    said = {f"{_ARCHITECTURE}{name}": value for name, value in settings.items()}
    said |= {name: value for name, value in told.items() if name != "architecture"}
    return [
        OpenFact(name, title(name), written(value), (), "You said so.", told=True)
        for name, value in said.items()
    ]


def title(field: str) -> str:
    """Name a field for people, such as ``"Strides"``."""
    words = field.removeprefix(_ARCHITECTURE).replace("_", " ")
    return _TITLES.get(field, words[:1].upper() + words[1:])


def written(value: Any) -> str:
    """Write a value as a person would type it; a scaling by its kind."""
    if isinstance(value, str):
        return value
    kinds = _kinds(value)
    return kinds if kinds else json.dumps(value)


def shown(text: str) -> str:
    """Write a value for people: scalings in words instead of settings."""
    value = read_value(text)
    is_list = isinstance(value, list) and bool(value)
    if not is_list or not all(isinstance(v, dict) and "kind" in v for v in value):
        return text
    words = dict.fromkeys(_scaling(v) for v in value)
    return words.popitem()[0] if len(words) == 1 else "apart for each channel"


def _scaling(settings: Mapping[str, Any]) -> str:
    kind = str(settings["kind"])
    if kind == "linear":
        return f"x {settings.get('gain', 1):.3g} + {settings.get('offset', 0):.3g}"
    if kind == "percentile":
        return f"percentile {settings.get('low', 1):g}-{settings.get('high', 99.8):g}"
    return kind


def _kinds(value: Any) -> str:
    """Name one plain scaling, empty where there is more to it."""
    is_one = isinstance(value, (list, tuple)) and len(value) == 1
    only = value[0] if is_one else None
    return str(only["kind"]) if isinstance(only, dict) and set(only) == {"kind"} else ""
