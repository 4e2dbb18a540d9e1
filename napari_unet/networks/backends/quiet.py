"""Builders' own warnings, which tell their developers something, are not shown."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings of torch.export and what builds on it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
