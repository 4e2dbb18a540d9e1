"""Weights, images and samples that are the same wherever they are made."""

from __future__ import annotations

import zlib
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Schema = Sequence[tuple[str, Sequence[int], str]]

MOST = 1024


def fill(schema: Schema) -> dict[str, np.ndarray]:
    """Return a value for each (name, shape, dtype), derived from the name alone.

    Weights have the variance that keeps activations at about one; norms and their
    statistics differ from channel to channel.
    """
    return {name: _value(name, tuple(shape), dtype) for name, shape, dtype in schema}


def image(shape: Sequence[int]) -> np.ndarray:
    """Return an input (N, C, *spatial) with structure at several scales, float32."""
    rough = _uniform("image", tuple(shape))
    axes = tuple(range(2, len(shape)))
    smooth = sum(np.roll(rough, n, axes) for n in range(4)) / 2
    return (smooth + 0.3 * _uniform("grain", tuple(shape))).astype(np.float32)


def sample(output: np.ndarray) -> np.ndarray:
    """Return at most 1,024 values of an output, spread over all of it."""
    flat = np.asarray(output, np.float32).ravel()
    if flat.size <= MOST:
        return flat
    return flat[np.linspace(0, flat.size - 1, MOST).astype(int)]


def _value(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if not dtype.startswith("float"):
        return np.zeros(shape, dtype)
    draw = _uniform(name, shape)  # about -1.73 to 1.73, variance 1
    last = name.rpartition(".")[2]
    if last == "running_var":
        values = 1.0 + 0.25 * draw
    elif last == "running_mean":
        values = 0.3 * draw
    elif len(shape) >= 2:
        values = draw * np.sqrt(2.0 / max(prod(shape[1:]), 1))
    elif last == "weight":
        values = 0.9 + 0.2 * draw if shape != (1,) else 0.2 + 0.05 * draw
    else:
        values = 0.1 * draw
    return np.asarray(values, dtype)


def _uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform values of variance 1 from the raw bits of PCG64, which never change."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(max(prod(shape), 1))
    unit = np.atleast_1d(bits >> np.uint64(11)) * 2.0**-53
    return ((unit - 0.5) * np.sqrt(12.0))[: prod(shape)].reshape(shape)
