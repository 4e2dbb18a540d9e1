"""The windows of torch's convolutions, poolings and paddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.networks.windows import Slide, Spread, Window

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd


def convolution(conv: _ConvNd) -> tuple[Window, ...]:
    """Return the view of a convolution or a transposed one along each axis."""
    kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
    axes = range(len(kernel))
    if conv.transposed:
        return tuple(
            Spread(
                *(kernel[n], stride[n], dilation[n]),
                *(int(conv.padding[n]), conv.output_padding[n]),
            )
            for n in axes
        )
    total = [dilation[n] * (kernel[n] - 1) for n in axes]
    if conv.padding == "same":
        sides = [(t // 2, t - t // 2) for t in total]
    elif conv.padding == "valid":
        sides = [(0, 0) for _ in axes]
    else:
        sides = [(int(p), int(p)) for p in conv.padding]
    return tuple(Slide(kernel[n], stride[n], dilation[n], *sides[n]) for n in axes)


def pooling(pool: Any, ndim: int) -> tuple[Window, ...]:
    """Return the view of a max or average pooling along each axis."""
    kernel = per_axis(pool.kernel_size, ndim)
    stride = per_axis(pool.stride, ndim)
    padding = per_axis(pool.padding, ndim)
    dilation = per_axis(getattr(pool, "dilation", 1), ndim)
    return tuple(
        Slide(
            *(kernel[n], stride[n], dilation[n], padding[n], padding[n], pool.ceil_mode)
        )
        for n in range(ndim)
    )


def per_axis(value: Any, ndim: int) -> tuple[Any, ...]:
    """Return one value per axis."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * ndim


def padding(pad: Any, ndim: int) -> tuple[Window, ...]:
    """Return the view of a padding with a constant; torch names the last axis first."""
    sides = [tuple(pad.padding[2 * n : 2 * n + 2]) for n in range(ndim)]
    return tuple(Slide(1, 1, 1, int(left), int(right)) for left, right in sides[::-1])
