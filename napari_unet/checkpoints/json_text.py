"""JSON from other people's files: plain values of sane size and depth."""

from __future__ import annotations

import json
from typing import Any


def read_json(text: bytes) -> Any:
    """Read JSON of a size that was checked.

    Raises
    ------
    ValueError
        If it is no JSON, nests too deeply, has numbers without measure, or a name
        occurs twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("no readable JSON (too many levels)") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a name occurs twice")
    return mapping
