"""Colours of stroke classes, told apart by colour-blind people.

From M. Okabe and K. Ito, "Color universal design" (2008); background first.
"""

from __future__ import annotations

COLOURS = (
    "#0072b2",
    "#e69f00",
    "#cc79a7",
    "#009e73",
    "#f0e442",
    "#d55e00",
    "#56b4e9",
)


def colour(number: int) -> str:
    """Colour of a stroke class, numbered from 1, as ``#rrggbb``."""
    return COLOURS[(number - 1) % len(COLOURS)]
