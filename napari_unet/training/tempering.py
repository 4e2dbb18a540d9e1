"""Tempering: a fine-tuned network that forgot is drawn back towards its base.

The mean of the weights before and after fine-tuning is often better than either on
what the base knew, at little loss on what is new (Wortsman et al., CVPR 2022). It is
valid because fine-tuning keeps the running statistics of batch norms.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from napari_unet.networks.network import Network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.training.trainer import State

SHARES = (1.0, 0.75, 0.5, 0.25)
"""How much of the way from the base to the tuned weights is tried, the most first."""


def tempered(base: Network, state: State) -> Iterator[tuple[float, Network]]:
    """Networks between a base and the weights it was tuned to.

    Parameters
    ----------
    base : Network
        What the training started from.
    state : mapping
        The tuned weights.

    Yields
    ------
    (float, Network)
        Each of `SHARES` and the network at it.
    """
    start = base.module.state_dict()
    for share in SHARES:
        module = copy.deepcopy(base.module).float()
        if share == 1.0:
            module.load_state_dict(state)
        else:
            mixed = {
                name: start[name].cpu().float().lerp(tuned.float(), share)
                if tuned.is_floating_point()
                else tuned
                for name, tuned in state.items()
            }
            module.load_state_dict(mixed)
        yield share, Network(module, base.spec, base.digest)
