"""Fine-tuning: a network learns from strokes and is saved as a new checkpoint."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet import checkpoints, files
from napari_unet.errors import OutputError, UsageError
from napari_unet.events import Cancelled, Finished, Metric, Started, Stopped, Warned
from napari_unet.training import live, recorded, references, resume, verdict
from napari_unet.training.clock import Clock
from napari_unet.training.course import Course
from napari_unet.training.found_objects import HeldOutObjects
from napari_unet.training.lesson import prepare
from napari_unet.training.rounds import Round

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network
    from napari_unet.training.annotations import Example
    from napari_unet.training.course import News


_SCORED_EARLY = (
    "Scored half way, then the held-out strokes were learned too: the score is that of "
    "a network that had not seen them."
)


def finetune(
    examples: Sequence[Example],
    network: Network | None,
    config: FinetuneConfig,
    output: Path | str,
    *,
    cancel: CancelToken | None = None,
    earlier: Sequence[Path] = (),
    go_on: bool = False,
    news: News | None = None,
) -> Iterator[Event]:
    """Teach a network by strokes.

    The time budget sets the learning rate's schedule, so the number of steps, and with
    it the result, depends on the speed of the machine. Where `config` counts the steps
    the schedule follows these, and a CPU gives the same weights for the same seed.

    Held-out strokes choose the state that is kept, and end a training early that has
    gained nothing for 1,200 steps; without them the last state is kept. So it is for a
    new network with a first teacher (`napari_unet.training.pixels`), which is scored
    half way and then learns what was held out as well. If `cancel` is set, what would
    be kept by then is saved, or nothing if there was no look at the network yet.

    Parameters
    ----------
    examples : sequence of Example
        Images and their strokes.
    network : Network or None
        What to start from; it is not changed. None plans a new network.
    config : FinetuneConfig
        Settings.
    output : path-like
        The new checkpoint.
    cancel : CancelToken, optional
        Asks the training to stop.
    earlier : sequence of path-like, optional
        Checkpoints of earlier rounds, oldest first. What judged them judges this round
        too, and its scores are compared with those of the last one.
    go_on : bool
        Continue the training of `output` that was stopped or killed. The state is kept
        beside it while it runs, and after a stop.
    news : callable, optional
        Asked every 20 steps for the same images with all their strokes by then, None if
        nothing was painted. New strokes are learned from there on; what is held out
        stays so. With the same news at the same steps the weights are the same. The
        state then holds the strokes: a training that goes on starts from those, and
        what `examples` hold beyond them joins at once.

    Yields
    ------
    Event
        `Started` and `Progress` in seconds, `Warned`, `Metric` of ``train_loss``,
        ``val_dice`` and the number of ``strokes`` when new ones joined, and last
        `Finished` with a `Round`, or `Cancelled`.

    Raises
    ------
    StrokesError, ModelError, ImageError, UsageError, DeviceError, OutputError
        If the strokes, the network, the images, the settings, the device or the output
        cannot be used.
    """
    output = Path(output)
    saved = resume.load(output) if go_on else None
    _check_output(output, network, go_on)
    past = [r for path in earlier if (r := references.load(Path(path))) is not None]
    previous = checkpoints.load(earlier[-1]) if earlier else None
    yield Started("Fine-tuning", math.ceil(config.max_seconds), "s")
    begun, first = time.monotonic(), examples
    if saved is not None and resume.strokes_of(saved):
        first = recorded.restore(examples, saved.tensors, "begun")
    try:
        lesson = prepare(first, network, config, cancel, past)
    except Stopped:
        yield Cancelled("stopped before training")
        return
    for note in lesson.notes:
        yield Warned(note)
    clock = Clock(begun, config.max_seconds)
    course = Course(lesson, config, clock, previous, output=output, news=news)
    if news is not None or first is not examples:
        course.record(first)
    if saved is not None:
        _go_on(course, saved, examples, cancel)
    with live.shown(output, course.network):
        yield from course.run(cancel)
    if course.standing.best is None:
        yield Cancelled("stopped before the first look at the network")
        return
    yield from _close(course, config, output, clock)


def _go_on(
    course: Course,
    saved: resume.Saved,
    examples: Sequence[Example],
    cancel: CancelToken | None,
) -> None:
    """Take a training up where it was left, then add what was painted since."""
    course.go_on(saved)
    kind = resume.strokes_of(saved)
    if kind is None:
        return
    if kind == "joined":
        course.join(recorded.restore(examples, saved.tensors, kind), cancel)
    if not course.has_learned(examples):
        course.join(examples, cancel)


def _check_output(output: Path, network: Network | None, go_on: bool) -> None:
    """Refuse to write over anything, before the work is done.

    A training that goes on may replace what it saved when it was stopped, which lies
    beside its state.
    """
    if not output.exists():
        return
    if network is not None and output.is_file():
        if files.digest(output) == network.digest:
            raise UsageError(
                "The new checkpoint would replace the one it starts from",
                found=output.name,
                hint="Choose another name; a round never changes its parent.",
            )
    if go_on:
        return
    raise OutputError(f"{output.name} is there already", hint="Choose another name.")


def _close(
    course: Course, config: FinetuneConfig, output: Path, clock: Clock
) -> Iterator[Event]:
    """Write the best state as a new checkpoint, compared with earlier rounds."""
    lesson = course.lesson
    parent = lesson.network
    if course.standing.has_all:
        course.notes.append(_SCORED_EARLY)
    result = verdict.judge(course)
    if result.share < 1:
        note = (
            f"Drawn back to {result.share:.0%} of the way from {parent.spec.name}, "
            "where it has forgotten nothing."
        )
        course.notes.append(note)
        yield Warned(note)
    course.notes.extend(result.price)
    for sentence in (*result.price, *result.worse):
        yield Warned(sentence)
    scores = dict(result.scores)
    if HeldOutObjects.is_judged(lesson):
        scores |= _objects(course, result.network)
        yield Metric("val_ap", scores["objects"]["ap"]["0.5"], course.steps)
    seconds = clock.seconds
    record = _record(course, config, seconds) | {
        "score_after": result.score,
        "scores": scores,
        "share": result.share,
        "references": result.references,
        "worse": result.worse,
    }
    digest = checkpoints.save(result.network, output, record, overwrite=course.resumed)
    judges = references.gather(lesson, output.name, has_all=course.standing.has_all)
    references.save(judges, output)
    if not course.stopped:
        resume.beside(output).unlink(missing_ok=True)
    yield Finished(
        Round(
            path=output,
            digest=digest,
            parent_digest=parent.digest,
            score_before=course.standing.before,
            score_after=result.score,
            classes=lesson.annotations.ids,
            strokes=lesson.annotations.strokes,
            steps=course.steps,
            seconds=seconds,
            validated=lesson.validated,
            stopped=course.stopped,
            notes=tuple(course.notes),
            scores=scores,
            references=result.references,
            worse=result.worse,
        )
    )


def _objects(course: Course, network: Network) -> dict[str, Any]:
    """Scores of the held-out objects, and those of the round before."""
    judge = HeldOutObjects(course.lesson)
    scores = {"objects": judge.score(network)}
    previous = course.judge.previous
    if previous is not None and previous.spec.task == "instances":
        scores["objects_before"] = judge.score(previous)
    return scores


def _record(course: Course, config: FinetuneConfig, seconds: float) -> dict[str, Any]:
    """Say how the weights were made."""
    lesson = course.lesson
    return {
        "made_by": "fine-tuning from strokes",
        "parent": lesson.network.digest,
        "parent_provenance": lesson.network.spec.provenance,
        "settings": config.model_dump(mode="json"),
        "strokes": lesson.annotations.digest,
        "stroke_ids": list(lesson.annotations.ids),
        "stroke_kind": lesson.kind,
        "images": [example.stack.name for example in lesson.annotations.examples],
        "steps": course.steps,
        "seconds": round(seconds, 1),
        "score_before": course.standing.before,
    }
