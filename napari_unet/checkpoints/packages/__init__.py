"""Packages: folders and zip archives that describe a model; one module each."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from napari_unet.checkpoints.packages.base import Package

if TYPE_CHECKING:
    from collections.abc import Iterator


def _found() -> Iterator[Package]:
    """Make one of each kind of package defined in the modules beside this one."""
    for entry in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{entry.name}")
        for value in vars(module).values():
            is_own = isinstance(value, type) and value.__module__ == module.__name__
            if is_own and issubclass(value, Package) and hasattr(value, "title"):
                yield value()


PACKAGES: tuple[Package, ...] = tuple(_found())
