"""Joining: strokes that are painted during a training are learned from there on.

What is held out stays as it was, and no new stroke within its receptive field is
learned, so the scores before and after strokes joined can be compared.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import StrokesError
from napari_unet.events import Stopped
from napari_unet.training import plan
from napari_unet.training.annotations import AnnotationSet, complete, filled
from napari_unet.training.lesson import read
from napari_unet.training.taught import numbers_of, targets_of, weights_of
from napari_unet.training.validation import Split, clear_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken
    from napari_unet.training.annotations import Example
    from napari_unet.training.blocks import Block
    from napari_unet.training.lesson import Lesson


def join(
    lesson: Lesson,
    examples: Sequence[Example],
    config: FinetuneConfig,
    cancel: CancelToken | None = None,
) -> Lesson:
    """Teach other strokes on the same images, with the same strokes held out.

    Parameters
    ----------
    lesson : Lesson
        What is taught so far.
    examples : sequence of Example
        The same images with all their strokes.
    config : FinetuneConfig
        Settings of the training.
    cancel : CancelToken, optional
        Asks to stop.

    Raises
    ------
    StrokesError
        If the strokes cannot be learned by the network, or leave less than two classes.
    Stopped
        If `cancel` was set.
    """
    network, kind = lesson.network, lesson.kind
    if config.complete:
        examples = [complete(example) for example in examples]
    elif lesson.annotations.has_boxes:
        examples = [filled(example, kind) for example in examples]
    annotations = AnnotationSet.gather(examples, cancel)
    if cancel is not None and cancel.is_set():
        raise Stopped("stopped while strokes joined")
    annotations.require_paint()
    plan.check_fit(annotations, kind, network.spec, config)
    blocks = read(annotations, network, lesson.batch, lesson.scales, config, [], cancel)
    boxes = [annotations.examples[block.example].boxes for block in blocks]
    raised = kind == "instances" and annotations.has_boxes
    targets = targets_of(blocks, boxes, kind, raised)
    held_out = [_held_out(lesson, block) for block in blocks]
    training = [
        clear_of(target, held > 0, network.geometry)
        for target, held in zip(targets, held_out, strict=True)
    ]
    _require_two(training)
    return dataclasses.replace(
        lesson,
        annotations=annotations,
        blocks=blocks,
        targets=targets,
        numbers=numbers_of(blocks, boxes, targets, config),
        weights=weights_of(blocks, targets, kind, raised, not config.complete),
        split=Split(training, held_out, lesson.split.seen),
    )


def _held_out(lesson: Lesson, block: Block) -> np.ndarray:
    """Find what the lesson holds out in a block."""
    shape = block.strokes.shape
    here = np.zeros(shape, lesson.split.held_out[0].dtype)
    for old, held in zip(lesson.blocks, lesson.split.held_out, strict=True):
        if (old.example, old.frame) != (block.example, block.frame):
            continue
        shift = np.subtract(old.origin, block.origin)
        low = np.maximum(shift, 0)
        high = np.minimum(shift + held.shape, shape)
        if (low < high).all():
            to = tuple(map(slice, low, high))
            source = tuple(map(slice, low - shift, high - shift))
            here[to] = np.maximum(here[to], held[source])
    return here


def _require_two(training: Sequence[np.ndarray]) -> None:
    """Refuse strokes that leave a single class, or none, to learn."""
    left = {int(value) for target in training for value in np.unique(target) if value}
    if len(left) < 2:
        raise StrokesError(
            "Too little is left to learn from",
            found=f"{len(left)} classes apart from the held-out strokes",
            expected="2 or more",
        )
