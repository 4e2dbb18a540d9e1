"""Losses that only see painted pixels.

Painted pixels are gathered before any arithmetic, so the gradient at every other logit
is exactly zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from napari_unet.training.coding import Coding


def stroke_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    coding: Coding,
    weights: torch.Tensor | None = None,
    balanced: bool = True,
) -> torch.Tensor:
    """Cross-entropy plus soft Dice loss on painted pixels.

    The sum is that of Isensee et al., nnU-Net (Nature Methods 2021), here restricted to
    painted pixels.

    Parameters
    ----------
    logits : torch.Tensor
        (N, C, *spatial).
    target : torch.Tensor
        Integers (N, *spatial); 0 is not painted.
    coding : Coding
        What the targets stand for.
    weights : torch.Tensor, optional
        float32 as the target: how much a pixel counts in the cross-entropy, against
        others of its class where that is balanced, else against all.
    balanced : bool
        Whether all classes count the same in the cross-entropy; in the Dice loss they
        always do.

    Returns
    -------
    torch.Tensor
        float32 scalar; 0 where nothing is painted.
    """
    vectors, wanted = painted(logits, target)
    if not len(wanted):
        return vectors.sum()
    log = coding.log_probability(vectors)
    chosen = None if weights is None else weights[target > 0]
    if balanced:
        return cross_entropy(log, wanted, chosen) + dice_loss(log, wanted, coding)
    return plain_cross_entropy(log, wanted, chosen) + dice_loss(log, wanted, coding)


def painted(
    logits: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gather painted pixels: logits (pixels, C) in float32, targets (pixels,)."""
    mask = target > 0
    return logits.movedim(1, -1)[mask].float(), target[mask].long()


def cross_entropy(
    log: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean over the targets present of the weighted mean over their pixels.

    Parameters
    ----------
    log : torch.Tensor
        Log-probabilities (pixels, targets).
    wanted : torch.Tensor
        Targets from 1, (pixels,).
    weights : torch.Tensor, optional
        (pixels,), all the same when not given.
    """
    costs = -log.gather(1, wanted[:, None] - 1)[:, 0]
    if weights is None:
        weights = torch.ones_like(costs)
    masks = [wanted == t for t in _present(wanted)]
    means = [(costs[m] * weights[m]).sum() / weights[m].sum() for m in masks]
    return torch.stack(means).mean()


def plain_cross_entropy(
    log: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted mean over all pixels; arguments as for `cross_entropy`."""
    costs = -log.gather(1, wanted[:, None] - 1)[:, 0]
    if weights is None:
        return costs.mean()
    return (costs * weights).sum() / weights.sum()


def dice_loss(log: torch.Tensor, wanted: torch.Tensor, coding: Coding) -> torch.Tensor:
    """1 - soft Dice (Milletari et al., 3DV 2016), mean over the targets present.

    Pixels whose target shares channels with another neither speak for nor against it.
    """
    apart = _apart(coding)
    losses = []
    for target in _present(wanted):
        mine = (wanted == target).float()
        probability = log[:, target - 1].exp()
        other = apart[target - 1].to(wanted.device)[wanted - 1].float()
        both = (probability * mine).sum()
        total = (probability * (mine + other)).sum() + mine.sum()
        losses.append(1 - 2 * both / total)
    return torch.stack(losses).mean()


def _present(wanted: torch.Tensor) -> list[int]:
    return sorted(set(wanted.tolist()))


def _apart(coding: Coding) -> torch.Tensor:
    """Which targets exclude each other, bool (targets, targets)."""
    rows = coding.rows
    if coding.softmax:
        return (rows @ rows.T) == 0
    return (rows[:, None] != rows[None]).any(-1)
