"""What the strokes of each block teach: targets, weights, and whose stroke is whose.

Painted objects are learned as background, interior and boundary, so that one network of
any family with three channels parts touching objects, and a stroke that does not say
which of the last two a pixel is still says that it is one of them. Distances would need
the whole outline of an object, which partial paint does not give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import StrokesError
from napari_unet.training.border_weights import border_weights
from napari_unet.training.boxes import is_filled
from napari_unet.training.targets import (
    BACKGROUND,
    BOUNDARY,
    boxed_target,
    stroke_target,
)
from napari_unet.training.validation import number_strokes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import FinetuneConfig
    from napari_unet.training.annotations import Kind
    from napari_unet.training.blocks import Block
    from napari_unet.training.boxes import Box

    Boxes = tuple[Box, ...]

# Where classes are not balanced the weights of the paper make noise of boundaries.
_SOFTER = np.float32(0.2)
_PLAIN, _RIM = np.float32(1), np.float32(2)  # of boundary pixels, which are few


def targets_of(
    blocks: Sequence[Block], boxes: Sequence[Boxes], kind: Kind, raised: bool
) -> list[np.ndarray]:
    """Turn the strokes of each block into what is learned.

    `boxes` are the complete boxes of each block's image; `raised` tells that ids of
    objects begin with 2.
    """
    if kind == "classes":
        return [block.strokes for block in blocks]
    targets = [
        boxed_target(block.strokes)
        if complete
        else stroke_target(np.maximum(block.strokes - raised, 0), block.image)
        for block, complete in zip(blocks, boxes, strict=True)
    ]
    if not any((target == BACKGROUND).any() for target in targets):
        raise StrokesError(
            "No background could be told from the painted objects",
            found="surroundings that look like the objects",
            hint="Paint whole objects, or paint classes: 1 = background, 2 = object.",
        )
    return targets


def numbers_of(
    blocks: Sequence[Block],
    boxes: Sequence[Boxes],
    targets: Sequence[np.ndarray],
    config: FinetuneConfig,
) -> list[np.ndarray]:
    """Stroke number of every target pixel; a completely labelled block is one.

    What fills a box belongs to the nearest stroke, as background found around painted
    objects does, so that part of a box can be held out.
    """
    if config.complete:
        return [(target > 0).astype(np.int32) for target in targets]
    return [_numbers(*each) for each in zip(blocks, boxes, targets, strict=True)]


def _numbers(block: Block, boxes: Boxes, target: np.ndarray) -> np.ndarray:
    """Stroke numbers of one block."""
    paint = np.where(is_filled(block.strokes, boxes, block.region), 0, block.strokes)
    if not paint.any():
        return (target > 0).astype(np.int32)
    return number_strokes(paint, target)


def weights_of(
    blocks: Sequence[Block],
    targets: Sequence[np.ndarray],
    kind: Kind,
    raised: bool,
    balanced: bool,
) -> list[np.ndarray] | None:
    """Weigh borders of touching objects, and all boundary where not `balanced`."""
    if kind == "classes":
        return None
    weights = [border_weights(np.maximum(b.strokes - raised, 0)) for b in blocks]
    if balanced:
        return weights
    return [
        (1 + _SOFTER * (weight - 1)) * np.where(target == BOUNDARY, _RIM, _PLAIN)
        for weight, target in zip(weights, targets, strict=True)
    ]
