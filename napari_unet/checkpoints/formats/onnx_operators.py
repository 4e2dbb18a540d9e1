"""ONNX operators as steps of a program (operator specification, opset 7 to 23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    Fixed = Sequence[np.ndarray[Any, Any] | None]
    Step = tuple[str, dict[str, Any], dict[str, np.ndarray[Any, Any]]]

_ACTIVATIONS = {
    **{"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Selu": "selu"},
    **{"Softplus": "softplus", "Mish": "mish", "HardSwish": "hard_swish"},
    "Gelu": "gelu",
}
_SLOPES = {"LeakyRelu": ("leaky_relu", 0.01), "Elu": ("elu", 1.0)}
_SUMS = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_LINEAR = {2: "bilinear", 3: "trilinear"}


def translate(
    operator: str, attributes: dict[str, Any], fixed: Fixed, ndim: int
) -> Step:
    """Return kind, settings and weights of the step that does the same.

    Parameters
    ----------
    operator : str
        Its ``op_type``.
    attributes : dict
        As the file gives them.
    fixed : sequence of numpy.ndarray or None
        The values of those inputs that are constants.
    ndim : int
        Number of spatial axes.

    Raises
    ------
    Refused
        If there is none.
    """
    if operator in _ACTIVATIONS:
        return "activation", {"name": _ACTIVATIONS[operator]}, {}
    if operator in _SLOPES:
        name, slope = _SLOPES[operator]
        return "activation", {"name": name, "slope": attributes.get("alpha", slope)}, {}
    if operator in _SUMS:
        return _sum(_SUMS[operator], fixed)
    if operator not in _TRANSLATORS:
        raise Refused(f"the operator {operator}")
    return _TRANSLATORS[operator](attributes, fixed, ndim)


def _conv(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    weight, bias = _needed(fixed, 1), _optional(fixed, 2)
    groups = attributes.get("group", 1)
    settings = {
        "in_channels": weight.shape[1] * groups,
        "out_channels": weight.shape[0],
        "kernel_size": list(weight.shape[2:]),
        "stride": list(attributes.get("strides", [1] * ndim)),
        "dilation": list(attributes.get("dilations", [1] * ndim)),
        "padding": _padding(attributes, ndim),
        "groups": groups,
        "bias": bias is not None,
    }
    return "conv", settings, _weights(weight=weight, bias=bias)


def _transposed(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    weight, bias = _needed(fixed, 1), _optional(fixed, 2)
    groups = attributes.get("group", 1)
    if "output_shape" in attributes:
        raise Refused("a transposed convolution to a fixed size")
    settings = {
        "in_channels": weight.shape[0],
        "out_channels": weight.shape[1] * groups,
        "kernel_size": list(weight.shape[2:]),
        "stride": list(attributes.get("strides", [1] * ndim)),
        "padding": _padding(attributes, ndim),
        "output_padding": list(attributes.get("output_padding", [0] * ndim)),
        "dilation": list(attributes.get("dilations", [1] * ndim)),
        "groups": groups,
        "bias": bias is not None,
    }
    return "transposed", settings, _weights(weight=weight, bias=bias)


def _batch_norm(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    weight, bias, mean, var = (_needed(fixed, n) for n in (1, 2, 3, 4))
    settings = {"num_features": len(weight), "eps": attributes.get("epsilon", 1e-5)}
    weights = _weights(weight=weight, bias=bias, running_mean=mean, running_var=var)
    return "batch_norm", settings, weights


def _instance_norm(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    weight, bias = _needed(fixed, 1), _needed(fixed, 2)
    settings = {"num_features": len(weight), "eps": attributes.get("epsilon", 1e-5)}
    return "instance_norm", settings, _weights(weight=weight, bias=bias)


def _pool(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    settings = {
        "kernel_size": list(attributes["kernel_shape"]),
        "stride": list(attributes.get("strides", [1] * ndim)),
        "padding": _padding(attributes, ndim),
        "ceil_mode": bool(attributes.get("ceil_mode", 0)),
    }
    if "dilations" in attributes:
        settings["dilation"] = list(attributes["dilations"])
    return "max_pool", settings, {}


def _average_pool(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    _, settings, _ = _pool(attributes, fixed, ndim)
    if set(settings.pop("dilation", [1])) != {1}:
        raise Refused("a dilated average pooling")
    settings["count_include_pad"] = bool(attributes.get("count_include_pad", 0))
    return "average_pool", settings, {}


def _prelu(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    slope = _needed(fixed, 1).ravel()
    return "prelu", {"num_parameters": len(slope)}, _weights(weight=slope)


def _softmax(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    if attributes.get("axis", -1) not in (1, -ndim - 1):
        raise Refused("a softmax over space")
    return "activation", {"name": "softmax"}, {}


def _hard_sigmoid(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    if abs(attributes.get("alpha", 0.2) - 1 / 6) > 1e-5:
        raise Refused("a hard sigmoid of another slope")
    return "activation", {"name": "hard_sigmoid"}, {}


def _concat(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    if attributes["axis"] not in (1, -ndim - 1) or any(f is not None for f in fixed):
        raise Refused("a concatenation that is not of channels")
    return "concat", {}, {}


def _same(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    return "identity", {}, {}


def _mean(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    return "mean", {}, {}


def _pad(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    mode = attributes.get("mode", b"constant")
    value = float(fixed[2]) if len(fixed) > 2 and fixed[2] is not None else 0.0
    given = attributes.get("pads", _optional(fixed, 1))
    pads = [int(n) for n in given] if given is not None else []
    before, after = pads[: ndim + 2], pads[ndim + 2 :]
    is_plain = mode == b"constant" and value == 0 and len(after) == ndim + 2
    if not is_plain or any((*before[:2], *after[:2])):
        raise Refused(f"padding of mode {mode.decode()}")
    return "pad", {"before": before[2:], "after": after[2:]}, {}


def _resize(attributes: dict[str, Any], fixed: Fixed, ndim: int) -> Step:
    scales = next((f for f in fixed[1:] if f is not None and f.dtype.kind == "f"), None)
    if scales is None and "scales" not in attributes:
        raise Refused("up-sampling to a size that is computed")
    given = attributes.get("scales", scales)
    factors = [float(s) for s in given] if given is not None else []
    mode = attributes.get("mode", b"nearest").decode()
    place = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    if len(factors) != ndim + 2 or factors[:2] != [1.0, 1.0]:
        raise Refused("up-sampling of channels")
    settings: dict[str, Any] = {"scale_factor": factors[2:]}
    if mode == "nearest":
        rounding = attributes.get("nearest_mode", b"round_prefer_floor").decode()
        whole = all(f == int(f) for f in factors)
        if not whole or (place == "asymmetric") != (rounding == "floor"):
            raise Refused(f"nearest up-sampling of kind {place}, {rounding}")
        return "resize", settings | {"mode": "nearest"}, {}
    if mode != "linear" or place == "asymmetric":
        raise Refused(f"up-sampling of kind {mode}, {place}")
    align = place == "align_corners"
    return "resize", settings | {"mode": _LINEAR[ndim], "align_corners": align}, {}


def _sum(kind: str, fixed: Fixed) -> Step:
    """Translate arithmetic of two inputs, one of which may be a constant."""
    first, second = fixed
    if first is None and second is None:
        return kind, {}, {}
    value = first if first is not None else second
    assert value is not None
    flat = value.ravel()
    if value.ndim > 1 and value.size > 1 and value.shape[-1] != 1:
        raise Refused("arithmetic with an image in the file")
    settings = {"operation": kind, "channels": flat.size, "first": first is not None}
    return "constant", settings, _weights(value=flat)


def _padding(attributes: dict[str, Any], ndim: int) -> list[int]:
    """Return the padding of each axis, alike on both sides."""
    before, after = uneven_padding(attributes, ndim)
    if before != after:
        raise Refused("padding that differs between the sides")
    return before


def uneven_padding(attributes: dict[str, Any], ndim: int) -> tuple[list[int], ...]:
    """Return the padding before and after, one number for each axis."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID", b""):
        raise Refused("automatic padding")
    pads = [int(n) for n in attributes.get("pads", [0] * 2 * ndim)]
    return pads[:ndim], pads[ndim:]


def _needed(fixed: Fixed, n: int) -> np.ndarray[Any, Any]:
    value = fixed[n] if n < len(fixed) else None
    if value is None:
        raise Refused("weights that are computed")
    return value


def _optional(fixed: Fixed, n: int) -> Any:
    return fixed[n] if n < len(fixed) else None


def _weights(**values: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: value for name, value in values.items() if value is not None}


_TRANSLATORS: dict[str, Callable[[dict[str, Any], Fixed, int], Step]] = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "MaxPool": _pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _mean,
    "PRelu": _prelu,
    "Softmax": _softmax,
    "HardSigmoid": _hard_sigmoid,
    "Concat": _concat,
    "Identity": _same,
    "Dropout": _same,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
}
