"""Which intensity scaling a network was trained with, told from its batch norms.

A batch norm remembers mean and variance of what it saw in training. The scaling under
which an image of the same kind gives the first batch norm those statistics again is,
nearly always, the one of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from napari_unet.errors import UsageError
from napari_unet.images.intensity import Normalization, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.network import Network

_SMALL = 1e-5
_MOST = {2: (512, 512), 3: (32, 128, 128)}


class _Seen(Exception):
    """Carries what a batch norm is given."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.values = values


@dataclass(frozen=True)
class Guess:
    """How well one scaling explains what a network remembers.

    Attributes
    ----------
    normalization : Normalization
        The scaling.
    distance : float
        Kullback-Leibler divergence, mean over the channels, of a normal distribution
        with the statistics of this image from one with those remembered; in nats, 0
        is perfect.
    """

    normalization: Normalization
    distance: float


def candidates(dtype: np.dtype[np.generic]) -> list[Normalization]:
    """List the scalings in common use for pixels of a type."""
    found = [Normalization(kind=k) for k in ("zscore", "minmax", "percentile", "none")]
    if dtype.kind == "u":
        gain = 1 / ((1 << (8 * dtype.itemsize)) - 1)
        found.append(Normalization(kind="linear", gain=gain))
    return found


def detect(
    network: Network, stack: ImageStack, channels: Sequence[int] | None = None
) -> list[Guess]:
    """Compare scalings by what they make of an image.

    Scalings that make nearly the same of this image cannot be told apart; their
    distances are alike.

    Parameters
    ----------
    network : Network
        As it was opened, with its batch norms.
    stack : ImageStack
        The image. Its statistics are measured whole; the network sees the middle.
    channels : sequence of int, optional
        Channels of the stack that feed the network; all when not given.

    Returns
    -------
    list of Guess
        Best first.

    Raises
    ------
    UsageError
        If the network has no batch norm with statistics, or the image does not fit.
    """
    norm, guesses = first_batch_norm(network), []
    sample = _middle(network, stack, channels)
    for rule in candidates(sample.dtype):
        scaled = measure(stack, [rule], channels=channels).apply(sample)
        guesses.append(Guess(rule, _distance(network, norm, scaled)))
    return sorted(guesses, key=lambda g: g.distance)


def _middle(
    network: Network, stack: ImageStack, channels: Sequence[int] | None
) -> np.ndarray:
    """Read the middle of a stack, (in_channels, *spatial), in sizes of the stride."""
    spec, grid = network.spec, network.geometry.stride
    index: dict[str, int | slice] = {a: n // 2 for a, n in stack.sizes.items()}
    for axis, step, most in zip(spec.spatial, grid, _MOST[spec.ndim], strict=True):
        size = stack.sizes.get(axis, 1)
        length = max(min(size, most) // step * step, 1)
        index[axis] = slice((size - length) // 2, (size - length) // 2 + length)
    index["C"] = slice(None)
    sample = stack.read(index, "C" + spec.spatial)
    sample = sample if channels is None else sample[list(channels)]
    if len(sample) != spec.in_channels or min(sample.shape[1:]) < min(grid):
        raise UsageError(
            f"{stack.name} does not fit {spec.name}",
            found=f"{len(sample)} channels of {sample.shape[1:]} pixels",
            expected=f"{spec.in_channels} channels of at least {grid} pixels",
        )
    return sample


def first_batch_norm(network: Network) -> _BatchNorm:
    """Return the batch norm that sees the image first.

    Raises
    ------
    UsageError
        If there is none with statistics.
    """
    for module in network.module.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            return module
    raise UsageError(
        f"{network.spec.name} does not tell how its images were scaled",
        found="no batch norm with statistics",
        hint="Try the scalings in the preview.",
    )


def _distance(network: Network, norm: _BatchNorm, image: np.ndarray) -> float:
    values = _reach(network, norm, image).double().transpose(0, 1).flatten(1)
    mean, var = values.mean(1), values.var(1) + _SMALL
    old_mean = norm.running_mean.double()  # type: ignore[union-attr]
    old_var = norm.running_var.double() + _SMALL  # type: ignore[union-attr]
    ratio = var / old_var
    gap = (mean - old_mean).square() / old_var
    return float((0.5 * (ratio - 1 - ratio.log() + gap)).mean())


def _reach(network: Network, norm: _BatchNorm, image: np.ndarray) -> torch.Tensor:
    """Run the network as far as to a batch norm and return what that is given."""

    def stop(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        raise _Seen(args[0])

    handle = norm.register_forward_pre_hook(stop)
    try:
        network(torch.from_numpy(image)[None])
    except _Seen as seen:
        return seen.values
    finally:
        handle.remove()
    raise UsageError(f"The first batch norm of {network.spec.name} is never reached")
