"""Coding: which output channels a target stands for.

A target is a group of channels. Most are a single channel; a pixel that is object in
an instance network is interior or boundary, and its probability is their sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from napari_unet.errors import ModelError, StrokesError

if TYPE_CHECKING:
    from napari_unet.networks.spec import ModelSpec
    from napari_unet.training.annotations import Kind

_HOW = (
    "Paint classes: 1 = background, 2 = first kind of object; or make a new network "
    "for instances."
)


_LEAST = 1e-6  # probability that a network's own sigmoid can tell from 0


@dataclass(frozen=True)
class Coding:
    """Targets of one network; target t (from 1) is row t - 1.

    Attributes
    ----------
    rows : torch.Tensor
        float32, (targets, channels). Softmax: 1 where a channel is part of the target.
        Sigmoid: 1 where a channel is on, -1 where it is off.
    softmax : bool
        Whether channels compete.
    verdict : tuple of int
        Rows that a decision is taken between.
    truth : tuple of int
        For each target its position in `verdict`.
    final : bool
        Whether the network ends with its softmax or sigmoid, and gives probabilities.
    """

    rows: torch.Tensor = field(repr=False)
    softmax: bool
    verdict: tuple[int, ...]
    truth: tuple[int, ...]
    final: bool = False

    @classmethod
    def of(cls, spec: ModelSpec, kind: Kind) -> Coding:
        """Make the coding of a network for painted classes or painted objects.

        Raises
        ------
        ModelError
            If the network gives final values that no strokes can teach.
        StrokesError
            If objects are painted and the network has several kinds of object.
        """
        if spec.task not in ("semantic", "instances"):
            raise ModelError(
                f"The model {spec.name} cannot learn from strokes",
                found=f"task {spec.task}, activation {spec.activation}",
                expected="an output that tells classes apart",
            )
        if kind == "classes":
            rows = _class_rows(spec)
            return cls(rows, exclusive(spec), *_identity(len(rows)), _is_final(spec))
        return cls._of_objects(spec)

    @classmethod
    def _of_objects(cls, spec: ModelSpec) -> Coding:
        """Targets background, interior, boundary and either of the two."""
        if spec.task == "instances":
            rows = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1.0]])
            return cls(rows, True, (0, 3), (0, 1, 1, 1), _is_final(spec))
        rows = _class_rows(spec)
        if len(rows) != 2:
            raise StrokesError(
                f"The model {spec.name} cannot learn from painted objects",
                found=f"{len(rows)} classes",
                expected="background and one kind of object",
                hint=_HOW,
            )
        rows = rows[[0, 1, 1, 1]]
        return cls(rows, exclusive(spec), (0, 1), (0, 1, 1, 1), _is_final(spec))

    def log_probability(self, vectors: torch.Tensor) -> torch.Tensor:
        """Log-probability of every target.

        Parameters
        ----------
        vectors : torch.Tensor
            Output of the network at single pixels, float32 (pixels, channels).

        Returns
        -------
        torch.Tensor
            float32, (pixels, targets).
        """
        rows = self.rows.to(vectors.device)
        if self.final:
            vectors = self._logits(vectors)
        if not self.softmax:
            signed = rows[None] * vectors[:, None]
            return torch.nn.functional.logsigmoid(signed).sum(-1)
        log = vectors.log_softmax(1)
        return torch.stack(
            [log[:, row > 0].logsumexp(1) for row in rows],
            1,
        )

    def probability(self, output: torch.Tensor) -> torch.Tensor:
        """Probability of every channel, (N, C, *spatial), of a network's output."""
        if self.final:
            return output
        return output.softmax(1) if self.softmax else output.sigmoid()

    def _logits(self, vectors: torch.Tensor) -> torch.Tensor:
        """Undo the softmax or sigmoid of the network."""
        if self.softmax:
            return vectors.clamp(min=_LEAST).log()
        return torch.logit(vectors, _LEAST)

    def decide(self, vectors: torch.Tensor) -> torch.Tensor:
        """Class (from 0) of every pixel, int64 (pixels,)."""
        return self.log_probability(vectors)[:, list(self.verdict)].argmax(1)


def exclusive(spec: ModelSpec) -> bool:
    """Whether the channels of a network compete, as those of a softmax do."""
    return spec.activation != "sigmoid" and (
        spec.out_channels > 1 or spec.activation == "softmax"
    )


def _is_final(spec: ModelSpec) -> bool:
    return spec.activation == "none"


def _class_rows(spec: ModelSpec) -> torch.Tensor:
    """Rows of class 1, 2 and so on.

    With sigmoid outputs class 1 is all channels off. A pixel painted as one kind of
    object is none of the others.
    """
    if spec.task == "instances":
        return torch.tensor([[1, 0, 0], [0, 1, 1.0]])
    one = torch.eye(spec.out_channels)
    if exclusive(spec):
        return one
    return torch.cat([torch.zeros(1, spec.out_channels), one]) * 2 - 1


def _identity(number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(range(number)), tuple(range(number))
