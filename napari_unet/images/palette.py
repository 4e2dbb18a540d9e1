"""Colours of classes, the same in the dock and in files."""

from __future__ import annotations

# Okabe and Ito's palette, told apart by colour-blind people; background first
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
    """Colour of a stroke class, as ``#rrggbb``; 1 is background."""
    return COLOURS[(number - 1) % len(COLOURS)]


def class_colour(label: int) -> str:
    """Colour of a class, as ``#rrggbb``: that of the stroke that taught it."""
    return colour(label + 1)


def rgb(text: str) -> tuple[int, int, int]:
    """Red, green and blue from 0 to 255 of ``#rrggbb``."""
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue
