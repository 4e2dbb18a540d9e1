"""Up-sampling as ONNX says it, in four generations of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.checkpoints.formats.aten_pools import (
    upsample_linear,
    upsample_nearest,
)
from napari_unet.checkpoints.formats.onnx_numbers import plain
from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from napari_unet.checkpoints.formats.onnx_numbers import Known
    from napari_unet.checkpoints.formats.tape import Tape, Value

    Attributes = dict[str, Any]


_HALF = ("half_pixel", "pytorch_half_pixel")
_NEAREST = {("asymmetric", "floor")} | {
    (place, f"round_prefer_{side}") for place in _HALF for side in ("floor", "ceil")
}
"""Ways of rounding that repeat each pixel, for whole factors."""


def resize(tape: Tape, attributes: Attributes, x: Value, *rest: Any) -> Value:
    """Carry out ``Resize`` and ``Upsample``, by factors or to a size."""
    mode = attributes.get("mode", b"nearest").decode()
    place = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    aspect = attributes.get("keep_aspect_ratio_policy", b"stretch")
    if attributes.get("antialias") or aspect != b"stretch":
        raise Refused("up-sampling with a filter or another aspect")
    size, factors = _target(tape, attributes, x, rest)
    if mode == "nearest":
        done = upsample_nearest(tape, x, size, factors)
        rounding = attributes.get("nearest_mode", b"round_prefer_floor").decode()
        if not _is_plain(x, done) or (place, rounding) not in _NEAREST:
            raise Refused(f"nearest up-sampling of kind {place}, {rounding}")
        return done
    if mode != "linear" or place not in (*_HALF, "align_corners"):
        raise Refused(f"up-sampling of kind {mode}, {place}")
    return upsample_linear(tape, x, size, place == "align_corners", factors)


def upsample(tape: Tape, attributes: Attributes, x: Value, *rest: Any) -> Value:
    """Carry out ``Upsample``, and ``Resize`` of opset 10, which counts from corners."""
    corner = {
        "coordinate_transformation_mode": b"asymmetric",
        "nearest_mode": b"floor",
    }
    return resize(tape, {**attributes, **corner}, x, *rest)


def _target(
    tape: Tape, attributes: Attributes, x: Value, rest: tuple[Known | None, ...]
) -> tuple[Any, list[float] | None]:
    """Return the size or the factors of the axes in space; one of them is None."""
    sizes = rest[2] if len(rest) > 2 else None
    scales = rest[0] if len(rest) == 1 else (rest[1] if len(rest) > 1 else None)
    given = attributes.get("scales", None if scales is None else plain(scales.values))
    axes = [
        int(a) % (tape.ndim + 2) for a in attributes.get("axes", range(tape.ndim + 2))
    ]
    if given is not None and len(given):
        factors = [1.0] * (tape.ndim + 2)
        for axis, factor in zip(axes, given, strict=True):
            factors[axis] = float(factor)
        if factors[:2] != [1.0, 1.0]:
            raise Refused("up-sampling of channels")
        return None, factors[2:]
    if sizes is None:
        raise Refused("up-sampling to a size that is computed from the image")
    wanted = list(x.shape)
    for axis, size in zip(axes, sizes.values, strict=True):
        wanted[axis] = size
    if not all((w == n).all() for w, n in zip(wanted[:2], x.shape, strict=False)):
        raise Refused("up-sampling of channels")
    fixed = all(len(np.atleast_1d(s)) == 1 for s in wanted[2:])
    return [int(s[0]) if fixed else s for s in wanted[2:]], None


def _is_plain(x: Value, done: Value) -> bool:
    """Whether each axis grew by a whole factor."""
    return all((n % old == 0).all() for n, old in zip(done.space, x.space, strict=True))
