"""The state of a training, kept on disk so that it can go on after a kill or a stop.

Weights, their average, the optimiser's moments, the generator of all random numbers and
the counters: what a training needs to go on to the same weights, bit for bit on a CPU
whose steps are counted. The file is safetensors; nothing in it can run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors.torch import save as to_bytes

from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.errors import ModelError, UsageError
from napari_unet.files import write

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from napari_unet.config import FinetuneConfig
    from napari_unet.training.lesson import Lesson

_FORMAT = "unet-training"


@dataclass(frozen=True)
class Saved:
    """A training as it was left.

    Attributes
    ----------
    key : mapping
        What was taught to whom: it must be the same to go on.
    facts : mapping
        Counters and scores, JSON-able.
    tensors : mapping
        From `napari_unet.training.trainer.Trainer.snapshot`, and the best weights.
    """

    key: dict[str, str]
    facts: dict[str, Any]
    tensors: dict[str, torch.Tensor] = field(repr=False)


def beside(checkpoint: Path) -> Path:
    """Name the file that keeps the training of a checkpoint."""
    return checkpoint.with_suffix(".training")


def strokes_of(saved: Saved) -> str | None:
    """Which recorded strokes were learned last, None where none were recorded.

    Returns
    -------
    str or None
        ``"begun"`` or ``"joined"``, see `napari_unet.training.recorded`.
    """
    kinds = {name.partition(".")[0] for name in saved.tensors}
    return next((kind for kind in ("joined", "begun") if kind in kinds), None)


def key_of(lesson: Lesson, config: FinetuneConfig) -> dict[str, str]:
    """Say what is taught to whom, in digests that tell any change."""
    split = hashlib.sha256()
    for targets in (lesson.split.training, lesson.split.held_out):
        for target in targets:
            split.update(repr(target.shape).encode() + target.tobytes())
    spec = lesson.network.spec.model_dump_json()
    settings = config.model_dump_json(exclude={"max_seconds", "max_steps"})
    return {
        "strokes": lesson.annotations.digest,
        "held-out strokes": split.hexdigest(),
        "model": lesson.network.digest + hashlib.sha256(spec.encode()).hexdigest(),
        "settings": settings,
    }


def save(saved: Saved, checkpoint: Path) -> None:
    """Write a state; the one before is there until the new one is complete.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    header = {_FORMAT: json.dumps({"key": saved.key, "facts": saved.facts})}
    write(beside(checkpoint), to_bytes(saved.tensors, header))


def load(checkpoint: Path) -> Saved:
    """Read the state of the training that was to make `checkpoint`.

    Raises
    ------
    UsageError
        If there is none.
    ModelError
        If it is damaged.
    """
    path = beside(checkpoint)
    if not path.exists():
        raise UsageError(
            f"There is no training of {checkpoint.name} to go on with",
            expected=f"the file {path.name} that a running training keeps",
        )
    tensors, header = read_tensors(path.read_bytes(), path.name)
    try:
        told = json.loads(header[_FORMAT])
        return Saved(told["key"], told["facts"], tensors)
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path.name} is a damaged training state",
            found=f"{type(error).__name__} {error}",
            hint="Delete it and train anew.",
        ) from error


def check(saved: Saved, key: dict[str, str]) -> None:
    """Refuse to go on with another training.

    Raises
    ------
    UsageError
        If strokes, model or settings are not those the training began with.
    """
    changed = [name for name, value in key.items() if saved.key.get(name) != value]
    if changed:
        raise UsageError(
            "This training cannot go on",
            found=f"other {' and '.join(changed)} than when it began",
            hint="Begin a new round; it learns from all strokes.",
        )
