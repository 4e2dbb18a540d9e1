"""Buttons of the strokes half of the Train page, and why some cannot be pressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.gui import legend
from napari_unet.gui.buttons import Button, no_image
from napari_unet.gui.keys import ACCEPT

if TYPE_CHECKING:
    from napari_unet.gui.state import State


def new_strokes(state: State) -> Button:
    """Make the button for a new stroke layer."""
    reason = no_image(state)
    tip = f"{reason}." if reason else "Make a layer to paint examples on."
    return Button("New stroke layer", not reason, tip)


def paint(state: State) -> Button:
    """Make the button that takes the brush."""
    tip = "Take the brush, with a class that is not painted yet."
    if legend.kind(state) == "instances":
        tip = "Take the brush, with the number of a new object."
    return _on_strokes(state, "Paint", tip)


def box(state: State) -> Button:
    """Make the button that draws a complete box."""
    tip = "Draw a box in which nothing was left out: the rest of it is background."
    return _on_strokes(state, "Complete box", tip)


def accept(state: State) -> Button:
    """Make the button that copies a prediction."""
    tip = (
        "Copy the predicted object under the cursor into the strokes; of background, "
        f"what the brush covers. Point at it and press {ACCEPT}."
    )
    button = _on_strokes(state, "Accept here", tip)
    if button.enabled and not state.results:
        return Button("Accept here", False, "Nothing is predicted yet.")
    return button


def discs(state: State) -> Button:
    """Make the button that turns points into discs."""
    tip = "Turn each point of the points layer into a painted disc of its size."
    button = _on_strokes(state, "Points to discs", tip)
    if button.enabled and not state.points:
        return Button("Points to discs", False, "There is no points layer.")
    return button


def add_class(state: State) -> Button:
    """Make the button for one more class."""
    if legend.kind(state) == "instances":
        return Button("Add class", False, "Ids are objects, not classes.")
    return _on_strokes(state, "Add class", "Offer one more class.")


def mark_all(state: State) -> Button:
    """Make the button that marks an image as nothing but one class."""
    names = {row.number: row.name for row in legend.legend(state)}
    name = names.get(state.painting, "background")
    tip = f"Say that all of this image that is not painted is {name}."
    return _on_strokes(state, f"All is {name}", tip)


def save_as(state: State) -> Button:
    """Make the button that saves the project."""
    if state.project is None:
        return Button("Save as …", False, "There are no strokes yet.")
    tip = "Keep strokes, classes and rounds in a folder of yours."
    return Button("Save as …", True, tip)


def _on_strokes(state: State, text: str, tip: str) -> Button:
    """Make a button that needs a stroke layer."""
    if reason := no_image(state):
        return Button(text, False, f"{reason}.")
    if state.strokes is None:
        return Button(text, False, "Make a stroke layer first.")
    if not state.strokes.fits:
        return Button(text, False, "Strokes and image differ in size.")
    return Button(text, True, tip)
