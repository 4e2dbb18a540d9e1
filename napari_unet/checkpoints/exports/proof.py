"""The outcome of an export, which is read again and compared."""

from __future__ import annotations

from dataclasses import dataclass, field

TOLERANCE = 1e-5


@dataclass
class Written:
    """Outcome of a writer: the difference found on reading again, and notes."""

    difference: float
    notes: list[str] = field(default_factory=list)
