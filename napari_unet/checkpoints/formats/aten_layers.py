"""ATen operators that are layers with weights: convolutions and norms.

Arguments come in the order of ATen's own schemas
(aten/src/ATen/native/native_functions.yaml, torch 2.13).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from napari_unet.checkpoints.formats.aten_numbers import each, plain, whole
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value, constant


def convolution(
    tape: Tape,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: Any,
    *_: Any,
) -> Value:
    """Carry out ``convolution`` and ``_convolution``, whose last arguments say how."""
    if transposed:
        return conv_transpose(
            tape, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return conv(tape, x, weight, bias, stride, padding, dilation, groups)


def conv(
    tape: Tape,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Value:
    """Carry out ``conv2d`` and ``conv3d``, where padding may be same or valid."""
    weight, x = _weight(tape, weight), plain(x)
    kernel, spread = list(weight.shape[2:]), each(tape, dilation)
    if isinstance(padding, str):
        x, padding = _automatic(tape, x, padding, kernel, spread)
    settings = {
        "in_channels": weight.shape[1] * whole(groups),
        "out_channels": weight.shape[0],
        "kernel_size": kernel,
        "stride": each(tape, stride),
        "padding": each(tape, padding),
        "dilation": spread,
        "groups": whole(groups),
        "bias": bias is not None,
    }
    return tape.add("conv", [x], settings, weight=weight, bias=known(bias))


def conv_transpose(
    tape: Tape,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Value:
    """Carry out ``conv_transpose2d`` and ``conv_transpose3d``."""
    weight = _weight(tape, weight)
    settings = {
        "in_channels": weight.shape[0],
        "out_channels": weight.shape[1] * whole(groups),
        "kernel_size": list(weight.shape[2:]),
        "stride": each(tape, stride),
        "padding": each(tape, padding),
        "output_padding": each(tape, output_padding),
        "dilation": each(tape, dilation),
        "groups": whole(groups),
        "bias": bias is not None,
    }
    weights = {"weight": weight, "bias": known(bias)}
    return tape.add("transposed", [plain(x)], settings, **weights)


def linear(tape: Tape, x: Any, weight: Any, bias: Any = None) -> Value:
    """Carry out ``linear`` on one pixel: a convolution of kernel 1."""
    if not isinstance(x, Value) or x.dropped != tape.ndim:
        raise Refused("a linear layer over the image")
    kernel = known(weight).reshape(*weight.shape, *[1] * tape.ndim)
    return replace(conv(tape, replace(x, dropped=0), kernel, bias), dropped=x.dropped)


def matrix(tape: Tape, x: Any, weight: Any) -> Value:
    """Carry out ``mm``: a linear layer whose weight is transposed."""
    return linear(tape, x, known(weight).t())


def added_matrix(tape: Tape, bias: Any, x: Any, weight: Any) -> Value:
    """Carry out ``addmm`` without factors, what becomes of a linear layer."""
    return linear(tape, x, known(weight).t(), bias)


def batch_norm(
    tape: Tape,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    training: bool,
    momentum: Any,
    eps: float,
    *_: Any,
) -> Value:
    """Carry out ``batch_norm`` and ``native_batch_norm`` in evaluation mode."""
    del momentum
    if training or mean is None or var is None:
        raise Refused("a batch norm that is still training")
    weights = _affine(weight, bias, len(known(mean)))
    settings = {"num_features": len(mean), "eps": eps, "affine": bool(weights)}
    weights |= {"running_mean": mean, "running_var": known(var)}
    return tape.add("batch_norm", [plain(x)], settings, **weights)


def instance_norm(
    tape: Tape,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    use_input_stats: bool,
    momentum: Any,
    eps: float,
    *_: Any,
) -> Value:
    """Carry out ``instance_norm``, with its own or with stored statistics."""
    if not use_input_stats:
        return batch_norm(tape, x, weight, bias, mean, var, False, momentum, eps)
    channels = plain(x).channels
    weights = _affine(weight, bias, channels)
    settings = {"num_features": channels, "eps": eps, "affine": bool(weights)}
    return tape.add("instance_norm", [x], settings, **weights)


def norm_of_images(
    tape: Tape,
    x: Any,
    weight: Any,
    bias: Any,
    *rest: Any,
) -> Value:
    """Carry out ``_native_batch_norm_legit``.

    Without statistics it is what becomes of an instance norm: a batch norm over a batch
    whose images lie among the channels.
    """
    if len(rest) == 5:
        return batch_norm(tape, x, weight, bias, *rest)
    _, momentum, eps = rest
    if not isinstance(x, Value) or not (x.merged or constant(x.shape[0]) == 1):
        raise Refused("a batch norm that is still training")
    image = replace(x, merged=False)
    done = instance_norm(tape, image, weight, bias, None, None, True, momentum, eps)
    return replace(done, merged=x.merged)


def group_norm(
    tape: Tape,
    x: Any,
    groups: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    """Carry out ``group_norm``."""
    channels = plain(x).channels
    weights = _affine(weight, bias, channels)
    settings = {"num_groups": whole(groups), "num_channels": channels, "eps": eps}
    settings["affine"] = bool(weights)
    return tape.add("group_norm", [x], settings, **weights)


def native_group_norm(
    tape: Tape,
    x: Any,
    weight: Any,
    bias: Any,
    batch: Any,
    channels: Any,
    pixels: Any,
    groups: Any,
    eps: float,
) -> Value:
    """Carry out ``native_group_norm``, which is told the shape once more."""
    del batch, channels, pixels
    return group_norm(tape, x, groups, weight, bias, eps)


def _automatic(
    tape: Tape, x: Value, word: str, kernel: list[int], dilation: list[int]
) -> tuple[Value, Any]:
    """Return the input and the padding that same or valid stands for."""
    if word == "valid":
        return x, 0
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if word != "same" or not any(n % 2 for n in total):
        return x, [n // 2 for n in total]
    before, after = [n // 2 for n in total], [n - n // 2 for n in total]
    return tape.add("pad", [x], {"before": before, "after": after}), 0


def _weight(tape: Tape, value: Any) -> torch.Tensor:
    weight: torch.Tensor = known(value)
    if weight.ndim != tape.ndim + 2:
        raise Refused(f"a convolution along {weight.ndim - 2} axes")
    return weight


def known(value: Any) -> Any:
    """Return weights, which a graph may also compute from the image."""
    if value is not None and not isinstance(value, torch.Tensor):
        raise Refused("weights that are computed")
    return value


def _affine(weight: Any, bias: Any, channels: int) -> dict[str, torch.Tensor]:
    """Return weight and bias of a norm, both or none."""
    if weight is None and bias is None:
        return {}
    return {
        "weight": torch.ones(channels) if weight is None else known(weight),
        "bias": torch.zeros(channels) if bias is None else known(bias),
    }
