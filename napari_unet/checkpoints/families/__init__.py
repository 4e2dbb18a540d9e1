"""Checkpoint families: one file each, found by being in this folder."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from napari_unet.checkpoints.families.base import Family

if TYPE_CHECKING:
    from collections.abc import Iterator


def _found() -> Iterator[Family]:
    """Make one of each family defined in the modules of this package."""
    for entry in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{entry.name}")
        for value in vars(module).values():
            is_own = isinstance(value, type) and value.__module__ == module.__name__
            if is_own and issubclass(value, Family) and hasattr(value, "name"):
                yield value()


FAMILIES: tuple[Family, ...] = tuple(_found())


def by_name(name: str) -> Family | None:
    """Return the family of that name, None if there is none."""
    return next((f for f in FAMILIES if f.name == name), None)
