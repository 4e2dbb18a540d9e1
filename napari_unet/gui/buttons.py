"""Which buttons can be pressed, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.gui import words
from napari_unet.gui.keys import NEXT, PREDICT, PREVIEW, TRAIN

if TYPE_CHECKING:
    from napari_unet.gui.state import Activity, State, Strokes


@dataclass(frozen=True)
class Button:
    """A button: where it cannot be pressed, its text or tooltip says why."""

    text: str
    enabled: bool = True
    tip: str = ""


def predict(state: State) -> Button:
    """Make the button for the whole image."""
    tip = f"Predict the whole image. Key: {PREDICT}"
    return _main(state, "Predict all", "predict", no_prediction(state), tip)


def train(state: State) -> Button:
    """Make the button that learns."""
    start = state.start.name if state.start else "a new U-Net"
    tip = f"Learn from all strokes, from {start} on. Key: {TRAIN}, again to stop."
    text = "Fine-tune on my strokes" if state.start else "Train on my strokes"
    return _main(state, text, "train", no_training(state), tip)


def next_to_learn(state: State) -> str:
    """Name the button of the Train page that is of use next, the blue one."""
    if state.activity is not None or no_image(state):
        return ""
    if state.strokes is None or not state.strokes.fits:
        return "new_strokes"
    return "paint" if _too_little(state, state.strokes) else "train"


def batch(state: State) -> Button:
    """Make the button that does the chosen files."""
    text = f"Run {words.count(len(state.files), 'file')}"
    if state.paused:
        left = sum(file.status in ("waiting", "working") for file in state.files)
        text = f"Go on with {words.count(left, 'file')}"
    tip = "Files that are done already, with this model and settings, are passed over."
    return _main(state, text, "batch", _no_batch(state), tip)


def pause_batch(state: State) -> Button:
    """Make the button that stops a batch to go on later."""
    if state.activity is None or state.activity.kind != "batch":
        return Button("Pause", False, "No batch runs.")
    if state.activity.stopping:
        return Button("Pausing …", False, "It ends within five seconds.")
    return Button("Pause", True, "Stop now; what is done is kept, and Run goes on.")


def retry(state: State) -> Button:
    """Make the button that does again what failed."""
    failed = sum(file.status == "failed" for file in state.files)
    if not failed:
        return Button("Retry failed", False, "No file has failed.")
    reason = "One job at a time." if state.activity else _no_batch(state)
    tip = reason or "Do the files again that failed; the others are passed over."
    return Button(f"Retry {failed} failed", not reason, tip)


def command(state: State) -> Button:
    """Make the button that gives the command line of a batch."""
    reason = _no_batch(state)
    tip = f"{reason}." if reason else "The same run for a terminal or a cluster."
    return Button("Copy as command line", not reason, tip)


def from_scratch(state: State) -> bool:
    """Whether training makes a new network."""
    return state.start is None


def _main(state: State, text: str, kind: str, reason: str, tip: str = "") -> Button:
    """Make the blue button of a page: its text is the reason where it cannot act."""
    if state.activity is not None:
        working = state.activity.kind == kind
        return Button("Working …" if working else text, False, "One job at a time.")
    return Button(reason or text, not reason, "" if reason else tip)


def no_image(state: State) -> str:
    """Say why no image can be worked on, or nothing."""
    if state.image is None:
        return "Open an image first"
    if state.image.axes is None:
        return "Say what the axes are, above"
    if 0 in state.image.shape:
        return "The image is empty"
    return ""


def no_prediction(state: State) -> str:
    """Say why nothing can be predicted, or nothing."""
    if state.model is None:
        return "Choose a model first"
    return no_image(state) or _misfit(state)


def _misfit(state: State) -> str:
    """Why the model does not fit the image, or nothing."""
    if state.model is None or state.image is None:
        return ""
    facts, sizes = state.model.facts, state.image.sizes
    if int(facts["ndim"]) == 3 and "Z" not in sizes:
        return "This 3D model needs a Z axis"
    needed, have = int(facts["in_channels"]), sizes.get("C", 1)
    if state.channels is None and needed != have:
        return f"Model takes {words.count(needed, 'channel')}, not {have}"
    if state.channels is not None and len(state.channels) != needed:
        return f"Choose {words.count(needed, 'channel')}"
    if state.channels is not None and max(state.channels) >= have:
        return f"Channels go from 0 to {have - 1}"
    return ""


def preview(state: State) -> Button:
    """Make the button for the visible part."""
    text = "Preview view" if state.aside is None else "Previewing …"
    if state.activity is not None and state.activity.kind != "predict":
        return Button(text, False, "One job at a time.")
    if reason := no_prediction(state):
        return Button(text, False, f"{reason}.")
    if state.image is not None and not state.image.flat:
        return Button(text, False, "Switch the viewer to 2D to preview a plane.")
    return Button(text, True, f"Predict only what the canvas shows now. Key: {PREVIEW}")


def measure(state: State) -> Button:
    """Make the button that measures the objects of the prediction."""
    text = "Measure objects"
    if state.activity is not None:
        return Button(text, False, "One job at a time.")
    if state.image is None or state.model is None:
        return Button(text, False, "Predict an image first.")
    return Button(text, True, "Size, place and intensity of each object in a table.")


def no_training(state: State) -> str:
    """Why nothing can be learned, or nothing."""
    if reason := no_image(state):
        return reason
    if state.strokes is None:
        return "Make a stroke layer first"
    if not state.strokes.fits:
        return "Strokes and image differ in size"
    if reason := _too_little(state, state.strokes):
        return reason
    return "" if from_scratch(state) else _misfit(state)


def _too_little(state: State, strokes: Strokes) -> str:
    """Why nothing can be learned from what is painted, or nothing."""
    pictures = state.project.pictures if state.project else ()
    if len(pictures) > 1 or any(picture.boxes for picture in pictures):
        return ""
    if sum(n > 0 for n in strokes.counts.values()) >= 2:
        return ""
    return f"Paint at least 2 {'objects' if state.kind == 'instances' else 'classes'}"


def _no_batch(state: State) -> str:
    """Why no folder can be done, or nothing."""
    if state.model is None:
        return "Choose a model first"
    if state.listing:
        return "Looking for images …"
    if not state.files:
        return "Choose images first"
    return "" if state.output else "Choose a results folder"


def undo(state: State) -> Button:
    """Make the button that goes back to the model that was used before."""
    if not state.past:
        return Button("Undo", False, "No round was trained yet.")
    if state.activity is not None:
        return Button("Undo", False, "One job at a time.")
    before = state.past[-1].name if state.past[-1] else "no model"
    return Button("Undo", True, f"Go back to {before}.")


def pause(state: State) -> Button | None:
    """Make the button that lets a training rest, if one runs."""
    activity = state.activity
    if activity is None or activity.kind != "train":
        return None
    if not activity.learns:
        return Button("Pause", False, "It has not begun yet.")
    if activity.stopping:
        return Button("Pause", False, "It stops.")
    if activity.paused:
        return Button("Go on", True, "Let the training go on.")
    return Button("Pause", True, "Let the training rest; its time stands still.")


def go_on(state: State) -> Button | None:
    """Make the button that continues a round that was ended early, if there is one."""
    begun = state.cut_short
    if begun is None:
        return None
    text = f"Go on with round {begun.number} ({begun.share:.0%})"
    if state.activity is not None:
        return Button(text, False, "One job at a time.")
    if state.strokes is None or not state.strokes.fits:
        return Button(text, False, "Choose the strokes of this image first.")
    tip = "It was ended early; it goes on from what it has learned by then."
    return Button(text, True, tip)


def next_spot(state: State) -> Button:
    """Make the button that flies to where the model is least sure."""
    tip = f"Go where the model is least sure and nothing is painted. Key: {NEXT}"
    return _with_model(state, "Next spot", tip)


def check(state: State) -> Button:
    """Make the button that looks for wrong strokes."""
    reason = no_training(state)
    if state.activity is not None:
        reason = "One job at a time"
    tip = (
        "Train a few times without some strokes, and list those it contradicts, on all "
        "images of the project."
    )
    return Button("Check my strokes", not reason, f"{reason}." if reason else tip)


def patches(state: State) -> Button:
    """Make the button that shows augmented patches."""
    reason = no_training(state)
    if state.activity is not None:
        reason = "One job at a time"
    tip = "Show how the strokes look to the network with the options below."
    return Button("Show patches", not reason, f"{reason}." if reason else tip)


def _with_model(state: State, text: str, tip: str) -> Button:
    """Make a button that needs a model and a plane in view."""
    reason = no_prediction(state)
    if state.activity is not None:
        reason = "One job at a time"
    elif not reason and state.image is not None and not state.image.flat:
        reason = "Switch the viewer to 2D"
    return Button(text, not reason, f"{reason}." if reason else tip)


def use_anyway(state: State) -> Button | None:
    """Make the button that takes a round that scored lower, if there is one."""
    if state.declined is None:
        return None
    if state.activity is not None:
        return Button("Use it anyway", False, "One job at a time.")
    name = state.declined.name
    return Button("Use it anyway", True, f"{name} becomes the model that is used.")


def stop(activity: Activity | None) -> Button:
    """Make the button that stops what runs."""
    if activity is None:
        return Button("Stop", False, "Nothing runs.")
    if activity.stopping:
        soon = "ten" if activity.kind == "train" else "two"
        return Button("Stopping …", False, f"It ends within {soon} seconds.")
    return Button("Stop", True, f"Stop: {activity.title}.")
