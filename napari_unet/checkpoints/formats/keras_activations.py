"""Keras' activations by name, which differ between its versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.checkpoints.formats.onnx_operators import Refused

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

_NAMES = {
    **{n: n for n in ("relu", "elu", "selu", "gelu", "mish", "sigmoid", "tanh")},
    **{"softplus": "softplus", "relu6": "relu6", "swish": "silu", "silu": "silu"},
    **{"hard_swish": "hard_swish", "hard_silu": "hard_swish"},
}
_SLOPES = {"leaky_relu": 0.2, "elu": 1.0}


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
        Of Keras, empty if unknown.
    ndim : int
        Number of spatial axes.
    last : bool
        Whether channels are the last axis.
    flipped : bool
        Whether kernels are those of a convolution proper, as in Theano.
    flat : bool
        Whether space is one axis here, with the channels behind it.
    """

    version: str
    ndim: int
    last: bool = True
    flipped: bool = False
    flat: bool = False

    @property
    def major(self) -> int:
        """The version's first number, 2 if unknown."""
        return int(self.version.partition(".")[0] or 2)

    def is_channel(self, axis: Any) -> bool:
        """Whether an axis is that of the channels, the batch being axis 0."""
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if self.flat:
            return axis in (-1, 2)
        if self.last:
            return axis in (-1, self.ndim + 1)
        return axis in (1, -self.ndim - 1)


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


def activation(given: Any, dialect: Dialect) -> list[Step]:
    """Return the steps of an activation, none for linear.

    Parameters
    ----------
    given : str or dict
        Its name, or a layer that serves as one.
    dialect : Dialect
        Of the model.

    Raises
    ------
    Refused
        If there are none.
    """
    if isinstance(given, dict):
        given = _named(given)
    if given == "linear":
        return []
    if given == "hard_sigmoid":
        return _hard_sigmoid(dialect)
    if given == "softmax" and not dialect.is_channel(-1):
        raise Refused("a softmax over space")
    name = "softmax" if given == "softmax" else _NAMES.get(given, "")
    if given == "leaky_relu":
        name = given
    if not name:
        raise Refused(f"the activation {given}")
    slope = {"slope": _SLOPES[name]} if name in _SLOPES else {}
    return [Step("activation", {"name": name, **slope})]


def _named(given: dict[str, Any]) -> str:
    """Return the name of an activation that was saved as an object of Keras."""
    config = given.get("config")
    name = config.get("activation") if isinstance(config, dict) else config
    is_known = str(given.get("module", "keras")).startswith("keras")
    if not is_known or given.get("class_name") not in ("Activation", "function"):
        raise Refused(f"the activation {str(given.get('class_name'))[:100]}")
    return str(name)


def _hard_sigmoid(dialect: Dialect) -> list[Step]:
    """Translate Keras 3's, which is torch's, or the steeper one before: x / 5 + 1/2."""
    if dialect.major >= 3:
        return [Step("activation", {"name": "hard_sigmoid"})]
    return [
        constant("mul", 0.2),
        constant("add", 0.5),
        Step("activation", {"name": "unit_clip"}),
    ]
