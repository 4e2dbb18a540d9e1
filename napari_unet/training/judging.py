"""Judging: the scores of a training on what is held out, and of the round before."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from napari_unet.training.coding import Coding
from napari_unet.training.heldout import HeldOut, windows_of
from napari_unet.training.standing import Best

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from napari_unet.networks.network import Network
    from napari_unet.training.lesson import Lesson
    from napari_unet.training.standing import Rule, Standing
    from napari_unet.training.trainer import Trainer


class Judge:
    """Scores what is in training, until it learns what is held out too.

    Attributes
    ----------
    previous : Network or None
        What the training is compared with: the round before, else what it starts from.

    Parameters
    ----------
    lesson : Lesson
        What is taught, and what of it is held out.
    previous : Network, optional
        The round before.
    """

    def __init__(self, lesson: Lesson, previous: Network | None = None) -> None:
        self.previous = previous or (None if lesson.is_new else lesson.network)
        self._lesson = lesson
        windows = windows_of(
            lesson.images, lesson.split.held_out, lesson.network.geometry
        )
        self.held_out = HeldOut(windows, lesson.coding)

    def score(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
        """Scores of a network like the one in training, see `HeldOut.score`."""
        return self.held_out.score(forward)

    def now(self, trainer: Trainer) -> dict[str, Any]:
        """Scores of what is in training."""
        return self.score(trainer.predict)

    def scores(self, trainer: Trainer, standing: Standing) -> dict[str, Any]:
        """Scores to choose by, empty where nothing is held out.

        Once that is learned too these are the scores from before.
        """
        if standing.has_all and standing.best is not None:
            return standing.best.scores
        return self.now(trainer) if self._lesson.validated else {}

    def score_before(self, trainer: Trainer) -> float | None:
        """Score of the round before; of the start as it is trained, without one.

        None where nothing is held out, or a new network has no round before.
        """
        network = self.previous
        if network is None or not self._lesson.validated:
            return None
        if network is self._lesson.network:
            return float(self.now(trainer)["dice"])
        coding = Coding.of(network.spec, self._lesson.kind)
        return float(HeldOut(self.held_out.windows, coding).score(network)["dice"])

    def try_own(self, trainer: Trainer, standing: Standing, rule: Rule) -> None:
        """Take the weights in training rather than their average, where better."""
        best = standing.best
        if best is None or best.score is None or rule == "last":
            return
        scores = self.score(functools.partial(trainer.predict, averaged=False))
        if standing.is_better(scores, "best"):
            state = {n: t.cpu() for n, t in trainer.state(averaged=False).items()}
            standing.best = Best(state, scores["dice"], scores, standing.looks)
