"""YAML from other people's folders: plain values of sane size and depth."""

from __future__ import annotations

from typing import Any

import yaml


def read_yaml(text: bytes, most_aliases: int = 100, deepest: int = 32) -> Any:
    """Read YAML, which makes plain values and runs nothing.

    Parameters
    ----------
    text : bytes
        Of a size that was checked.
    most_aliases, deepest : int
        References and levels that are allowed; a short text with many of either grows
        without measure.

    Raises
    ------
    ValueError
        If it is no YAML or has too many aliases or levels.
    """
    try:
        depth = aliases = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if aliases > most_aliases or depth > deepest:
                raise ValueError(f"over {most_aliases} aliases or {deepest} levels")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"no readable YAML ({type(error).__name__})") from error
