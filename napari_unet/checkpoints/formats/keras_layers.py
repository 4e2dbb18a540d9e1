"""Keras' layers as steps of a program (Keras 1.2, 2.15 and 3.15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.checkpoints.formats import (
    keras_activations,
    keras_convolutions,
    keras_resampling,
)
from napari_unet.checkpoints.formats.keras_steps import Step, constant, named
from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.checkpoints.formats.keras_steps import Use

    Array = np.ndarray[Any, Any]


def translate(kind: str, use: Use) -> list[Step]:
    """Return the steps that do the same as a layer, one after the other.

    Parameters
    ----------
    kind : str
        Its class.
    use : Use
        Its settings and weights.

    Raises
    ------
    Refused
        If there are none.
    """
    kind = _KERAS1.get(kind, kind)
    if kind in _SAME:
        return []
    if kind not in _TRANSLATORS:
        raise Refused(f"the layer {kind}")
    if (len(use.channels) > 1) != (kind in _JOINING):
        raise Refused(f"a {kind} of {len(use.channels)} inputs")
    if kind not in _WEIGHTED and use.arrays:
        raise Refused(f"weights of a {kind}")
    return _TRANSLATORS[kind](use)


def _batch_norm(use: Use) -> list[Step]:
    use.check_channel(use.get("axis", default=-1))
    if use.get("mode", default=0) or use.get("renorm", default=False):
        raise Refused("a batch normalisation of another kind")
    is_old = use.dialect.major == 1
    has_scale = is_old or use.get("scale", default=True)
    has_shift = is_old or use.get("center", default=True)
    *affine, mean, var = use.weights(2 + has_scale + has_shift)
    settings = {"num_features": len(mean), "eps": use.get("epsilon", default=1e-3)}
    scale, shift = _affine(affine, has_scale, has_shift, len(mean))
    weights = named(weight=scale, bias=shift, running_mean=mean, running_var=var)
    return [Step("batch_norm", settings, weights)]


def _group_norm(use: Use) -> list[Step]:
    use.check_channel(use.get("axis", default=-1))
    channels = use.channels[0]
    groups = int(use.get("groups", default=32))
    has_scale, has_shift = (use.get(n, default=True) for n in ("scale", "center"))
    affine = use.weights(has_scale + has_shift)
    scale, shift = _affine(affine, has_scale, has_shift, channels)
    settings = {
        "num_groups": channels if groups == -1 else groups,
        "num_channels": channels,
        "eps": use.get("epsilon", default=1e-3),
    }
    return [Step("group_norm", settings, named(weight=scale, bias=shift))]


def _rescaling(use: Use) -> list[Step]:
    scale, offset = use.get("scale", default=1.0), use.get("offset", default=0.0)
    return [constant("mul", scale), constant("add", offset)]


def _concatenate(use: Use) -> list[Step]:
    use.check_channel(use.get("axis", "concat_axis", default=-1))
    return [Step("concat")]


def _average(use: Use) -> list[Step]:
    return [Step("add"), constant("mul", 1 / len(use.channels))]


def _merge(use: Use) -> list[Step]:
    """Translate the one layer that Keras 1 had for sums, products and the like."""
    mode = use.get("mode", default="sum")
    if mode not in _MODES:
        raise Refused(f"a merge of kind {mode}")
    return _TRANSLATORS[_MODES[mode]](use)


def _affine(given: list[Array], scale: bool, shift: bool, count: int) -> list[Array]:
    """Return scale and shift, those that are not there as if they did nothing."""
    found = iter(given)
    return [
        next(found) if scale else np.ones(count, np.float32),
        next(found) if shift else np.zeros(count, np.float32),
    ]


_SAME = (
    *("Dropout", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise"),
    *("GaussianDropout", "AlphaDropout", "ActivityRegularization"),
)
"""Layers that do something in training only."""

_GROUPED = (
    *("GroupNormalization", "Addons>GroupNormalization"),
    "Addons>InstanceNormalization",
)
_JOINING = ("Concatenate", "Add", "Multiply", "Subtract", "Average", "Merge")
_KERAS1 = {
    **{"Convolution2D": "Conv2D", "Convolution3D": "Conv3D"},
    "AtrousConvolution2D": "Conv2D",
}
_MODES = {
    **{"concat": "Concatenate", "sum": "Add", "mul": "Multiply", "ave": "Average"},
}

_TRANSLATORS: dict[str, Callable[[Use], list[Step]]] = {
    **keras_convolutions.LAYERS,
    **keras_resampling.LAYERS,
    **keras_activations.LAYERS,
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization"), _batch_norm),
    **dict.fromkeys(_GROUPED, _group_norm),
    "Rescaling": _rescaling,
    "Concatenate": _concatenate,
    "Add": lambda _: [Step("add")],
    "Multiply": lambda _: [Step("mul")],
    "Subtract": lambda _: [Step("sub")],
    "Average": _average,
    "Merge": _merge,
    "Activation": keras_activations.ending,
}
_WEIGHTED = (
    *keras_convolutions.LAYERS,
    *("BatchNormalization", "SyncBatchNormalization", "PReLU", *_GROUPED),
)
