"""What translates a layer of Keras: its settings and weights in, steps out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

MOST = 4096
"""Pixels, for kernels, steps and paddings."""


@dataclass(frozen=True)
class Step:
    """One step of a program, its inputs aside."""

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """How the program that saved a model reads its settings.

    Attributes
    ----------
    version : str
        Of Keras.
    ndim : int
        Number of spatial axes.
    last : bool
        Whether channels are the last axis.
    flipped : bool
        Whether kernels are those of a convolution proper, as in Theano.
    axes : tuple of int
        What the axis of the channels is called here, counted from either end.
    """

    version: str
    ndim: int
    last: bool = True
    flipped: bool = False
    axes: tuple[int, ...] = ()

    @property
    def major(self) -> int:
        """The version's first number."""
        return int(self.version.partition(".")[0])

    def is_channel(self, axis: Any) -> bool:
        """Whether an axis is that of the channels, the batch being axis 0."""
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        return axis in self.axes


@dataclass(frozen=True)
class Use:
    """A layer where it is used.

    Attributes
    ----------
    config : dict
        Its settings.
    arrays : sequence of numpy.ndarray
        Its weights, in Keras' order.
    channels : tuple of int
        Of each input.
    dialect : Dialect
        How the model's program reads its settings.
    """

    config: dict[str, Any]
    arrays: Sequence[Array]
    channels: tuple[int, ...]
    dialect: Dialect

    def get(self, *names: str, default: Any = None) -> Any:
        """Return a setting under the first of its names that is there."""
        return next(
            (self.config[n] for n in names if self.config.get(n) is not None), default
        )

    def axes(self, *names: str, default: Any = 1) -> list[int]:
        """Return a setting as one whole number for each spatial axis."""
        value = self.get(*names, default=default)
        values = value if isinstance(value, (list, tuple)) else [value]
        values = values * self.dialect.ndim if len(values) == 1 else values
        values = [int(v) for v in values]
        if (
            len(values) != self.dialect.ndim
            or not 1 <= min(values) <= max(values) <= MOST
        ):
            raise Refused(f"{names[0]} {value}")
        return values

    def weights(self, count: int, has_bias: bool = False) -> list[Array]:
        """Return the layer's arrays, `count` and the bias."""
        if len(self.arrays) != count + has_bias:
            raise Refused(f"{len(self.arrays)} weights instead of {count + has_bias}")
        return list(self.arrays)

    def check_channel(self, axis: Any) -> None:
        """Refuse an axis that is not the channels'."""
        if not self.dialect.is_channel(axis):
            raise Refused(f"a layer along axis {axis}")


def constant(operation: str, value: Any, first: bool = False) -> Step:
    """Return the step that combines each channel with a number of its own, or one.

    Parameters
    ----------
    operation : str
        add, sub, mul or div.
    value : float or list of float
        One for all channels, or one for each.
    first : bool
        Whether the number comes first, as in 1 - x.
    """
    values = np.atleast_1d(np.asarray(value, np.float32))
    settings = {"operation": operation, "channels": values.size, "first": first}
    return Step("constant", settings, {"value": values.ravel()})


def named(**values: Any) -> dict[str, Array]:
    """Name arrays as torch does, with a list for one array or none."""
    flat = {k: v[0] if isinstance(v, list) and v else v for k, v in values.items()}
    return {k: v for k, v in flat.items() if not isinstance(v, list)}
