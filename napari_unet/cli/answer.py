"""The answer of a command: an exit code, and one text or one JSON object."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DONE, FAILED, USAGE, SOME_FAILED, STOPPED = 0, 1, 2, 3, 130


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes
    ----------
    facts : mapping
        For ``--json``.
    text : str
        For a person.
    code : int
        Exit code.
    """

    facts: Mapping[str, Any]
    text: str = ""
    code: int = DONE

    def to_json(self) -> str:
        """Write the facts as one line of strict JSON, pure ASCII."""
        return json.dumps(plain(self.facts), allow_nan=False)


def plain(value: Any) -> Any:
    """Turn any value into what JSON knows; NaN and infinity become null."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def table(facts: Mapping[str, Any], indent: str = "") -> str:
    """Write facts one a line, nested ones indented."""
    lines = []
    for name, value in plain(facts).items():
        label = f"{indent}{name.replace('_', ' ')}"
        parts = value if isinstance(value, list) else [value]
        if indent and isinstance(value, dict) and not any(map(_is_nested, parts)):
            lines.append(f"{label}: {_row(value)}")
        elif any(isinstance(part, dict) and part for part in parts):
            lines += [label, *(table(part, indent + "  ") for part in parts)]
        else:
            lines.append(f"{label}: {_cell(value)}")
    return "\n".join(lines)


def _is_nested(facts: dict[str, Any]) -> bool:
    """Whether facts hold more than single values."""
    return any(isinstance(value, (dict, list)) for value in facts.values())


def _row(facts: dict[str, Any]) -> str:
    """Write single values on one line."""
    return ", ".join(f"{name} {_cell(value)}" for name, value in facts.items()) or "-"


def _cell(value: Any, between: str = ", ") -> str:
    """Write one value; a list within a list as 2 x 2."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        if any(str(item).endswith(".") for item in value):
            between = " "
        return between.join(_cell(item, " x ") for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
