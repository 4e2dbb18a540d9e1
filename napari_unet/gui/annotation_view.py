"""What the strokes half of the Train page shows, from what is known."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.gui import stroke_buttons, words
from napari_unet.gui.legend import kind, legend

if TYPE_CHECKING:
    from napari_unet.gui.buttons import Button
    from napari_unet.gui.legend import ClassRow
    from napari_unet.gui.state import PictureRow, State
    from napari_unet.projects.schema import Kind


@dataclass(frozen=True)
class AnnotationView:
    """Everything about strokes, ready to be put into widgets."""

    layers: tuple[str, ...]
    strokes: str
    has_strokes: bool
    """Whether there are strokes that lie on the image."""
    rows: tuple[ClassRow, ...]
    objects: str
    """Said in place of the rows where ids are objects."""
    kind: Kind
    kind_note: str
    project: str
    project_tip: str
    pictures: tuple[PictureRow, ...]
    offer: str
    new: Button
    paint: Button
    box: Button
    accept: Button
    discs: Button
    add_class: Button
    mark_all: Button
    save_as: Button


def annotation(state: State) -> AnnotationView:
    """Decide what is shown."""
    return AnnotationView(
        layers=state.stroke_layers,
        strokes=state.strokes.name if state.strokes else "",
        has_strokes=state.strokes is not None and state.strokes.fits,
        rows=legend(state),
        objects=_objects(state),
        kind=state.kind,
        kind_note=_kind_note(state),
        project=_project(state),
        project_tip=state.project.folder if state.project else "",
        pictures=state.project.pictures if state.project else (),
        offer=_offer(state),
        new=stroke_buttons.new_strokes(state),
        paint=stroke_buttons.paint(state),
        box=stroke_buttons.box(state),
        accept=stroke_buttons.accept(state),
        discs=stroke_buttons.discs(state),
        add_class=stroke_buttons.add_class(state),
        mark_all=stroke_buttons.mark_all(state),
        save_as=stroke_buttons.save_as(state),
    )


def _objects(state: State) -> str:
    """Say how many objects are painted; nothing where ids are classes."""
    if state.strokes is None or kind(state) != "instances":
        return ""
    counts = state.strokes.counts
    pixels = words.grouped(sum(counts.values()))
    return f"{words.count(len(counts), 'object')} · {pixels} px"


def _kind_note(state: State) -> str:
    """Say what ids look like, where that is found out."""
    if state.kind != "auto" or state.strokes is None or not state.guess[1]:
        return ""
    noun = "objects" if state.guess[0] == "instances" else "classes"
    return f"They look like {noun}: {state.guess[1]}."


def _project(state: State) -> str:
    """Name the project."""
    if state.project is None:
        return "none"
    return "unsaved" if state.project.unsaved else words.short(state.project.name, 12)


def _offer(state: State) -> str:
    """Say what was painted earlier, where it is for the image that is chosen."""
    offer, image = state.offer, state.image
    if offer is None or image is None or offer.image != image.name:
        return ""
    when = time.strftime("%d %b, %H:%M", time.localtime(offer.saved))
    return f"Strokes of {when} are kept: {words.grouped(offer.painted)} px."
