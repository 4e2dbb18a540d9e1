"""ATen operators that are layers: convolutions, norms, poolings, up-sampling, padding.

Arguments come in the order of ATen's own schemas
(aten/src/ATen/native/native_functions.yaml, torch 2.13).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats.aten_sizes import number, plain, whole
from napari_unet.checkpoints.formats.tape import Refused, Tape, Value, constant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LINEAR = {2: "bilinear", 3: "trilinear"}


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
    kernel, spread = list(weight.shape[2:]), _each(tape, dilation)
    if isinstance(padding, str):
        x, padding = _automatic(tape, x, padding, kernel, spread)
    settings = {
        "in_channels": weight.shape[1] * whole(groups),
        "out_channels": weight.shape[0],
        "kernel_size": kernel,
        "stride": _each(tape, stride),
        "padding": _each(tape, padding),
        "dilation": spread,
        "groups": whole(groups),
        "bias": bias is not None,
    }
    return tape.add("conv", [x], settings, weight=weight, bias=_known(bias))


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
        "stride": _each(tape, stride),
        "padding": _each(tape, padding),
        "output_padding": _each(tape, output_padding),
        "dilation": _each(tape, dilation),
        "groups": whole(groups),
        "bias": bias is not None,
    }
    weights = {"weight": weight, "bias": _known(bias)}
    return tape.add("transposed", [plain(x)], settings, **weights)


def linear(tape: Tape, x: Any, weight: Any, bias: Any = None) -> Value:
    """Carry out ``linear`` on one pixel: a convolution of kernel 1."""
    if not isinstance(x, Value) or x.dropped != tape.ndim:
        raise Refused("a linear layer over the image")
    kernel = _known(weight).reshape(*weight.shape, *[1] * tape.ndim)
    return replace(conv(tape, replace(x, dropped=0), kernel, bias), dropped=x.dropped)


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
    weights = _affine(weight, bias, len(_known(mean)))
    settings = {"num_features": len(mean), "eps": eps, "affine": bool(weights)}
    weights |= {"running_mean": mean, "running_var": _known(var)}
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


def max_pool(
    tape: Tape,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value:
    """Carry out ``max_pool2d`` and ``max_pool3d``."""
    settings = _pool(tape, kernel, stride, padding, ceil_mode)
    settings["dilation"] = _each(tape, dilation)
    return tape.add("max_pool", [plain(x)], settings)


def average_pool(
    tape: Tape,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Value:
    """Carry out ``avg_pool2d`` and ``avg_pool3d``."""
    if divisor_override is not None:
        raise Refused("an average pooling with a divisor of its own")
    settings = _pool(tape, kernel, stride, padding, ceil_mode)
    settings["count_include_pad"] = bool(count_include_pad)
    return tape.add("average_pool", [plain(x)], settings)


def adaptive(kind: str) -> Callable[..., Any]:
    """Make the adaptive pooling to one pixel, of kind mean or maximum."""

    def pool(tape: Tape, x: Any, size: Any) -> Value:
        if _each(tape, size) != [1] * tape.ndim:
            raise Refused("adaptive pooling to more than one pixel")
        return tape.add(kind, [plain(x)])

    return pool


def over_space(kind: str) -> Callable[..., Any]:
    """Make the mean or maximum over all pixels."""

    def reduce(
        tape: Tape, x: Any, dims: Any = None, keepdim: bool = False, dtype: Any = None
    ) -> Value:
        axes = len(plain(x).shape)
        given = sorted(whole(d) % axes for d in dims) if dims is not None else []
        if given != list(range(2, axes)) or dtype not in (None, torch.float32):
            raise Refused("a mean or maximum that is not over all pixels")
        return replace(tape.add(kind, [x]), dropped=0 if keepdim else tape.ndim)

    return reduce


def upsample_nearest(tape: Tape, x: Any, size: Any, *scales: Any) -> Value:
    """Carry out ``upsample_nearest2d`` and ``upsample_nearest3d``."""
    return _resize(tape, plain(x), size, scales, {"mode": "nearest"})


def upsample_linear(tape: Tape, x: Any, size: Any, align: bool, *scales: Any) -> Value:
    """Carry out ``upsample_bilinear2d`` and ``upsample_trilinear3d``."""
    settings = {"mode": _LINEAR[tape.ndim], "align_corners": bool(align)}
    return _resize(tape, plain(x), size, scales, settings)


def pad(
    tape: Tape, x: Any, sides: Sequence[Any], mode: str = "constant", value: Any = None
) -> Value:
    """Carry out ``pad``, whose sides begin with the last axis."""
    x, known = plain(x), [constant(n) for n in sides]
    if mode not in ("constant", "reflect", "replicate"):
        raise Refused(f"padding of mode {mode}")
    if None in known or any(known[2 * tape.ndim :]) or len(known) % 2:
        raise Refused("padding that depends on the size of the image")
    if not any(known):
        return tape.add("identity", [x])
    whole_sides = [whole(n) for n in known] + [0] * (2 * tape.ndim - len(known))
    before = whole_sides[: 2 * tape.ndim : 2][::-1]
    after = whole_sides[1 : 2 * tape.ndim : 2][::-1]
    fill = number(value) or 0.0
    settings = {"before": before, "after": after, "mode": mode, "value": str(fill)}
    return tape.add("pad", [x], settings)


def constant_pad(tape: Tape, x: Any, sides: Sequence[Any], value: Any = 0) -> Value:
    """Carry out ``constant_pad_nd``."""
    return pad(tape, x, sides, "constant", value)


def padded(mode: str) -> Callable[..., Any]:
    """Make the padding of a mode."""
    return lambda tape, x, sides: pad(tape, x, sides, mode)


def _resize(
    tape: Tape, x: Value, size: Any, scales: Any, settings: dict[str, Any]
) -> Value:
    """Write an up-sampling by factors, which a size is divided for."""
    given = scales[0] if scales and isinstance(scales[0], (list, tuple)) else scales
    if size is None:
        factors = [float(number(f)) for f in given]
    else:
        if len(size) != tape.ndim:
            raise Refused("up-sampling of other axes than those in space")
        factors = [_factor(n, old) for n, old in zip(size, x.space, strict=True)]
        if any(f is not None and float(f) not in factors for f in given or ()):
            raise Refused("up-sampling to a size that does not go with its factor")
        if all(isinstance(n, int) for n in size):
            tape.note("up-sampling to a fixed size was read as up-sampling by a factor")
    return tape.add("resize", [x], {"scale_factor": factors, **settings})


def _factor(size: Any, old: Any) -> float:
    """Return the ratio of two sizes where it is whole, or one over it is."""
    ratio = np.unique(np.asarray(size, dtype=float) / old)
    fits = len(ratio) == 1 and ratio[0] > 0
    if not fits or (ratio[0] % 1 and (1 / ratio[0]) % 1):
        raise Refused("up-sampling to a size that is no whole multiple")
    return float(ratio[0])


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


def _pool(
    tape: Tape, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
) -> dict[str, Any]:
    size = _each(tape, kernel)
    return {
        "kernel_size": size,
        "stride": _each(tape, stride) if stride or stride == 0 else size,
        "padding": _each(tape, padding),
        "ceil_mode": bool(ceil_mode),
    }


def _each(tape: Tape, value: Any) -> list[int]:
    """Return one number for each spatial axis."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    values = values * tape.ndim if len(values) == 1 else values
    if len(values) != tape.ndim:
        raise Refused(f"{len(values)} numbers for {tape.ndim} axes")
    return [whole(n) for n in values]


def _weight(tape: Tape, value: Any) -> torch.Tensor:
    weight = _known(value)
    if weight.ndim != tape.ndim + 2:
        raise Refused(f"a convolution along {weight.ndim - 2} axes")
    return weight


def _known(value: Any) -> Any:
    """Return weights, which a graph may also compute from the image."""
    if value is not None and not isinstance(value, torch.Tensor):
        raise Refused("weights that are computed")
    return value


def _affine(weight: Any, bias: Any, channels: int) -> dict[str, torch.Tensor]:
    """Return weight and bias of a norm, both or none."""
    if weight is None and bias is None:
        return {}
    return {
        "weight": torch.ones(channels) if weight is None else _known(weight),
        "bias": torch.zeros(channels) if bias is None else _known(bias),
    }
