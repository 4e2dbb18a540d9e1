"""Consistency: what a new network learns where nothing is painted.

Strokes leave nearly all pixels unpainted, and what a network says there changes from
step to step. It is asked to agree there with the average of its weights over the last
steps, a teacher that is steadier than itself (mean teacher, Tarvainen and Valpola,
NeurIPS 2017), more and more as that teacher gets to know something. The loss of the
painted pixels is untouched by this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from napari_unet.training.coding import Coding

_FROM, _FULL = 0.15, 0.5  # shares of the training at which it begins and is in full
_STEPS, _FADED = 400, 600  # by then it is in full, and over


def weight(progress: float, steps: int) -> float:
    """How much consistency counts, 0 to 1.

    It comes with the share of the training, or of 400 steps if these are fewer, and is
    over after 600 steps: after thousands a network agrees with itself on anything.

    Parameters
    ----------
    progress : float
        How much of the training is done.
    steps : int
        How many were made.
    """
    done = max(progress, steps / _STEPS)
    rise = min(max((done - _FROM) / (_FULL - _FROM), 0.0), 1.0)
    return rise * min(max((_FADED - steps) / (_FADED - _STEPS), 0.0), 1.0)


def consistency_loss(
    logits: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor, coding: Coding
) -> torch.Tensor:
    """Squared distance of two networks' probabilities at unpainted pixels.

    Parameters
    ----------
    logits, teacher : torch.Tensor
        (N, C, *spatial); nothing is learned by the teacher.
    target : torch.Tensor
        Integers (N, *spatial); 0 is not painted.
    coding : Coding
        What the channels are.

    Returns
    -------
    torch.Tensor
        float32 scalar, the mean over all pixels, painted ones counting nothing.
    """
    mine, wanted = (coding.probability(x.float()) for x in (logits, teacher.detach()))
    apart = ((mine - wanted) ** 2).sum(1)
    return (apart * (target == 0)).mean()
