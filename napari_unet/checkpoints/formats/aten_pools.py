"""ATen operators that change the size of an image: pooling, up-sampling, padding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats.aten_numbers import each, number, plain, whole
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value, constant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LINEAR = {2: "bilinear", 3: "trilinear"}


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
    settings["dilation"] = each(tape, dilation)
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
        if each(tape, size) != [1] * tape.ndim:
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


def _pool(
    tape: Tape, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
) -> dict[str, Any]:
    size = each(tape, kernel)
    return {
        "kernel_size": size,
        "stride": each(tape, stride) if stride or stride == 0 else size,
        "padding": each(tape, padding),
        "ceil_mode": bool(ceil_mode),
    }
