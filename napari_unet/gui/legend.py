"""The classes of strokes as the dock lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.images.palette import colour

if TYPE_CHECKING:
    from napari_unet.gui.state import Model, State

_MOST = 20


@dataclass(frozen=True)
class ClassRow:
    """One line of the legend."""

    number: int
    name: str
    pixels: int
    colour: str
    painting: bool


def legend(state: State) -> tuple[ClassRow, ...]:
    """List the classes that are painted or can be painted."""
    counts = state.strokes.counts if state.strokes else {}
    total = max([state.classes, *(number for number, n in counts.items() if n)])
    return tuple(
        ClassRow(
            number,
            class_name(state.model, number),
            counts.get(number, 0),
            _colour(state, number),
            number == state.painting,
        )
        for number in range(1, min(total, _MOST) + 1)
    )


def _colour(state: State, number: int) -> str:
    """Colour of a class: that of the stroke layer, else the one it will get."""
    colours = state.strokes.colours if state.strokes else ()
    return colours[number - 1] if number <= len(colours) else colour(number)


def class_name(model: Model | None, number: int) -> str:
    """Name a class of strokes: 1 is background, then the objects."""
    facts = model.facts if model else {}
    names = list(facts.get("classes") or ()) if facts.get("task") == "semantic" else []
    if names and str(names[0]).lower() in ("background", "bg"):
        names = names[1:]
    if number == 1:
        return "background"
    if len(names) > number - 2 and not str(names[number - 2]).startswith("class "):
        return str(names[number - 2])
    return "object" if number == 2 else f"object {number - 1}"
