"""Keras' activations, which differ between its versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.keras_steps import Step, constant, named
from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.checkpoints.formats.keras_steps import Dialect, Use

_NAMES = {
    **{n: n for n in ("relu", "elu", "selu", "gelu", "mish", "sigmoid", "tanh")},
    **{"softplus": "softplus", "relu6": "relu6", "swish": "silu", "silu": "silu"},
    **{"hard_swish": "hard_swish", "hard_silu": "hard_swish"},
}
_SLOPES = {"leaky_relu": 0.2, "elu": 1.0}


def ending(use: Use) -> list[Step]:
    """Return the steps of a layer's own activation, which may be a layer itself."""
    given = use.get("activation", default="linear")
    if isinstance(given, dict) and given.get("class_name") in LAYERS:
        inner = replace(use, config=given["config"], arrays=())
        return LAYERS[given["class_name"]](inner)
    return activation(given, use.dialect)


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


def _relu(use: Use) -> list[Step]:
    slope, most = use.get("negative_slope", default=0), use.get("max_value")
    if use.get("threshold", default=0) or most not in (None, 6) or (most and slope):
        raise Refused(f"a ReLU with limits {most} and {use.get('threshold')}")
    if slope:
        return [Step("activation", {"name": "leaky_relu", "slope": float(slope)})]
    return activation("relu6" if most else "relu", use.dialect)


def _leaky_relu(use: Use) -> list[Step]:
    slope = float(use.get("negative_slope", "alpha", default=0.3))
    return [Step("activation", {"name": "leaky_relu", "slope": slope})]


def _elu(use: Use) -> list[Step]:
    alpha = float(use.get("alpha", default=1.0))
    return [Step("activation", {"name": "elu", "slope": alpha})]


def _prelu(use: Use) -> list[Step]:
    (slope,) = use.weights(1)
    if slope.size not in (1, use.channels[0]) or slope.size not in slope.shape:
        raise Refused("a PReLU with a slope for each pixel")
    settings = {"num_parameters": slope.size}
    return [Step("prelu", settings, named(weight=slope.ravel()))]


def _softmax(use: Use) -> list[Step]:
    use.check_channel(use.get("axis", default=-1))
    return [Step("activation", {"name": "softmax"})]


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


LAYERS: dict[str, Callable[[Use], list[Step]]] = {
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "PReLU": _prelu,
    "Softmax": _softmax,
}
"""Activations that are layers."""
