"""Kept: the state of a running training on disk, and the strokes that it learns."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch

from napari_unet.errors import ModelError
from napari_unet.training import recorded, resume
from napari_unet.training.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.training.annotations import Example
    from napari_unet.training.clock import Clock
    from napari_unet.training.trainer import State, Trainer

_PAUSE = 20.0  # seconds between two copies


class Kept:
    """What a training needs to go on after a kill, beside its checkpoint.

    Parameters
    ----------
    output : pathlib.Path
        The checkpoint that is to be made.
    key : dict
        What is taught to whom, see `resume.key_of`.
    """

    def __init__(self, output: Path, key: dict[str, str]) -> None:
        self._output, self._key = output, key
        self._strokes: State = {}
        self._last = -math.inf  # the first look is kept, whenever it comes

    @property
    def is_due(self) -> bool:
        """Whether it is time for another copy."""
        return time.monotonic() - self._last >= _PAUSE

    def wait(self) -> None:
        """Try again after the usual pause."""
        self._last = time.monotonic()

    def record(self, examples: Sequence[Example], kind: str = "joined") -> None:
        """Keep strokes too, since the layer they come from may be painted on."""
        self._strokes |= recorded.record(examples, kind)

    def holds(self, examples: Sequence[Example]) -> bool:
        """Whether these are the strokes that were recorded last, or none at all."""
        kind = "joined" if "joined.0" in self._strokes else "begun"
        told = recorded.record(examples, kind)
        same = all(torch.equal(t, self._strokes[name]) for name, t in told.items())
        return same or not any(len(t) for t in told.values())

    def write(self, trainer: Trainer, standing: Standing, clock: Clock) -> None:
        """Write the state.

        Raises
        ------
        OutputError
            If the disk does not take it.
        """
        facts, best = standing.saved()
        facts |= {
            "steps": trainer.steps,
            "rate": trainer.rate,
            "seconds": clock.training,
            "limit": clock.limit,
        }
        tensors = trainer.snapshot() | self._strokes | best
        resume.save(resume.Saved(self._key, facts, tensors), self._output)
        self._last = time.monotonic()

    def restore(self, saved: resume.Saved, trainer: Trainer, clock: Clock) -> Standing:
        """Take up what `write` has kept.

        Raises
        ------
        UsageError
            If it was another training.
        ModelError
            If the state is damaged.
        """
        resume.check(saved, self._key)
        facts = saved.facts
        try:
            trainer.restore(saved.tensors, facts["steps"], facts["rate"])
            standing = Standing.restored(facts, saved.tensors)
            clock.add(float(facts["seconds"]))
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError(
                "The training state is damaged",
                found=str(error).splitlines()[0],
                hint="Delete it and train anew.",
            ) from error
        return standing
