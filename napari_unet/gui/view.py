"""A pure function from what the dock knows to what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.gui import words
from napari_unet.gui.strokes import colour

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.gui.state import (
        Activity,
        BatchFile,
        Image,
        Model,
        Round,
        State,
        Tone,
    )


@dataclass(frozen=True)
class Button:
    """A button: where it cannot be pressed, its text or tooltip says why."""

    text: str
    enabled: bool = True
    tip: str = ""


@dataclass(frozen=True)
class ClassRow:
    """One line of the legend."""

    number: int
    name: str
    pixels: int
    colour: str
    painting: bool


@dataclass(frozen=True)
class View:
    """Everything the dock shows, ready to be put into widgets."""

    model_name: str
    model_line: str
    model_tip: str
    model_path: str
    kind: str
    has_threshold: bool
    images: tuple[str, ...]
    image: str
    image_line: str
    shape: tuple[int, ...]
    ask_axes: bool
    axes: str
    ask_channels: bool
    stroke_layers: tuple[str, ...]
    strokes: str
    classes: tuple[ClassRow, ...]
    can_start_from_model: bool
    from_scratch: bool
    preview: Button
    predict: Button
    new_strokes: Button
    train: Button
    undo: Button
    batch: Button
    score: str
    curves: Mapping[str, tuple[tuple[float, float], ...]]
    files: tuple[BatchFile, ...]
    output: str
    busy: bool
    fraction: float | None
    stop: Button
    status: str
    tone: Tone


def resolve(state: State) -> View:
    """Decide what is shown, from what is known."""
    image, model, activity = state.image, state.model, state.activity
    return View(
        model_name=model.name if model else "",
        model_line=words.model_line(model.facts) if model else "",
        model_tip=_model_tip(model),
        model_path=model.path if model else "",
        kind=words.best_kind(model.facts) if model else "labels",
        has_threshold=model is None or model.facts.get("activation") == "sigmoid",
        images=state.images,
        image=image.name if image else "",
        image_line=_image_line(image),
        shape=image.shape if image else (),
        ask_axes=image is not None and len(image.shape) > 2,
        axes=(image.axes or "") if image else "",
        ask_channels=image is not None and image.sizes.get("C", 1) > 1,
        stroke_layers=state.stroke_layers,
        strokes=state.strokes.name if state.strokes else "",
        classes=_legend(state),
        can_start_from_model=model is not None,
        from_scratch=_from_scratch(state),
        preview=_preview(state),
        predict=_main_button(state, "Predict all", "predict", _no_prediction(state)),
        new_strokes=_new_strokes(state),
        train=_main_button(
            state, "Fine-tune on my strokes", "train", _no_training(state)
        ),
        undo=_undo(state),
        batch=_main_button(
            state,
            f"Run {words.count(len(state.files), 'file')}",
            "batch",
            _no_batch(state),
        ),
        score=_score(state.round),
        curves=state.curves,
        files=state.files,
        output=state.output,
        busy=activity is not None,
        fraction=activity.fraction if activity else None,
        stop=_stop(activity),
        status=_status(state),
        tone="plain" if activity else state.tone,
    )


def _from_scratch(state: State) -> bool:
    """Whether training makes a new network."""
    return state.from_scratch or state.model is None


def _main_button(state: State, text: str, kind: str, reason: str) -> Button:
    """Make the blue button of a page: its text is the reason where it cannot act."""
    if state.activity is not None:
        working = state.activity.kind == kind
        return Button("Working …" if working else text, False, "One job at a time.")
    return Button(reason or text, not reason, "")


def _no_image(state: State) -> str:
    """Why no image can be worked on, or nothing."""
    if state.image is None:
        return "Open an image first"
    if state.image.axes is None:
        return "Say what the axes are, above"
    if 0 in state.image.shape:
        return "The image is empty"
    return ""


def _no_prediction(state: State) -> str:
    """Why nothing can be predicted, or nothing."""
    if state.model is None:
        return "Choose a model first"
    return _no_image(state) or _misfit(state)


def _misfit(state: State) -> str:
    """Why the model does not fit the image, or nothing."""
    if state.model is None or state.image is None:
        return ""
    facts, sizes = state.model.facts, state.image.sizes
    if int(facts["ndim"]) == 3 and "Z" not in sizes:
        return "This 3D model needs a Z axis"
    needed, have = int(facts["in_channels"]), sizes.get("C", 1)
    if state.channels is None and needed != have:
        return f"Model takes {words.count(needed, 'channel')}, image has {have}"
    if state.channels is not None and len(state.channels) != needed:
        return f"Choose {words.count(needed, 'channel')}"
    if state.channels is not None and max(state.channels) >= have:
        return f"Channels go from 0 to {have - 1}"
    return ""


def _preview(state: State) -> Button:
    """Make the button for the visible part."""
    text = "Preview view"
    if state.activity is not None:
        return Button(text, False, "One job at a time.")
    if reason := _no_prediction(state):
        return Button(text, False, f"{reason}.")
    if state.image is not None and not state.image.flat:
        return Button(text, False, "Switch the viewer to 2D to preview a plane.")
    return Button(text, True, "Predict only what the canvas shows now.")


def _new_strokes(state: State) -> Button:
    """Make the button for a new stroke layer."""
    reason = _no_image(state)
    tip = f"{reason}." if reason else "Make a layer to paint examples on."
    return Button("New stroke layer", not reason, tip)


def _no_training(state: State) -> str:
    """Why nothing can be learned, or nothing."""
    if reason := _no_image(state):
        return reason
    if state.strokes is None:
        return "Make a stroke layer first"
    if not state.strokes.fits:
        return "Strokes and image differ in size"
    if sum(n > 0 for n in state.strokes.counts.values()) < 2:
        return "Paint at least 2 classes"
    return "" if _from_scratch(state) else _misfit(state)


def _no_batch(state: State) -> str:
    """Why no folder can be done, or nothing."""
    if state.model is None:
        return "Choose a model first"
    if not state.files:
        return "Choose images first"
    return "" if state.output else "Choose a results folder"


def _undo(state: State) -> Button:
    """Make the button that goes back to the model before the last round."""
    if state.round is None:
        return Button("Undo round", False, "No round was trained yet.")
    if state.activity is not None:
        return Button("Undo round", False, "One job at a time.")
    before = state.round.parent.name if state.round.parent else "no model"
    return Button("Undo round", True, f"Go back to {before}.")


def _stop(activity: Activity | None) -> Button:
    """Make the button that stops what runs."""
    if activity is None:
        return Button("Stop", False, "Nothing runs.")
    if activity.stopping:
        return Button("Stopping …", False, "It ends within two seconds.")
    return Button("Stop", True, f"Stop: {activity.title}.")


def _status(state: State) -> str:
    """Write the sentence of the footer."""
    if state.activity is not None:
        note = f" · {state.activity.note}" if state.activity.note else ""
        return state.activity.title + note
    return state.message or _next_step(state)


def _next_step(state: State) -> str:
    """Say what to do next while nothing else is to be said."""
    if state.image is None:
        return "Open an image in napari, or try the sample."
    if state.image.axes is None:
        return "Say what the axes of the image are."
    if state.model is None:
        return "Choose a model, or paint strokes and train a new one."
    return "Ready. Preview the view, or paint where the model is wrong."


def _image_line(image: Image | None) -> str:
    """Say what the image is."""
    if image is None:
        return "No image is open. Drop one on the viewer."
    if image.axes is None:
        size = " × ".join(map(str, image.shape))
        return f"{len(image.shape)} axes ({size}): which are they?"
    return words.describe(image.axes, image.shape)


def _model_tip(model: Model | None) -> str:
    """Tell all that is known of a model, one fact a line."""
    if model is None:
        return ""
    facts = model.facts
    lines = [model.path, f"Family: {facts.get('family', 'unknown')}"]
    if names := facts.get("classes"):
        lines.append(f"Classes: {', '.join(map(str, names))}")
    if assumed := facts.get("assumed"):
        lines.append(f"Assumed: {_listed(assumed)}")
    if reason := facts.get("reason"):
        lines.append(f"Tiles are blended: {reason}")
    if digest := facts.get("sha256"):
        lines.append(f"SHA-256: {str(digest)[:12]}")
    return "\n".join(lines)


def _listed(values: Any) -> str:
    """Join the names of a mapping with their values, or the items of a sequence."""
    if isinstance(values, dict):
        return ", ".join(f"{name} = {value}" for name, value in values.items())
    return ", ".join(map(str, values))


def _legend(state: State) -> tuple[ClassRow, ...]:
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
        for number in range(1, min(total, 20) + 1)
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


def _score(result: Round | None) -> str:
    """Say how much a round helped."""
    if result is None:
        return ""
    if result.after is None:
        return result.note or "No strokes could be held out, so there is no score."
    if result.before is None:
        return f"Dice {result.after:.2f} on held-out strokes"
    change = result.after - result.before
    return (
        f"Dice {result.before:.2f} → {result.after:.2f} ({change:+.2f}) "
        "on held-out strokes"
    )
