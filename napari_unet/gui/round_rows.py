"""The rounds as the dock lists them, and what can be done with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.gui.buttons import Button
from napari_unet.gui.keys import KEEP
from napari_unet.gui.words import count

if TYPE_CHECKING:
    from napari_unet.gui.learning import Round
    from napari_unet.gui.state import State


@dataclass(frozen=True)
class RoundRow:
    """One line of the table of rounds."""

    path: str
    name: str
    strokes: str = ""
    score: str = ""
    used: bool = False
    kept: bool = False
    tip: str = ""


def round_rows(state: State) -> tuple[RoundRow, ...]:
    """List the base and its rounds."""
    base, used = state.start, state.model.path if state.model else ""
    name = base.name if base else "a new U-Net"
    path = base.path if base else ""
    first = RoundRow(path, name, used=bool(base) and path == used, tip=path)
    return (first, *(_row(made, used) for made in state.rounds))


def _row(made: Round, used: str) -> RoundRow:
    """Tell of one round."""
    said = [Path(made.path).name, count(made.strokes, "stroke")]
    if made.before is not None and made.after is not None:
        said.append(f"Dice {made.before:.3f} before, {made.after:.3f} after")
    if made.interval is not None:
        low, high = made.interval
        said.append(f"95 % interval {low:.3f} to {high:.3f}")
    said += [text for text in (*made.worse, made.note) if text]
    return RoundRow(
        made.path,
        made.name,
        str(made.strokes),
        score(made),
        made.path == used,
        made.kept,
        "\n".join(said),
    )


def score(made: Round) -> str:
    """Write a score with half the width of its interval, or that there is none."""
    if made.after is None:
        return "none yet"
    if made.interval is None:
        return f"{made.after:.2f}"
    low, high = made.interval
    return f"{made.after:.2f} ± {(high - low) / 2:.2f}"


def use(state: State, path: str) -> Button:
    """Make the button that uses the chosen round."""
    if not path:
        return Button("Use", False, "Choose a round above.")
    if state.model is not None and state.model.path == path:
        return Button("Use", False, "It is the one in use.")
    return _unless_busy(state, "Use", "Predict with it from now on.")


def keep(state: State, path: str) -> Button:
    """Make the button that marks the chosen round, else the one in use."""
    path = path or (state.round.path if state.round else "")
    made = next((r for r in state.rounds if r.path == path), None)
    if made is None:
        return Button("Keep", False, "Choose a round above.")
    if made.kept:
        return Button("Let go", True, "It may be deleted then.")
    return Button("Keep", True, f"It cannot be deleted then. Key: {KEEP}")


def delete(state: State, path: str) -> Button:
    """Make the button that deletes the chosen round."""
    made = next((r for r in state.rounds if r.path == path), None)
    if made is None:
        return Button("Delete", False, "Choose a round above; the base stays.")
    if made.kept:
        return Button("Delete", False, "It is kept; let it go first.")
    if made == state.round:
        return Button("Delete", False, "It is the one in use.")
    return _unless_busy(state, "Delete", "Delete its files.")


def export(state: State, path: str) -> Button:
    """Make the button that exports the chosen round."""
    if not any(r.path == path for r in state.rounds):
        return Button("Export", False, "Choose a round above.")
    return _unless_busy(state, "Export", "Write it for other programs.")


def redo(state: State) -> Button:
    """Make the button that takes an undo back."""
    if not state.future:
        return Button("Redo", False, "Nothing was undone.")
    after = state.future[0].name if state.future[0] else "no model"
    return _unless_busy(state, "Redo", f"Use {after} again.")


def _unless_busy(state: State, text: str, tip: str) -> Button:
    if state.activity is not None:
        return Button(text, False, "One job at a time.")
    return Button(text, True, tip)
