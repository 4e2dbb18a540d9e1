"""A pure function from what the dock knows to what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.gui import buttons, words
from napari_unet.gui.annotation_view import annotation
from napari_unet.gui.legend import class_name, legend
from napari_unet.gui.open_facts import open_facts
from napari_unet.gui.outlook_view import outlook_view
from napari_unet.gui.round_rows import RoundRow, redo, round_rows
from napari_unet.tasks.decisions import decision_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.gui.annotation_view import AnnotationView
    from napari_unet.gui.buttons import Button
    from napari_unet.gui.learning import Round, Suspect
    from napari_unet.gui.open_facts import OpenFact
    from napari_unet.gui.outlook_view import OutlookView
    from napari_unet.gui.state import (
        Activity,
        BatchFile,
        Card,
        Image,
        Measured,
        Model,
        State,
        Tone,
    )


@dataclass(frozen=True)
class View:
    """Everything the dock shows, ready to be put into widgets."""

    model_name: str
    model_line: str
    model_tip: str
    model_path: str
    open_facts: tuple[OpenFact, ...]
    kind: str
    has_threshold: bool
    tally: str
    images: tuple[str, ...]
    image: str
    image_line: str
    shape: tuple[int, ...]
    ask_axes: bool
    axes: str
    ask_channels: bool
    annotation: AnnotationView
    base: str
    from_scratch: bool
    outlook: OutlookView
    preview: Button
    predict: Button
    measure: Button
    measured: Measured | None
    train: Button
    next_to_learn: str
    undo: Button
    redo: Button
    pause: Button | None
    go_on: Button | None
    next_spot: Button
    check: Button
    suspects: tuple[str, ...]
    patches_button: Button
    patches: tuple[Any, Any] | None
    doubt: bool
    rounds: tuple[RoundRow, ...]
    use_anyway: Button | None
    batch: Button
    pause_batch: Button
    retry: Button
    command: Button
    estimate: str
    score: str
    curves: Mapping[str, tuple[tuple[float, float], ...]]
    files: tuple[BatchFile, ...]
    output: str
    live: bool
    plan: Card | None
    busy: bool
    fraction: float | None
    stop: Button
    status: str
    tone: Tone


def resolve(state: State) -> View:
    """Decide what is shown, from what is known."""
    image, model = state.image, state.model
    activity = state.activity or state.aside
    return View(
        model_name=model.name if model else "",
        model_line=words.model_line(model.facts) if model else "",
        model_tip=_model_tip(model),
        model_path=model.path if model else "",
        open_facts=open_facts(model.facts) if model else (),
        kind=words.best_kind(model.facts) if model else "labels",
        has_threshold=_has_threshold(model),
        tally=state.tally,
        images=state.images,
        image=image.name if image else "",
        image_line=_image_line(image),
        shape=image.shape if image else (),
        ask_axes=image is not None and len(image.shape) > 2,
        axes=(image.axes or "") if image else "",
        ask_channels=image is not None and image.sizes.get("C", 1) > 1,
        annotation=annotation(state),
        base=state.base.name if state.base else "",
        from_scratch=buttons.from_scratch(state),
        outlook=outlook_view(state),
        preview=buttons.preview(state),
        predict=buttons.predict(state),
        measure=buttons.measure(state),
        measured=state.measured,
        train=buttons.train(state),
        next_to_learn=buttons.next_to_learn(state),
        undo=buttons.undo(state),
        redo=redo(state),
        pause=buttons.pause(state),
        go_on=buttons.go_on(state),
        next_spot=buttons.next_spot(state),
        check=buttons.check(state),
        suspects=tuple(_suspect(state, suspect) for suspect in state.suspects),
        patches_button=buttons.patches(state),
        patches=state.patches,
        doubt=state.doubt,
        rounds=round_rows(state),
        use_anyway=buttons.use_anyway(state),
        batch=buttons.batch(state),
        pause_batch=buttons.pause_batch(state),
        retry=buttons.retry(state),
        command=buttons.command(state),
        estimate=state.estimate,
        score=_score(state),
        curves=state.curves,
        files=state.files,
        output=state.output,
        live=state.live,
        plan=state.plan,
        busy=activity is not None,
        fraction=activity.fraction if activity else None,
        stop=buttons.stop(activity),
        status=_status(state, activity),
        tone="plain" if activity else state.tone,
    )


def _has_threshold(model: Model | None) -> bool:
    """Whether the labels of a model depend on a threshold."""
    if model is None:
        return True
    decision = decision_of(model.facts)
    if decision is None:  # cells out of flows
        return model.facts.get("task") == "flows"
    return decision.has_threshold


def _status(state: State, activity: Activity | None) -> str:
    """Write the sentence of the footer."""
    if activity is not None:
        if activity.stopping and activity.kind == "train":
            return "Stopping, keeping the best so far …"
        if activity.paused:
            return f"{activity.title} · paused"
        note = f" · {activity.note}" if activity.note else ""
        return activity.title + note
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
    if assumed := [f for f in open_facts(facts) if not f.told]:
        listed = ", ".join(f"{f.title.lower()} {f.value}" for f in assumed)
        lines.append(f"Assumed: {listed}")
    if reason := facts.get("reason"):
        lines.append(f"Tiles are blended: {reason}")
    if digest := facts.get("sha256"):
        lines.append(f"SHA-256: {str(digest)[:12]}")
    return "\n".join(lines)


def _score(state: State) -> str:
    """Say how much the last round helped, or that it is not used."""
    if state.declined is not None:
        using = words.short(state.model.name) if state.model else "no model"
        if state.declined.worse:
            why = " ".join(state.declined.worse)
            return f"{state.declined.name} is not used; still using {using}. {why}"
        dice = _dice(state.declined)
        return (
            f"{state.declined.name} is worse on held-out strokes ({dice}); "
            f"still using {using}"
        )
    last = state.round
    if last is None:
        return ""
    if last.after is None:
        told = "No validation yet" in last.note
        return last.note if told else f"No validation yet. {last.note}".strip()
    if last.before is None:
        return f"{_dice(last)} on held-out strokes"
    change = last.after - last.before
    note = f". {last.note}" if last.note else ""
    return f"{_dice(last)} ({change:+.2f}) on held-out strokes{note}"


def _suspect(state: State, suspect: Suspect) -> str:
    """Say what is odd about a stroke."""
    painted, found = (_class(state, n) for n in (suspect.painted, suspect.found))
    at = ", ".join(f"{axis} {n}" for axis, n in suspect.place)
    odd = f"rather {found}" if suspect.found != suspect.painted else "not sure"
    text = f"{painted}: {odd}, {suspect.contradiction:.0%} ({at})"
    pictures = state.project.pictures if state.project else ()
    names = {picture.id: picture.name for picture in pictures}
    if len(names) < 2:
        return text
    return f"{words.short(names.get(suspect.picture, ''), 16)} · {text}"


def _class(state: State, number: int) -> str:
    """Name a class as the legend does."""
    named = (row.name for row in legend(state) if row.number == number)
    return next(named, class_name(state.model, number))


def _dice(result: Round) -> str:
    """Write the scores of a round, with as many digits as tell them apart."""
    scores = [score for score in (result.before, result.after) if score is not None]
    digits = 2 if len({f"{score:.2f}" for score in scores}) == len(scores) else 4
    return "Dice " + " → ".join(f"{score:.{digits}f}" for score in scores)
