"""The auditor: strokes that a network, trained without them, contradicts.

Every stroke is left out of one of a few short trainings (cross-validation by stroke),
and that network is asked what the stroke's pixels are. A stroke painted with the wrong
class by mistake is the only one of its kind, so the network gives it another class and
is sure of it. The other trainings do see the mistake, which dims them a little.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.errors import StrokesError
from napari_unet.events import Cancelled, Finished, Progress, Started, Stopped, Warned
from napari_unet.training.heldout import windows_of
from napari_unet.training.lesson import prepare
from napari_unet.training.losses import painted
from napari_unet.training.setup import make_trainer
from napari_unet.training.validation import Split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken, Event
    from napari_unet.networks.network import Network
    from napari_unet.training.annotations import Example
    from napari_unet.training.lesson import Lesson
    from napari_unet.training.trainer import Trainer

    Owner = tuple[int, int]

_FOLDS = 4


@dataclass(frozen=True)
class Suspect:
    """A stroke and how much the others speak against it.

    Attributes
    ----------
    image : int
        Number of its image.
    place : dict
        One of its pixels, near its middle, by axis name.
    painted : int
        Its id.
    found : int
        Label that the network gives its pixels, as in results: 0 is background.
    contradiction : float
        Probability, as the mean over its pixels, that it is not what it was painted as.
    pixels : int
        Its size.
    """

    image: int
    place: dict[str, int]
    painted: int
    found: int
    contradiction: float
    pixels: int


def audit(
    examples: Sequence[Example],
    network: Network | None,
    config: FinetuneConfig,
    *,
    cancel: CancelToken | None = None,
    max_steps: int | None = None,
) -> Iterator[Event]:
    """Look for strokes that the others contradict.

    Parameters
    ----------
    examples, network, config, cancel
        As for `napari_unet.training.finetune.finetune`; the time budget is shared by
        four trainings.
    max_steps : int, optional
        Most steps of each of them.

    Yields
    ------
    Event
        `Started`, `Progress` and `Warned`, and last `Finished` with a list of all
        strokes as `Suspect`, the most contradicted first, or `Cancelled`.

    Raises
    ------
    StrokesError
        If a class has a single stroke, or as for training.
    UNetError
        As for training.
    """
    yield Started("Auditing strokes", 100, "%")
    config = config.model_copy(update={"validation": 0.0})
    try:
        lesson = prepare(examples, network, config, cancel)
        yield from (Warned(note) for note in lesson.notes)
        yield from _audited(lesson, config, cancel, max_steps)
    except Stopped as stopped:
        yield Cancelled(str(stopped))


def _audited(
    lesson: Lesson,
    config: FinetuneConfig,
    cancel: CancelToken | None,
    max_steps: int | None,
) -> Iterator[Event]:
    """Train a few times without some strokes each, and judge those."""
    suspects: list[Suspect] = []
    folds = _folds(_owners(lesson), config.seed)
    for number, left_out in enumerate(folds):
        split = _without(lesson, left_out)
        trainer = make_trainer(dataclasses.replace(lesson, split=split), config)
        seconds = config.max_seconds / len(folds)
        for share in _train(trainer, seconds, max_steps, cancel):
            yield Progress(100 * (number + share) / len(folds), 100, "%")
        suspects += _judge(lesson, split, trainer)
    yield Finished(sorted(suspects, key=lambda s: -s.contradiction))


def _owners(lesson: Lesson) -> dict[int, list[Owner]]:
    """Strokes, as (block, number), by their target."""
    owners: dict[int, list[Owner]] = {}
    for block, (numbers, strokes) in enumerate(
        zip(lesson.numbers, lesson.blocks, strict=True)
    ):
        mine = strokes.strokes > 0
        kinds = strokes.strokes if lesson.kind == "classes" else mine.astype(np.int64)
        pairs = np.unique(np.stack([kinds[mine], numbers[mine]]), axis=1)
        for kind, number in pairs.T.tolist():
            owners.setdefault(kind, []).append((block, number))
    return owners


def _folds(owners: dict[int, list[Owner]], seed: int) -> list[set[Owner]]:
    """Share the strokes of every class out."""
    fewest = min(len(strokes) for strokes in owners.values())
    if fewest < 2:
        raise StrokesError(
            "Strokes cannot be audited yet",
            found="a class with a single stroke",
            expected="two strokes of each class at least",
        )
    choice = np.random.default_rng(seed)
    # More folds than strokes of a class are fine: a fold then leaves none of it out.
    folds: list[set[Owner]] = [set() for _ in range(_FOLDS)]
    for strokes in owners.values():
        for n, stroke in enumerate(choice.permutation(len(strokes))):
            folds[n % _FOLDS].add(strokes[stroke])
    return [fold for fold in folds if fold]


def _without(lesson: Lesson, left_out: set[Owner]) -> Split:
    """Targets with some strokes out of training."""
    training, held_out = [], []
    for block, (target, numbers) in enumerate(
        zip(lesson.split.training, lesson.numbers, strict=True)
    ):
        mine = np.isin(numbers, [n for b, n in left_out if b == block])
        training.append(np.where(mine, 0, target).astype(target.dtype))
        judged = mine & (lesson.blocks[block].strokes > 0)
        held_out.append(np.where(judged, target, 0).astype(target.dtype))
    return Split(training, held_out)


def _train(
    trainer: Trainer,
    seconds: float,
    max_steps: int | None,
    cancel: CancelToken | None,
) -> Iterator[float]:
    """Train, telling after each step how much is done."""
    start = time.monotonic()
    done = 0.0
    while done < 1:
        if cancel is not None and cancel.is_set():
            raise Stopped("stopped while auditing")
        trainer.step(done)
        done = (time.monotonic() - start) / seconds
        if max_steps is not None:
            done = max(done, trainer.steps / max_steps)
        yield min(done, 1.0)


def _judge(lesson: Lesson, split: Split, trainer: Trainer) -> list[Suspect]:
    """Ask a network what the strokes it has not seen are."""
    geometry = lesson.network.geometry
    suspects = []
    for number, block in enumerate(lesson.blocks):
        if not split.held_out[number].any():
            continue
        strokes = np.where(split.held_out[number] > 0, lesson.numbers[number], 0)
        judged = windows_of([block.image], [split.held_out[number]], geometry)
        owners = windows_of([block.image], [strokes], geometry)
        chances, owner, truth = (
            np.concatenate(part)
            for part in zip(
                *(
                    _chances(lesson, trainer, image, target, mine)
                    for (image, target), (_, mine) in zip(judged, owners, strict=True)
                ),
                strict=True,
            )
        )
        for stroke in np.unique(owner):
            here = owner == stroke
            suspects.append(
                _suspect(lesson, number, strokes == stroke, chances[here], truth[here])
            )
    return suspects


def _chances(
    lesson: Lesson,
    trainer: Trainer,
    image: torch.Tensor,
    target: torch.Tensor,
    owners: torch.Tensor,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of the classes at the pixels of a window, strokes and truth."""
    coding = lesson.coding
    vectors, wanted = painted(trainer.predict(image[None]).cpu(), target[None])
    log = coding.log_probability(vectors)[:, list(coding.verdict)]
    truth = torch.tensor(coding.truth)[wanted - 1]
    return log.softmax(1).numpy(), owners[target > 0].numpy(), truth.numpy()


def _suspect(
    lesson: Lesson,
    block: int,
    mask: np.ndarray,
    chances: np.ndarray,
    truth: np.ndarray,
) -> Suspect:
    """Describe one stroke."""
    at = lesson.blocks[block]
    pixels = np.argwhere(mask)
    middle = pixels[np.abs(pixels - pixels.mean(0)).sum(1).argmin()]
    spatial = lesson.network.spec.spatial
    place = dict(at.frame)
    place |= {a: int(o + m) for a, o, m in zip(spatial, at.origin, middle, strict=True)}
    return Suspect(
        image=at.example,
        place=place,
        painted=int(at.strokes[tuple(middle)]),
        found=int(chances.mean(0).argmax()),
        contradiction=float(1 - chances[np.arange(len(truth)), truth].mean()),
        pixels=len(pixels),
    )
