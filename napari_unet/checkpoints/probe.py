"""What a network gives on a small patch of noise, to compare others with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.networks.network import Network

_LEAST = 16


@dataclass(frozen=True)
class Probe:
    """A patch, (1, C, *spatial) float32, and the network's raw output for it."""

    patch: torch.Tensor
    output: torch.Tensor

    @property
    def largest(self) -> float:
        """Largest absolute value of the output."""
        return float(self.output.abs().max())

    def difference(self, run: Callable[[torch.Tensor], torch.Tensor]) -> float:
        """Largest absolute difference of what `run` gives; infinite if misshaped."""
        with torch.inference_mode():
            found = run(self.patch.clone())
        if found.shape != self.output.shape:
            return float("inf")
        return float((found - self.output).abs().max())


def lengths(network: Network, least: tuple[int, ...] = ()) -> list[int]:
    """Return input lengths that the network takes as they are.

    Parameters
    ----------
    network : Network
        Any.
    least : tuple of int
        Lengths that the output has at least, per spatial axis.
    """
    lay = network.geometry
    found = []
    for axis, stride in enumerate(lay.stride):
        # two pixels in the deepest level, which norms over the image need
        wanted = max(_LEAST, 2 * stride, least[axis] if least else 0)
        short = (lay.remainder[axis] - wanted) % stride
        found.append(wanted + short + 2 * lay.margin[axis])
    return found


def probe(network: Network, least: tuple[int, ...] = ()) -> Probe:
    """Run a network on a patch of noise, the same each time."""
    shape = (1, network.spec.in_channels, *lengths(network, least))
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    patch = torch.from_numpy(noise)
    with torch.inference_mode():
        return Probe(patch, network.module(patch.clone()))
