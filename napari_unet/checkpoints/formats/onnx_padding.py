"""Padding as ONNX says it: explicit, automatic, and different on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import Tape, Value, constant

if TYPE_CHECKING:
    from collections.abc import Sequence

    Attributes = dict[str, Any]
    Sides = tuple[list[int], list[int]]


def around(
    tape: Tape, attributes: Attributes, x: Value, kernel: Sequence[int]
) -> Sides:
    """Return the padding before and after, for each axis, of a convolution or pooling.

    Parameters
    ----------
    tape : Tape
        For the number of axes.
    attributes : dict
        With ``pads`` or ``auto_pad``, strides and dilations.
    x : Value
        What is padded; automatic padding must be the same for all its sizes.
    kernel : sequence of int
        Size of the window.

    Raises
    ------
    Refused
        If automatic padding depends on the size of the image.
    """
    word = attributes.get("auto_pad", b"NOTSET").decode()
    if word in ("NOTSET", ""):
        pads = [int(n) for n in attributes.get("pads", [0] * 2 * tape.ndim)]
        return pads[: tape.ndim], pads[tape.ndim :]
    if word == "VALID":
        return [0] * tape.ndim, [0] * tape.ndim
    strides = attributes.get("strides", [1] * tape.ndim)
    dilations = attributes.get("dilations", [1] * tape.ndim)
    totals = []
    for size, k, stride, d in zip(x.space, kernel, strides, dilations, strict=True):
        outputs = -(-size // stride)
        lacking = (outputs - 1) * stride + d * (k - 1) + 1 - size
        totals.append(constant(np.maximum(lacking, 0)))
    return _halves(word, totals)


def beyond(tape: Tape, attributes: Attributes, kernel: Sequence[int]) -> Sides:
    """Return what is taken off the output of a transposed convolution, like `around`.

    Automatically, the output is the stride times as large as the input.
    """
    word = attributes.get("auto_pad", b"NOTSET").decode()
    if not word.startswith("SAME"):
        return around(tape, attributes, tape.image, kernel)
    strides = attributes.get("strides", [1] * tape.ndim)
    dilations = attributes.get("dilations", [1] * tape.ndim)
    extra = attributes.get("output_padding", [0] * tape.ndim)
    facts = zip(kernel, strides, dilations, extra, strict=True)
    return _halves(word, [e + d * (k - 1) + 1 - s for k, s, d, e in facts])


def _halves(word: str, totals: Sequence[int | None]) -> Sides:
    """Share out automatic padding; the odd pixel is at the end for SAME_UPPER."""
    whole = [n for n in totals if n is not None and n >= 0]
    if len(whole) != len(totals) or word not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refused("automatic padding that depends on the size of the image")
    less, more = [n // 2 for n in whole], [n - n // 2 for n in whole]
    return (less, more) if word == "SAME_UPPER" else (more, less)


def evened(
    tape: Tape, x: Value, sides: Sides, value: float | str = 0.0
) -> tuple[Value, list[int]]:
    """Return the input and padding that is alike on both sides.

    Where it is not, the padding becomes a step of its own.
    """
    before, after = sides
    if before == after:
        return x, before
    settings = {"before": before, "after": after, "value": value}
    return tape.add("pad", [x], settings), [0] * tape.ndim
