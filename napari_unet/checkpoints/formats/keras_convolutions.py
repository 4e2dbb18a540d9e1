"""Keras' convolutions as steps, with weights in torch's order of axes.

Padding of kind "same" is that of images whose size is a multiple of the stride.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.keras_activations import ending
from napari_unet.checkpoints.formats.keras_steps import Step, named
from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from napari_unet.checkpoints.formats.keras_steps import Dialect, Use

    Array = np.ndarray[Any, Any]


def _conv(use: Use) -> list[Step]:
    kernel, *bias = _kernel(use)
    weight = _to_torch(kernel, use.dialect)
    channels = use.channels[0]
    if channels % weight.shape[1] or weight.shape[1] * _groups(use) != channels:
        raise Refused(f"a kernel of shape {kernel.shape} on {channels} channels")
    strides = use.axes("strides", "subsample")
    dilation = use.axes("dilation_rate", "atrous_rate")
    return [
        *_convolution(use, weight, bias, strides, dilation, _groups(use)),
        *ending(use),
    ]


def _depthwise(use: Use) -> list[Step]:
    kernel, *bias = use.weights(1, use.get("use_bias", default=True))
    weight = _spread(kernel, use.dialect.ndim)
    strides, dilation = use.axes("strides"), use.axes("dilation_rate")
    return [
        *_convolution(use, weight, bias, strides, dilation, kernel.shape[-2]),
        *ending(use),
    ]


def _separable(use: Use) -> list[Step]:
    """Translate a convolution of each channel and one across the channels."""
    kernel, point, *bias = use.weights(2, use.get("use_bias", default=True))
    bare = {**use.config, "use_bias": False, "activation": "linear"}
    kept = ("use_bias", "activation")
    ends = {str(k): use.config[k] for k in kept if k in use.config}
    channels = (kernel.shape[-2] * kernel.shape[-1],)
    each = replace(use, arrays=[kernel], config=bare)
    across = replace(use, arrays=[point, *bias], channels=channels, config=ends)
    return [*_depthwise(each), *_conv(across)]


def _dense(use: Use) -> list[Step]:
    """Translate what does to the channels as a convolution of size 1 does."""
    use.check_channel(-1)
    kernel, *bias = use.weights(1, bool(use.get("use_bias", "bias", default=True)))
    weight = kernel.T.reshape(*kernel.shape[::-1], *[1] * use.dialect.ndim)
    ones = [1] * use.dialect.ndim
    inner = replace(use, config={})
    return [*_convolution(inner, weight, bias, ones, ones, 1), *ending(use)]


def _transposed(use: Use) -> list[Step]:
    """Translate the gradient of a convolution: paint, then cut to the wanted size."""
    kernel, *bias = _kernel(use)
    ndim = use.dialect.ndim
    if _groups(use) != 1:
        raise Refused("a transposed convolution in groups")
    weight = _to_torch(kernel, use.dialect)  # Keras has (*space, out, in) here
    stride, dilation = use.axes("strides"), use.axes("dilation_rate")
    sizes = zip(weight.shape[2:], stride, dilation, strict=True)
    cuts = [_cut(use, n, *size) for n, size in enumerate(sizes)]
    settings = {
        "in_channels": weight.shape[0],
        "out_channels": weight.shape[1],
        "kernel_size": list(weight.shape[2:]),
        **{"stride": stride, "dilation": dilation, "bias": bool(bias)},
        "padding": [before for before, _ in cuts],
        "output_padding": [max(-after, 0) for _, after in cuts],
    }
    rest = [min(before - after, 0) for before, after in cuts]
    crop = {"before": [0] * ndim, "after": rest}
    return [
        Step("transposed", settings, named(weight=weight, bias=bias)),
        *([Step("pad", crop)] if any(rest) else []),
        *ending(use),
    ]


def _convolution(
    use: Use,
    weight: Array,
    bias: list[Array],
    stride: list[int],
    dilation: list[int],
    groups: int,
) -> list[Step]:
    sizes = list(weight.shape[2:])
    pads, padding = padded(use, sizes, stride, dilation)
    settings = {
        "in_channels": weight.shape[1] * groups,
        "out_channels": weight.shape[0],
        "kernel_size": sizes,
        **{"stride": stride, "dilation": dilation, "padding": padding},
        **{"groups": groups, "bias": bool(bias)},
    }
    return [*pads, Step("conv", settings, named(weight=weight, bias=bias))]


def _cut(use: Use, n: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the pixels to take off before and after an axis, after < 0 to add some."""
    size = dilation * (size - 1) + 1
    word, extra = use.get("padding", default="valid"), use.get("output_padding")
    same = word == "same"
    if word not in ("same", "valid"):
        raise Refused(f"padding {word}")
    if extra is not None:
        extra = extra[n] if isinstance(extra, (list, tuple)) else extra
        surplus = 2 * (size // 2) * same - int(extra)
    else:
        surplus = size - stride - (0 if same else max(size - stride, 0))
    before = surplus // 2 if surplus > 0 else 0
    return before, surplus - before


def padded(
    use: Use,
    sizes: list[int],
    strides: list[int],
    dilation: list[int] | None = None,
    fill: str = "zeros",
) -> tuple[list[Step], list[int]]:
    """Return a step that pads where the sides differ, and the layer's own padding."""
    none = [0] * use.dialect.ndim
    word = use.get("padding", "border_mode", default="valid")
    if word not in ("same", "valid"):
        raise Refused(f"padding {word}")
    if word == "valid":
        return [], none
    steps = zip(sizes, strides, dilation or [1] * len(sizes), strict=True)
    total = [max(d * (k - 1) + 1 - s, 0) for k, s, d in steps]
    before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    if before == after:
        return [], before
    if use.dialect.flipped:
        raise Refused("same padding of an even kernel by Theano")
    settings = {"before": before, "after": after}
    more = {} if fill == "zeros" else {"fill": fill}
    return [Step("pad", {**settings, **more})], none


def _kernel(use: Use) -> list[Array]:
    """Return the kernel and the bias of a convolution."""
    has_bias = bool(use.get("use_bias", "bias", default=True))
    kernel, *bias = use.weights(1, has_bias)
    if kernel.ndim != use.dialect.ndim + 2:
        raise Refused(f"a kernel of shape {kernel.shape}")
    return [kernel, *bias]


def _groups(use: Use) -> int:
    return int(use.get("groups", default=1))


def _to_torch(kernel: Array, dialect: Dialect) -> Array:
    """Bring a kernel from (*space, in, out) to (out, in, *space)."""
    ndim = dialect.ndim
    if not (dialect.major == 1 and not dialect.last):
        kernel = kernel.transpose(ndim + 1, ndim, *range(ndim))
    if dialect.flipped:  # Theano turns the kernel round, as mathematics does
        kernel = kernel[:, :, *[slice(None, None, -1)] * ndim]
    return kernel


def _spread(kernel: Array, ndim: int) -> Array:
    """Bring a kernel from (*space, in, times) to (in * times, 1, *space)."""
    if kernel.ndim != ndim + 2:
        raise Refused(f"a kernel of shape {kernel.shape}")
    kernel = kernel.transpose(ndim, ndim + 1, *range(ndim))
    return kernel.reshape(-1, 1, *kernel.shape[2:])


LAYERS: dict[str, Callable[[Use], list[Step]]] = {
    **dict.fromkeys(("Conv2D", "Conv3D"), _conv),
    **dict.fromkeys(("Conv2DTranspose", "Conv3DTranspose"), _transposed),
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
}
