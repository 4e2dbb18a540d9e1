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

_FROM_SCRATCH, _FROM_LABELS, _FINE_TUNING = 2e-3, 3e-3, 3e-4  # learning rates
# Weight decay of a new network, high against learning strokes by heart.
_DECAY, _LABELS_DECAY = 0.5, 1e-2
_CONSISTENCY = 5.0  # weight of agreement at unpainted pixels; their distances are small
_SOFT = 5.0  # weight of the first teacher of a volume there


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
        falling=config.complete,
        balanced=not config.complete,
        # A few patches tell less about the images than the model's own statistics.
        frozen_statistics=not lesson.is_new,
        autocast=None if dtype is torch.float32 else dtype,
        consistency=_CONSISTENCY if _looks_beyond(lesson, config, 2) else 0.0,
        soft=_SOFT,
    )
    how = _augmentation(lesson, config)
    rehearsal = rehearsal_of(lesson.references, network, lesson.batch.patch, how)
    return Trainer(
        network.module, lesson.coding, sampler, recipe, device, config.seed, rehearsal
    )


def _looks_beyond(lesson: Lesson, config: FinetuneConfig, ndim: int) -> bool:
    """Whether unpainted pixels teach: new networks of `ndim` axes, beside strokes.

    2D ones learn them from their own average, which took from the few steps of a minute
    in volumes without a gain. Those have a first teacher, which gained nothing in 2D.
    """
    mine = lesson.network.spec.ndim == ndim
    return config.unpainted and mine and lesson.is_new and not config.complete


def soft_of(lesson: Lesson, config: FinetuneConfig) -> list[np.ndarray] | None:
    """Ask the first teacher about every block; None for networks without one."""
    if lesson.kind != "classes" or not _looks_beyond(lesson, config, 3):
        return None
    spec = lesson.network.spec
    lengths = [spec.spacing.get(axis, 1.0) for axis in spec.spatial]
    return soft_targets(
        lesson.images,
        lesson.split.training,
        len(lesson.coding.rows),
        [length / lengths[-1] for length in lengths],
        config.seed,
    )


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


def _decay(lesson: Lesson, config: FinetuneConfig) -> float:
    """Weight decay; a network that knows something keeps it."""
    if not lesson.is_new:
        return 0.0
    return _LABELS_DECAY if config.complete else _DECAY


def _augmentation(lesson: Lesson, config: FinetuneConfig) -> Augmentation:
    """Decide what may happen to patches."""
    solid = plan.is_solid(lesson.network.spec.spacing)
    return Augmentation(
        config.augment,
        config.augment,
        solid,
        # Whole labels need no unlikely surroundings, which only make them harder. In
        # volumes a stroke is known by its brightness, which a mixture hides.
        mixed=not config.complete and lesson.network.spec.ndim == 2,
        upright=lesson.upright,
    )
