"""Test tensors that come with a checkpoint: what it must give, run and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from napari_unet.images.intensity import Normalization
    from napari_unet.networks.network import Network

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Check:
    """Outcome of running the test tensors.

    Attributes
    ----------
    passed : bool
        Whether the outputs agree.
    difference : float or None
        Largest absolute difference, None where shapes differ.
    found, expected : tuple of int
        Shapes.
    """

    passed: bool
    difference: float | None
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "passed": self.passed,
            "difference": self.difference,
            "found": list(self.found),
            "expected": list(self.expected),
        }


def compare(
    network: Network,
    inputs: list[Array],
    outputs: list[Array],
    activation: str,
    tolerance: tuple[float, float],
    is_scaled: bool = False,
) -> Check:
    """Run test inputs, (1, C, *spatial) each, and compare with the stored outputs.

    Parameters
    ----------
    network : Network
        Whose spec says how inputs are scaled.
    inputs, outputs : list of numpy.ndarray
        Stacked along the channel axis.
    activation : str
        Declared after the network: sigmoid, softmax or none.
    tolerance : tuple of float
        Relative and absolute.
    is_scaled : bool
        Whether the inputs are what the network itself sees.
    """
    image = np.concatenate(inputs, axis=1)
    if not is_scaled:
        image = normalized(image, network.spec.normalization)
    expected = np.concatenate(outputs, axis=1)
    found = activate(network(image), activation).numpy()
    if found.shape != expected.shape:
        return Check(False, None, found.shape, expected.shape)
    gap = np.abs(found - expected)
    relative, absolute = tolerance
    passed = bool((gap <= absolute + relative * np.abs(expected)).all())
    return Check(passed, float(gap.max(initial=0)), found.shape, expected.shape)


def normalized(image: Array, norms: tuple[Normalization, ...]) -> Array:
    """Scale a test input (1, C, *spatial) as the specification does."""
    image = image.astype(np.float64)
    if len(norms) == 1 and norms[0].joint:
        return _scaled(image, norms[0]).astype(np.float32)
    channels = [
        _scaled(image[:, [n]], norms[n % len(norms)]) for n in range(image.shape[1])
    ]
    return np.concatenate(channels, axis=1).astype(np.float32)


def activate(logits: torch.Tensor, activation: str) -> torch.Tensor:
    """Turn logits (N, C, *spatial) into probabilities."""
    if activation == "sigmoid":
        return logits.sigmoid()
    return logits.softmax(1) if activation == "softmax" else logits


def _scaled(values: Array, norm: Normalization) -> Array:
    if norm.kind == "linear":
        low, gain, offset = 0.0, norm.gain, norm.offset
    else:
        (low, gain), offset = _affine(values, norm), 0.0
    scaled: Array = (values - low) * gain + offset
    if norm.clip and norm.kind in ("minmax", "percentile"):
        scaled = scaled.clip(0.0, 1.0)
    return scaled


def _affine(values: Array, norm: Normalization) -> tuple[float, float]:
    """Return what is taken off the values and what they are then multiplied by."""
    if norm.kind == "zscore":
        return float(values.mean()), 1.0 / (float(values.std()) + norm.eps)
    if norm.kind == "none":
        return 0.0, 1.0
    ends = (0, 100) if norm.kind == "minmax" else (norm.low, norm.high)
    low, high = np.percentile(values, ends)
    return float(low), 1.0 / (float(high) - float(low) + norm.eps)
