"""Lesson: everything that is settled before the first step of a training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.images import intensity
from napari_unet.training.blocks import Block, read_blocks
from napari_unet.training.coding import Coding
from napari_unet.training.design import design
from napari_unet.training.looking import find_upright, stop_if
from napari_unet.training.references import Reference, fitting, known
from napari_unet.training.taught import numbers_of, targets_of, weights_of
from napari_unet.training.validation import Split, hold_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken
    from napari_unet.networks.network import Network
    from napari_unet.training import plan
    from napari_unet.training.annotations import AnnotationSet, Example, Kind


_SHARE, _SHARE_BESIDE_TEACHER = 0.2, 0.1  # of the strokes that are held out


@dataclass(frozen=True)
class Lesson:
    """What is taught, to whom, and what is held out.

    Attributes
    ----------
    annotations : AnnotationSet
        The strokes.
    kind : {"classes", "instances"}
        What their ids are.
    network : Network
        What learns; its spec holds the normalisation of the images.
    is_new : bool
        Whether the network starts from random weights.
    has_teacher : bool
        Whether a classifier of single pixels learns the strokes first, to teach it;
        see `napari_unet.training.pixels`.
    coding : Coding
        What the targets stand for.
    batch : Batch
        Shape of a batch.
    scales : list of Scaling
        Normalisation of each image.
    blocks : list of Block
        The painted parts of the images.
    targets : list of numpy.ndarray
        All targets, one a block, of which `split` is made.
    numbers : list of numpy.ndarray
        Stroke number of every target pixel, one a block.
    weights : list of numpy.ndarray or None
        How much each pixel counts, float32, one a block; None where all count the same.
    split : Split
        Targets for training and, where `validated`, held out.
    validated : bool
        Whether strokes are held out.
    upright : bool
        Whether images keep their orientation.
    references : tuple of Reference
        What judged earlier rounds and can judge this network.
    notes : tuple of str
        What the user should know.
    """

    annotations: AnnotationSet
    kind: Kind
    network: Network
    is_new: bool
    has_teacher: bool
    coding: Coding
    batch: plan.Batch
    scales: list[intensity.Scaling] = field(repr=False)
    blocks: list[Block] = field(repr=False)
    targets: list[np.ndarray] = field(repr=False)
    numbers: list[np.ndarray] = field(repr=False)
    weights: list[np.ndarray] | None = field(repr=False)
    split: Split
    validated: bool
    upright: bool
    references: tuple[Reference, ...]
    notes: tuple[str, ...]

    @property
    def images(self) -> list[np.ndarray]:
        """Images of the blocks, float32 (C, *spatial), normalised."""
        return [block.image for block in self.blocks]

    def with_all(self) -> Lesson:
        """Make the lesson in which what is held out is learned too."""
        split = Split(self.targets, self.split.held_out, self.split.seen)
        return replace(self, split=split)

    @property
    def names(self) -> list[str]:
        """Name of each image, told apart by number where two have the same."""
        return _names(self.annotations)


def prepare(
    examples: Sequence[Example],
    network: Network | None,
    config: FinetuneConfig,
    cancel: CancelToken | None = None,
    references: Sequence[Reference] = (),
) -> Lesson:
    """Check everything, plan a network if there is none, and read the painted parts.

    `references` are those of earlier rounds.

    Raises
    ------
    StrokesError, ModelError, ImageError, UsageError
        If the strokes, the network, the images or the settings do not fit together.
    Stopped
        If `cancel` was set.
    """
    settled = design(examples, network, config, cancel)
    annotations, kind, notes = settled.annotations, settled.kind, settled.notes
    learner, batch = settled.network, settled.batch
    coding = Coding.of(learner.spec, kind)
    raised = kind == "instances" and annotations.has_boxes
    scales = _measure(annotations, learner, config, notes, cancel)
    blocks = read(annotations, learner, batch, scales, config, notes, cancel)
    boxes = [annotations.examples[block.example].boxes for block in blocks]
    targets = targets_of(blocks, boxes, kind, raised)
    numbers = numbers_of(blocks, boxes, targets, config)
    earlier = known(blocks, numbers, _names(annotations), references)
    has_teacher = network is None and _can_have_teacher(kind, config)
    share = _share(config, has_teacher)
    split = _hold_out(
        blocks, targets, numbers, earlier, kind, learner, config, share, notes
    )
    nothing = [np.zeros_like(target) for target in targets]
    return Lesson(
        annotations=annotations,
        kind=kind,
        network=learner,
        is_new=network is None,
        has_teacher=has_teacher,
        coding=coding,
        batch=batch,
        scales=scales,
        blocks=blocks,
        targets=targets,
        numbers=numbers,
        weights=weights_of(blocks, targets, kind, raised, not config.complete),
        split=split or Split(targets, nothing),
        validated=split is not None,
        upright=find_upright(targets, config, notes),
        references=fitting(references, learner, kind, notes),
        notes=tuple(notes),
    )


def _names(annotations: AnnotationSet) -> list[str]:
    plain = [example.stack.name for example in annotations.examples]
    return [
        name if plain.count(name) == 1 else f"{name}#{plain[:n].count(name)}"
        for n, name in enumerate(plain)
    ]


def _measure(
    annotations: AnnotationSet,
    network: Network,
    config: FinetuneConfig,
    notes: list[str],
    cancel: CancelToken | None,
) -> list[intensity.Scaling]:
    """Measure the intensities of each image."""
    scales = [
        intensity.measure(
            example.stack,
            network.spec.normalization,
            channels=config.channels,
            nan=config.nan,
            cancel=cancel,
        )
        for example in annotations.examples
    ]
    notes += [note for scale in scales for note in scale.notes]
    return scales


def read(
    annotations: AnnotationSet,
    network: Network,
    batch: plan.Batch,
    scales: Sequence[intensity.Scaling],
    config: FinetuneConfig,
    notes: list[str],
    cancel: CancelToken | None,
) -> list[Block]:
    """Read and normalise the painted parts.

    Raises
    ------
    Stopped
        If `cancel` was set.
    """
    geometry = network.geometry
    gap = tuple(
        max(before, after) or side
        for before, after, side in zip(
            geometry.before, geometry.after, batch.patch, strict=True
        )
    )
    blocks = []
    for block in read_blocks(annotations, scales, config.channels, batch.patch, gap):
        stop_if(cancel)
        blocks.append(block)
    if unusable := sum(block.unusable for block in blocks):
        notes.append(f"{unusable} painted pixels are NaN in the image and left out.")
    return blocks


def _can_have_teacher(kind: Kind, config: FinetuneConfig) -> bool:
    """Whether a classifier of pixels can teach: strokes, but not of objects."""
    return kind == "classes" and config.unpainted and not config.complete


def _share(config: FinetuneConfig, has_teacher: bool) -> float:
    """Share of the strokes to hold out.

    Beside a first teacher they score the network and choose nothing, so fewer do.
    """
    if config.validation is not None:
        return config.validation
    return _SHARE_BESIDE_TEACHER if has_teacher else _SHARE


def _hold_out(
    blocks: Sequence[Block],
    targets: Sequence[np.ndarray],
    numbers: Sequence[np.ndarray],
    earlier: tuple[set[tuple[int, int]], set[tuple[int, int]]],
    kind: Kind,
    network: Network,
    config: FinetuneConfig,
    share: float,
    notes: list[str],
) -> Split | None:
    """Hold strokes out for validation where there are enough of them."""
    if share == 0:
        return None
    kinds = [
        b.strokes
        if kind == "classes" and not config.complete
        else (b.strokes > 0).astype(np.int64)
        for b in blocks
    ]
    split = hold_out(
        targets,
        numbers,
        kinds,
        share,
        network.geometry,
        config.seed,
        *earlier,
    )
    if split is None:
        notes.append(
            "No validation yet: too few strokes, or too near to each other, to hold "
            "some out. Paint each class at several places far apart to get a score."
        )
    elif split.seen:
        notes.append(
            "The round before has learned from some strokes that are held out now, so "
            "its score flatters. New strokes make the next comparison fair."
        )
    return split
