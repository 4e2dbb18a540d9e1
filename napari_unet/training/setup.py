"""Setup: the optimisation of a lesson, from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_unet.networks.device import choose_device, training_precision
from napari_unet.training import plan
from napari_unet.training.augmentation import Augmentation
from napari_unet.training.pixels import soft_targets
from napari_unet.training.recipe import Recipe
from napari_unet.training.rehearsal import rehearsal_of
from napari_unet.training.sampling import PatchSampler
from napari_unet.training.trainer import Trainer

if TYPE_CHECKING:
    import numpy as np

    from napari_unet.config import FinetuneConfig
    from napari_unet.training.lesson import Lesson
    from napari_unet.training.standing import Rule

_FROM_SCRATCH, _FROM_LABELS, _FINE_TUNING = 2e-3, 3e-3, 3e-4  # learning rates
# Weight decay of a new network, high against learning strokes by heart.
_DECAY, _LABELS_DECAY = 0.5, 1e-2
_CONSISTENCY = 5.0  # weight of agreement at unpainted pixels; their distances are small
_SOFT = 20.0  # weight of the first teacher there
_SMOOTH = 2.5  # pixels by which it is smoothed in volumes, along the finest axis
_MIXED_BESIDE_TEACHER = 0.5  # share of the batches that are mixed where it teaches


def make_trainer(lesson: Lesson, config: FinetuneConfig) -> Trainer:
    """Set up the optimisation."""
    network = lesson.network
    sampler = make_sampler(lesson, config, soft_of(lesson, config))
    device = choose_device(config.device).device
    dtype = training_precision(config.precision, device, network.spec.ndim)
    recipe = Recipe(
        config.learning_rate or _rate(lesson, config),
        lesson.batch.size,
        lesson.batch.margin,
        decay=_decay(lesson, config),
        falling=_falls(lesson, config),
        balanced=not config.complete,
        # A few patches tell less about the images than the model's own statistics.
        frozen_statistics=not lesson.is_new,
        autocast=None if dtype is torch.float32 else dtype,
        consistency=_CONSISTENCY if _agrees_with_itself(lesson, config) else 0.0,
        soft=_SOFT,
    )
    how = _augmentation(lesson, config)
    rehearsal = rehearsal_of(lesson.references, network, lesson.batch.patch, how)
    return Trainer(
        network.module, lesson.coding, sampler, recipe, device, config.seed, rehearsal
    )


def kept_by(lesson: Lesson, config: FinetuneConfig) -> Rule:
    """By which rule a state is kept.

    Few strokes are learned by heart, and what is held out tells when. Beside a first
    teacher a network learns far more than strokes and went on to gain after held-out
    strokes had been at their best, see docs/benchmarks.md.
    """
    if config.complete:
        return "best"
    return "last" if lesson.has_teacher else "longest"


def _agrees_with_itself(lesson: Lesson, config: FinetuneConfig) -> bool:
    """Whether a new network of objects learns unpainted pixels from its own average.

    In volumes that took from the few steps of a minute without a gain.
    """
    flat = lesson.network.spec.ndim == 2
    new = lesson.is_new and config.unpainted and not config.complete
    return flat and lesson.kind == "instances" and new


def soft_of(lesson: Lesson, config: FinetuneConfig) -> list[np.ndarray] | None:
    """Ask the first teacher about every block; None for networks without one."""
    if not lesson.has_teacher:
        return None
    rows, seed = len(lesson.coding.rows), config.seed
    strokes = lesson.split.training
    return soft_targets(lesson.images, strokes, rows, seed, _smoothing(lesson))


def _smoothing(lesson: Lesson) -> tuple[float, ...]:
    """How far the first teacher is smoothed along each axis, only in volumes."""
    spec = lesson.network.spec
    if spec.ndim == 2:
        return ()
    steps = [spec.spacing.get(axis, 1.0) for axis in spec.spatial]
    return tuple(_SMOOTH * min(steps) / step for step in steps)


def make_sampler(
    lesson: Lesson,
    config: FinetuneConfig,
    soft: list[np.ndarray] | None = None,
) -> PatchSampler:
    """Set up where patches come from and what happens to them."""
    how = _augmentation(lesson, config)
    return PatchSampler(
        lesson.images,
        lesson.split.training,
        lesson.batch.patch,
        how,
        lesson.weights,
        by_image=config.complete,
        soft=soft,
    )


def _rate(lesson: Lesson, config: FinetuneConfig) -> float:
    """Peak of the learning rate."""
    if not lesson.is_new:
        return _FINE_TUNING
    return _FROM_LABELS if config.complete else _FROM_SCRATCH


def _falls(lesson: Lesson, config: FinetuneConfig) -> bool:
    """Whether the learning rate falls at the end, see `recipe.learning_rate`."""
    return config.complete or (lesson.has_teacher and lesson.network.spec.ndim == 3)


def _decay(lesson: Lesson, config: FinetuneConfig) -> float:
    """Weight decay; a network that knows something keeps it."""
    if not lesson.is_new:
        return 0.0
    return _LABELS_DECAY if config.complete else _DECAY


def _augmentation(lesson: Lesson, config: FinetuneConfig) -> Augmentation:
    """Decide what may happen to patches."""
    return Augmentation(
        config.augment,
        config.augment,
        plan.is_solid(lesson.network.spec.spacing),
        mixed=_mixed(lesson, config),
        upright=lesson.upright,
    )


def _mixed(lesson: Lesson, config: FinetuneConfig) -> float:
    """How often patches are mixed.

    Whole labels need no unlikely surroundings, which only make them harder, and in
    volumes a stroke is known by its brightness, which a mixture hides. Beside a first
    teacher mixing helped on nuclei and harmed on membranes.
    """
    if config.complete or lesson.network.spec.ndim == 3:
        return 0.0
    return _MIXED_BESIDE_TEACHER if lesson.has_teacher else 1.0
