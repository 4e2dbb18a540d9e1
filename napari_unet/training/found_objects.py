"""Objects that are held out: how many of them a network finds.

Only where all is labelled, in complete labels and boxes, is an object that was not
painted known to be wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.tasks.instances import Instances
from napari_unet.training.heldout import spread, windows_of
from napari_unet.training.scores import overlap, scores_of_objects

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from scipy import sparse

    from napari_unet.training.lesson import Lesson

    Forward = Callable[[torch.Tensor], torch.Tensor]

_CORE, _MOST_WINDOWS = {2: 256, 3: 96}, 6


class HeldOutObjects:
    """Objects of the held-out parts of complete labels, with the image around them.

    Parameters
    ----------
    lesson : Lesson
        What is taught; see `is_judged`.
    """

    def __init__(self, lesson: Lesson) -> None:
        self._task = Instances(lesson.network.spec)
        ids = [
            np.where(held > 0, block.strokes, 0)
            for held, block in zip(lesson.split.held_out, lesson.blocks, strict=True)
        ]
        core = _CORE[lesson.network.spec.ndim]
        windows = windows_of(lesson.images, ids, lesson.network.geometry, core)
        self._windows = spread(windows, _MOST_WINDOWS)

    @staticmethod
    def is_judged(lesson: Lesson) -> bool:
        """Whether objects are held out, learned by a network that parts them."""
        return (
            lesson.validated
            and lesson.kind == "instances"
            and lesson.annotations.has_boxes
            and lesson.network.spec.task == "instances"
        )

    def score(self, forward: Forward) -> dict[str, Any]:
        """Average precision over IoU, with intervals.

        Parameters
        ----------
        forward : callable
            From images (N, C, *spatial) to logits.

        Returns
        -------
        dict
            As from `napari_unet.training.scores.scores_of_objects`. A found object
            counts where at least half of it is held out. Objects of large images are
            cut at windows of 256 pixels (96 in volumes), six at most.
        """
        return scores_of_objects([self._overlap(forward, *w) for w in self._windows])

    def _overlap(
        self, forward: Forward, image: torch.Tensor, ids: torch.Tensor
    ) -> sparse.csr_array:
        """IoU of true and found objects of one window, where its ids are known."""
        logits = forward(image[None]).cpu().float()[0]
        evidence = self._task.evidence(logits, 0.5).numpy()
        found = self._task.separate(evidence, 0.5)
        known = ids.numpy() > 0
        shares = np.bincount(found.ravel(), known.ravel()) / np.maximum(
            np.bincount(found.ravel()), 1
        )
        found = np.where(known & (shares >= 0.5)[found], found, 0)
        return overlap(found, np.maximum(ids.numpy() - 1, 0))
