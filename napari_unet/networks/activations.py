"""What turns a network's output into probabilities, the other way round."""

from __future__ import annotations

import torch

_LEAST = 1e-7
"""Smallest probability; about the distance of the largest one below 1 from 1."""


def logits_of(probabilities: torch.Tensor, activation: str) -> torch.Tensor:
    """Return logits that an activation turns into given probabilities.

    Parameters
    ----------
    probabilities : torch.Tensor
        Of softmax, they sum up to 1 over the channels.
    activation : {"softmax", "sigmoid"}
        What is to be undone.

    Returns
    -------
    torch.Tensor
        Of the same shape, float32.
    """
    probabilities = probabilities.float()  # half precision has no such steps
    if activation == "sigmoid":
        return torch.logit(probabilities, _LEAST)
    return torch.log(probabilities.clamp(min=_LEAST))
