"""Keras' layers as steps of a program (Keras 1.2, 2.15 and 3.15).

Weights go from Keras' order of axes, space first, to torch's. Padding of kind "same" is
that of images whose size is a multiple of the stride.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.checkpoints.formats.keras_activations import (
    Step,
    activation,
    constant,
)
from napari_unet.checkpoints.formats.onnx_operators import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_unet.checkpoints.formats.keras_activations import Dialect

    Array = np.ndarray[Any, Any]

_LINEAR = {2: "bilinear", 3: "trilinear"}
_OLD_BILINEAR = ("1.", "2.0.", "2.1.", "2.2.", "2.3.")


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
        if len(values) != self.dialect.ndim or min(values) < 1:
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
    if kind not in _WEIGHTED and use.arrays:
        raise Refused(f"weights of a {kind}")
    return _TRANSLATORS[kind](use)


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
        *_ending(use),
    ]


def _depthwise(use: Use) -> list[Step]:
    kernel, *bias = use.weights(1, use.get("use_bias", default=True))
    weight = _spread(kernel, use.dialect.ndim)
    strides, dilation = use.axes("strides"), use.axes("dilation_rate")
    return [
        *_convolution(use, weight, bias, strides, dilation, kernel.shape[-2]),
        *_ending(use),
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


def _convolution(
    use: Use,
    weight: Array,
    bias: list[Array],
    stride: list[int],
    dilation: list[int],
    groups: int,
) -> list[Step]:
    sizes = list(weight.shape[2:])
    pads, padding = _padded(use, sizes, stride, dilation)
    settings = {
        "in_channels": weight.shape[1] * groups,
        "out_channels": weight.shape[0],
        "kernel_size": sizes,
        **{"stride": stride, "dilation": dilation, "padding": padding},
        **{"groups": groups, "bias": bool(bias)},
    }
    return [*pads, Step("conv", settings, _named(weight=weight, bias=bias))]


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
        Step("transposed", settings, _named(weight=weight, bias=bias)),
        *([Step("pad", crop)] if any(rest) else []),
        *_ending(use),
    ]


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
    weights = _named(weight=scale, bias=shift, running_mean=mean, running_var=var)
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
    return [Step("group_norm", settings, _named(weight=scale, bias=shift))]


def _max_pool(use: Use) -> list[Step]:
    sizes, strides = _window(use)
    pads, padding = _padded(use, sizes, strides, fill="lowest")
    settings = {"kernel_size": sizes, "stride": strides, "padding": padding}
    return [*pads, Step("max_pool", settings)]


def _average_pool(use: Use) -> list[Step]:
    """Translate a mean over those pixels of a window that lie inside the image."""
    sizes, strides = _window(use)
    pads, padding = _padded(use, sizes, strides)
    if pads:
        raise Refused("average pooling whose padding differs between the sides")
    settings = {"kernel_size": sizes, "stride": strides, "padding": padding}
    return [Step("average_pool", {**settings, "count_include_pad": False})]


def _global_average(use: Use) -> list[Step]:
    if not use.get("keepdims", default=False):
        raise Refused("global pooling that drops the axes of space")
    return [Step("mean")]


def _upsample(use: Use) -> list[Step]:
    sizes = use.axes("size", default=2)
    mode = use.get("interpolation", default="nearest")
    settings: dict[str, Any] = {"scale_factor": [float(s) for s in sizes]}
    if mode == "nearest":
        return [Step("resize", {**settings, "mode": "nearest"})]
    version = use.dialect.version
    if version.startswith(_OLD_BILINEAR) and not version.endswith("-tf"):
        raise Refused(f"{mode} up-sampling of Keras {version}, which shifts the image")
    if mode != "bilinear":
        raise Refused(f"up-sampling of kind {mode}")
    linear = _LINEAR[use.dialect.ndim]
    return [Step("resize", {**settings, "mode": linear, "align_corners": False})]


def _zero_padding(use: Use) -> list[Step]:
    before, after = _sides(use, "padding")
    return [Step("pad", {"before": before, "after": after})]


def _cropping(use: Use) -> list[Step]:
    before, after = _sides(use, "cropping")
    return [Step("pad", {"before": [-b for b in before], "after": [-a for a in after]})]


def _rescaling(use: Use) -> list[Step]:
    scale, offset = use.get("scale", default=1.0), use.get("offset", default=0.0)
    return [constant("mul", scale), constant("add", offset)]


def _concatenate(use: Use) -> list[Step]:
    use.check_channel(use.get("axis", default=-1))
    return [Step("concat")]


def _merge(use: Use) -> list[Step]:
    """Translate the one layer that Keras 1 had for sums, products and the like."""
    mode = use.get("mode", default="sum")
    if mode == "concat":
        use.check_channel(use.get("concat_axis", default=-1))
    if mode not in _MODES:
        raise Refused(f"a merge of kind {mode}")
    return _TRANSLATORS[_MODES[mode]](use)


def _average(use: Use) -> list[Step]:
    return [Step("add"), constant("mul", 1 / len(use.channels))]


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
    return [Step("prelu", settings, _named(weight=slope.ravel()))]


def _softmax(use: Use) -> list[Step]:
    use.check_channel(use.get("axis", default=-1))
    return [Step("activation", {"name": "softmax"})]


def _ending(use: Use) -> list[Step]:
    """Return the steps of a layer's own activation, which may be a layer itself."""
    given = use.get("activation", default="linear")
    if isinstance(given, dict) and given.get("class_name") in _ACTIVATION_LAYERS:
        inner = replace(use, config=given["config"], arrays=())
        return translate(given["class_name"], inner)
    return activation(given, use.dialect)


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


def _window(use: Use) -> tuple[list[int], list[int]]:
    sizes = use.axes("pool_size", default=2)
    return sizes, use.axes("strides", default=sizes)


def _padded(
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


def _sides(use: Use, name: str) -> tuple[list[int], list[int]]:
    """Return pixels before and after each axis: one number, one an axis, or pairs."""
    value = use.get(name, default=1)
    values = value if isinstance(value, (list, tuple)) else [value] * use.dialect.ndim
    pairs = [tuple(v) if isinstance(v, (list, tuple)) else (v, v) for v in values]
    if len(pairs) != use.dialect.ndim or any(len(p) != 2 or min(p) < 0 for p in pairs):
        raise Refused(f"{name} {value}")
    return [int(b) for b, _ in pairs], [int(a) for _, a in pairs]


def _affine(given: list[Array], scale: bool, shift: bool, count: int) -> list[Array]:
    """Return scale and shift, those that are not there as if they did nothing."""
    found = iter(given)
    return [
        next(found) if scale else np.ones(count, np.float32),
        next(found) if shift else np.zeros(count, np.float32),
    ]


def _named(**values: Any) -> dict[str, Array]:
    """Name arrays as torch does; a list holds one or none."""
    flat = {k: v[0] if isinstance(v, list) and v else v for k, v in values.items()}
    return {k: v for k, v in flat.items() if not isinstance(v, list)}


_SAME = (
    *("Dropout", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise"),
    *("GaussianDropout", "AlphaDropout", "ActivityRegularization"),
)
"""Layers that do something in training only."""

_KERAS1 = {
    **{"Convolution2D": "Conv2D", "Convolution3D": "Conv3D"},
    "AtrousConvolution2D": "Conv2D",
}
_MODES = {
    **{"concat": "Concatenate", "sum": "Add", "mul": "Multiply", "ave": "Average"},
}
_TRANSLATORS: dict[str, Callable[[Use], list[Step]]] = {
    **dict.fromkeys(("Conv2D", "Conv3D"), _conv),
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    **dict.fromkeys(("Conv2DTranspose", "Conv3DTranspose"), _transposed),
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization"), _batch_norm),
    "GroupNormalization": _group_norm,
    **dict.fromkeys(("MaxPooling2D", "MaxPooling3D"), _max_pool),
    **dict.fromkeys(("AveragePooling2D", "AveragePooling3D"), _average_pool),
    **dict.fromkeys(
        ("GlobalAveragePooling2D", "GlobalAveragePooling3D"), _global_average
    ),
    **dict.fromkeys(("UpSampling2D", "UpSampling3D"), _upsample),
    **dict.fromkeys(("ZeroPadding2D", "ZeroPadding3D"), _zero_padding),
    **dict.fromkeys(("Cropping2D", "Cropping3D"), _cropping),
    "Rescaling": _rescaling,
    "Concatenate": _concatenate,
    "Add": lambda _: [Step("add")],
    "Multiply": lambda _: [Step("mul")],
    "Subtract": lambda _: [Step("sub")],
    "Average": _average,
    "Merge": _merge,
    "Activation": _ending,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "PReLU": _prelu,
    "Softmax": _softmax,
}
_ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "ELU", "Softmax")
_WEIGHTED = (
    *("Conv2D", "Conv3D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"),
    *("Conv3DTranspose", "BatchNormalization", "SyncBatchNormalization"),
    *("GroupNormalization", "PReLU"),
)
