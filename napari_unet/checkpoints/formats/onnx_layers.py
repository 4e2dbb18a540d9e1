"""ONNX operators that are layers: convolutions, norms and poolings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats import aten_layers as layers
from napari_unet.checkpoints.formats import aten_pools as pools
from napari_unet.checkpoints.formats.onnx_numbers import Known
from napari_unet.checkpoints.formats.onnx_padding import around, beyond, evened
from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.checkpoints.formats.tape import Tape, Value

    Attributes = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Grouped:
    """An image seen as (N, groups, rest), as a group norm is written with others."""

    image: Value
    groups: int


def tensor(value: Any) -> torch.Tensor:
    """Return a known tensor that does not depend on the size of the image."""
    fixed = value.fixed if isinstance(value, Known) else None
    if fixed is None:
        raise Refused("weights that are computed")
    return torch.from_numpy(np.array(fixed))


def maybe(value: Any) -> torch.Tensor | None:
    """Return a known tensor, or None where it is left out."""
    return None if value is None else tensor(value)


def conv(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any = None
) -> Value:
    """Carry out ``Conv``."""
    kernel = tensor(weight)
    sides = around(tape, attributes, x, kernel.shape[2:])
    x, padding = evened(tape, x, sides)
    stride, dilation = attributes.get("strides", 1), attributes.get("dilations", 1)
    groups = attributes.get("group", 1)
    return layers.conv(tape, x, kernel, maybe(bias), stride, padding, dilation, groups)


def transposed(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any = None
) -> Value:
    """Carry out ``ConvTranspose``; uneven padding is taken off behind it."""
    if "output_shape" in attributes:
        raise Refused("a transposed convolution to a fixed size")
    kernel = tensor(weight)
    before, after = beyond(tape, attributes, kernel.shape[2:])
    even = before == after
    done = layers.conv_transpose(
        tape,
        x,
        kernel,
        maybe(bias),
        attributes.get("strides", 1),
        before if even else 0,
        attributes.get("output_padding", 0),
        attributes.get("group", 1),
        attributes.get("dilations", 1),
    )
    if even:
        return done
    settings = {"before": [-n for n in before], "after": [-n for n in after]}
    return tape.add("pad", [done], settings)


def batch_norm(tape: Tape, attributes: Attributes, x: Any, *known: Any) -> Value:
    """Carry out ``BatchNormalization``."""
    weight, bias, mean, var = (tensor(k) for k in known)
    training, eps = attributes.get("training_mode", 0), attributes.get("epsilon", 1e-5)
    return layers.batch_norm(tape, x, weight, bias, mean, var, bool(training), 0, eps)


def instance_norm(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any
) -> Any:
    """Carry out ``InstanceNormalization``, of channels or of groups of them."""
    eps, affine = attributes.get("epsilon", 1e-5), (tensor(weight), tensor(bias))
    if not isinstance(x, Grouped):
        return layers.instance_norm(tape, x, *affine, None, None, True, 0, eps)
    times = x.image.channels // x.groups
    scale, shift = (t.repeat_interleave(times) for t in affine)
    done = layers.group_norm(tape, x.image, x.groups, scale, shift, eps)
    return replace(x, image=done)


def group_norm(
    tape: Tape, attributes: Attributes, x: Any, weight: Any, bias: Any
) -> Value:
    """Carry out ``GroupNormalization``."""
    eps, groups = attributes.get("epsilon", 1e-5), attributes["num_groups"]
    return layers.group_norm(tape, x, groups, tensor(weight), tensor(bias), eps)


def max_pool(tape: Tape, attributes: Attributes, x: Any) -> list[Value]:
    """Carry out ``MaxPool``, whose second output is not used."""
    kernel, ceil = attributes["kernel_shape"], bool(attributes.get("ceil_mode", 0))
    before, after = around(tape, attributes, x, kernel)
    if before != after and ceil:
        raise Refused("a pooling padded unevenly that rounds up")
    x, padding = evened(tape, x, (before, after), "-inf")
    stride, dilation = attributes.get("strides", 1), attributes.get("dilations", 1)
    return [pools.max_pool(tape, x, kernel, stride, padding, dilation, ceil)]


def average_pool(tape: Tape, attributes: Attributes, x: Any) -> Value:
    """Carry out ``AveragePool``."""
    if set(attributes.get("dilations", [1])) != {1}:
        raise Refused("a dilated average pooling")
    kernel, ceil = attributes["kernel_shape"], bool(attributes.get("ceil_mode", 0))
    counts = bool(attributes.get("count_include_pad", 0))
    before, after = around(tape, attributes, x, kernel)
    if before != after and (ceil or not counts):
        raise Refused("an average pooling padded unevenly")
    x, padding = evened(tape, x, (before, after))
    stride = attributes.get("strides", 1)
    return pools.average_pool(tape, x, kernel, stride, padding, ceil, counts)


def over_all(kind: str) -> Callable[..., Any]:
    """Make ``GlobalAveragePool`` or ``GlobalMaxPool``."""
    return lambda tape, attributes, x: pools.adaptive(kind)(tape, x, 1)


def reduced(kind: str) -> Callable[..., Any]:
    """Make ``ReduceMean`` or ``ReduceMax``."""

    def operate(tape: Tape, attributes: Attributes, x: Any, axes: Any = None) -> Any:
        given = attributes.get("axes") if axes is None else tensor(axes).tolist()
        keep = bool(attributes.get("keepdims", 1))
        return pools.over_space(kind)(tape, x, given, keep)

    return operate
