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
from napari_unet.training.targets import BACKGROUND, instance_target, stroke_target
from napari_unet.training.validation import number_strokes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import FinetuneConfig
    from napari_unet.training.annotations import Kind
    from napari_unet.training.blocks import Block


def targets_of(
    blocks: Sequence[Block], kind: Kind, config: FinetuneConfig
) -> list[np.ndarray]:
    """Turn the strokes of each block into what is learned."""
    if kind == "classes":
        return [block.strokes for block in blocks]
    if config.complete:
        return [_dense_target(block.strokes) for block in blocks]
    targets = [stroke_target(block.strokes, block.image) for block in blocks]
    if not any((target == BACKGROUND).any() for target in targets):
        raise StrokesError(
            "No background could be told from the painted objects",
            found="surroundings that look like the objects",
            hint="Paint whole objects, or paint classes: 1 = background, 2 = object.",
        )
    return targets


def _dense_target(strokes: np.ndarray) -> np.ndarray:
    """Target of complete objects whose ids are raised by one; 0 is unknown (NaN)."""
    target = instance_target(np.maximum(strokes - 1, 0), complete=True)
    return np.where(strokes > 0, target, 0).astype(target.dtype)


def numbers_of(
    blocks: Sequence[Block], targets: Sequence[np.ndarray], config: FinetuneConfig
) -> list[np.ndarray]:
    """Stroke number of every target pixel; a completely labelled block is one."""
    if config.complete:
        return [(target > 0).astype(np.int32) for target in targets]
    return [number_strokes(b.strokes, t) for b, t in zip(blocks, targets, strict=True)]


def weights_of(
    blocks: Sequence[Block], kind: Kind, config: FinetuneConfig
) -> list[np.ndarray] | None:
    """Weigh the borders of touching objects."""
    if kind == "classes":
        return None
    raised = int(config.complete)
    return [border_weights(np.maximum(b.strokes - raised, 0)) for b in blocks]
