"""From kept probabilities to classes, doubt and the evidence of objects; no torch.

What the tasks do with logits, `napari_unet.tasks.semantic` and its siblings, done again
with other thresholds in a process that must not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

_KNOWN = ("semantic", "instances")


@dataclass(frozen=True)
class Decision:
    """How a network's probabilities are read.

    Attributes
    ----------
    task : {"semantic", "instances"}
        As in the network's description.
    activation : {"softmax", "sigmoid", "none"}
        What made the probabilities; with "none" the network itself did.
    channels : int
        Number of classes or outputs.
    """

    task: str
    activation: str
    channels: int

    @classmethod
    def of(cls, task: str, activation: str, channels: int) -> Decision | None:
        """Make it, or None for tasks whose outputs are no probabilities."""
        return cls(task, activation, channels) if task in _KNOWN else None

    @property
    def has_threshold(self) -> bool:
        """Whether labels depend on a threshold; most of several classes wins else."""
        return not (self._is_exclusive and self.channels > 2) or self._is_outlined

    def labels(self, values: np.ndarray, threshold: float) -> np.ndarray:
        """Class ids of probabilities, as a run with that threshold gives them.

        Of three and more classes that exclude each other the first of equal ones is
        taken, where a run compares logits: these can differ where the two largest lie
        within 1e-7 of each other.

        Parameters
        ----------
        values : numpy.ndarray
            (C, ...) float32.
        threshold : float
            Probability from which a pixel is foreground.

        Returns
        -------
        numpy.ndarray
            (...) uint8, or uint16 for more than 255 classes.
        """
        limit = np.float32(threshold)
        if self._is_outlined:
            found: np.ndarray = values[1] + values[2] >= limit
        elif self._is_exclusive and self.channels == 2:
            found = values[1] >= limit
        elif self._is_exclusive:
            found = values.argmax(0)
        else:
            found = np.where(values.max(0) >= limit, values.argmax(0) + 1, 0)
        labels: np.ndarray = found.astype(self.dtype)
        return labels

    def doubt(self, values: np.ndarray) -> np.ndarray:
        """1 - the margin of the two best classes, (...) float32; 0 if nothing is there.

        Margin sampling, Scheffer et al. 2001. Interior and boundary of an object are
        one class; of several sigmoid outputs the least sure one counts.
        """
        empty = ~values.any(axis=0)
        if self._is_outlined:
            values = np.stack([values[0], values[1] + values[2]])
        if not self._is_exclusive:
            margin = np.abs(2 * values - 1).min(0)
        else:
            best = np.partition(values, -2, axis=0)[-2:]
            margin = best[1] - best[0]
        found: np.ndarray = np.where(empty, 0, 1 - margin)
        return found.astype(np.float32, copy=False)

    def evidence(self, values: np.ndarray, threshold: float) -> np.ndarray:
        """Return what the task's `separate` needs, (K, ...)."""
        if self._is_outlined:
            return values[1:]
        return self.labels(values, threshold)[None]

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Type of the labels."""
        return np.dtype(np.uint8 if self.channels <= 255 else np.uint16)

    @property
    def _is_exclusive(self) -> bool:
        """Whether the channels are classes of which one is true."""
        return self.channels > 1 and self.activation != "sigmoid"

    @property
    def _is_outlined(self) -> bool:
        """Whether the channels are background, interior and boundary."""
        return self.task == "instances"


def decision_of(facts: Mapping[str, Any]) -> Decision | None:
    """Say how a model's probabilities are read, from its facts; None if they are none.

    Parameters
    ----------
    facts : mapping
        As `napari_unet.checkpoints.inspect` tells them.
    """
    task, activation = str(facts.get("task")), str(facts.get("activation"))
    return Decision.of(task, activation, int(facts["out_channels"]))
