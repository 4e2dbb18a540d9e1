"""A batch as the command line that does the same."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import Config


def batch_command(
    inputs: Sequence[str], model: str, output: str, config: Config
) -> str:
    """Write a batch as a line for a terminal.

    Parameters
    ----------
    inputs : sequence of str
        Files and folders.
    model, output : str
        The checkpoint, and the folder of the results.
    config : Config
        The settings; those that are as usual are left out.

    Returns
    -------
    str
        Quoted for the shell of this system.
    """
    words = ["napari-unet", "batch", *map(_name, inputs)]
    words += ["--model", _name(model), "--output", _name(output), *options(config)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def options(config: Config) -> list[str]:
    """List the options that say what is unusual about settings."""
    usual = {n: field.default for n, field in type(config).model_fields.items()}
    changed = {n: v for n, v in config if v != usual[n]}
    return [word for name, value in changed.items() for word in _option(name, value)]


def _option(name: str, value: Any) -> list[str]:
    """Write one option; what may be switched is on or off by its name."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{flag}", *map(str, values)]


def _name(path: str) -> str:
    """Keep a name that begins with a dash from being taken for an option."""
    return os.path.join(".", path) if path.startswith("-") else path
