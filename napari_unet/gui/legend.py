"""The classes of strokes as the dock lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.projects.schema import new_class

if TYPE_CHECKING:
    from napari_unet.gui.state import Model, State
    from napari_unet.projects.schema import Kind

_MOST = 20


@dataclass(frozen=True)
class ClassRow:
    """One line of the legend."""

    number: int
    name: str
    pixels: int
    colour: str
    painting: bool
    hidden: bool = False


def kind(state: State) -> Kind:
    """Whether ids are classes or objects: as chosen, else as they look."""
    return state.guess[0] if state.kind == "auto" else state.kind


def legend(state: State) -> tuple[ClassRow, ...]:
    """List the classes that are painted or can be painted, the first twenty."""
    counts = state.strokes.counts if state.strokes else {}
    known = {known.number: known for known in state.classes}
    painted = [number for number, n in counts.items() if n]
    rows = []
    for number in sorted({*known, *painted})[:_MOST]:
        shown = known.get(number) or new_class(number)
        rows.append(
            ClassRow(
                number,
                shown.name or class_name(state.model, number),
                counts.get(number, 0),
                shown.colour,
                number == state.painting,
                shown.hidden,
            )
        )
    return tuple(rows)


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
