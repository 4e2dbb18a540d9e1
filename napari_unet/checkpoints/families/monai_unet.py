"""MONAI's UNet (Project-MONAI/MONAI 1.6.1): strided convolutions, residual or not.

Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40. Each level lies inside the one
above; the skip connection comes first in the concatenation. Files of MONAI 0.3 and
older name norms and activations differently.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families._monai import (
    MonaiNetwork,
    MonaiSpec,
    Order,
    Size,
    Unit,
    Width,
    conv_class,
    convolution,
    inferred,
    layer_settings,
    strides_left_open,
    told_strides,
)
from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    count,
)
from napari_unet.networks.spec import Assumption

if TYPE_CHECKING:
    from collections.abc import Mapping

_OLD = ((re.compile(r"\.norm\."), ".adn.N."), (re.compile(r"\.act\."), ".adn.A."))
_DEFAULTS = {"affine": "instance_affine", "act": "relu", "slope": 0.01}


class MonaiUNetSpec(MonaiSpec):
    """Shape of a MONAI UNet: `widths` from the top to the bottom, one stride less."""

    widths: tuple[Width, ...] = Field(min_length=2, max_length=12)
    strides: tuple[Size, ...] = Field(min_length=1, max_length=11)
    kernel: Size
    up_kernel: Size
    res_units: int = Field(0, ge=0, le=16)
    bias: bool = True
    order: Order = "NDA"


class MonaiUNetFamily(Family):
    """MONAI UNet."""

    name = "monai_unet"
    title = "MONAI UNet"
    source = "MONAI 1.6.1, monai.networks.nets.UNet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 2,
        "in_channels": 1,
        "out_channels": 2,
        "widths": [16, 32, 64, 128],
        "strides": [[2, 2]] * 3,
        "kernel": [3, 3],
        "up_kernel": [3, 3],
        "res_units": 2,
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("model.0.conv.", "model.1.submodule.", "model.2.")
        has_marks = all(any(k.startswith(m) for k in shapes) for m in marks)
        return has_marks and not any(k.startswith("model.1.attention.") for k in shapes)

    def accept(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the tensors under the names of MONAI after 0.3."""
        renamed = {}
        for key, tensor in tensors.items():
            for old, new in _OLD:
                key = old.sub(new, key)
            renamed[key] = tensor
        return renamed

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        depth = next(n for n in range(16) if not _has(shapes, f"{_place(n)}0."))
        units = count(shapes, "model.0.conv.unit{}.")
        unit = "conv.unit0." if units else ""
        downs = [shapes[f"{_place(n)}0.{unit}conv.weight"] for n in range(depth)]
        bottom = shapes[f"{_place(depth)}{unit}conv.weight"]
        up = shapes["model.2.0.conv.weight" if units else "model.2.conv.weight"]
        ndim = len(bottom) - 2
        strides = [_stride(shapes, n, units, ndim) for n in range(depth)]
        adn = f"model.0.{unit}adn"
        layers, assumed = layer_settings(
            shapes, f"{adn}.N", f"{adn}.A", hints, _DEFAULTS
        )
        order, more = _order(shapes, adn, layers["norm"], hints)
        architecture = {
            "ndim": ndim,
            "in_channels": downs[0][1],
            "out_channels": up[1],
            "widths": [shape[0] for shape in (*downs, bottom)],
            "strides": told_strides(hints, depth, ndim) or strides,
            "kernel": list(bottom[2:]),
            "up_kernel": list(up[2:]),
            "res_units": units,
            "bias": f"model.0.{unit}conv.bias" in shapes,
            "order": order,
            **layers,
        }
        if any(max(s) > 1 for s in strides) and not told_strides(hints, depth, ndim):
            reason = "whether an axis is halved has no trace in the weights"
            assumed.append(strides_left_open(strides, reason))
        assumed += more
        return inferred(architecture, assumed, hints)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return MonaiUNet(MonaiUNetSpec(**architecture))


def _place(level: int) -> str:
    """Return what all names of a level begin with."""
    return "model." + "1.submodule." * level


def _has(shapes: Shapes, start: str) -> bool:
    return any(key.startswith(start) for key in shapes)


def _stride(shapes: Shapes, level: int, units: int, ndim: int) -> list[int]:
    """Return 2 for each axis, or 1 where the residual convolution shows it.

    That convolution has the whole kernel where there is a stride, and 1x1 or none
    where there is none.
    """
    if units:
        kernel = shapes[f"{_place(level)}0.conv.unit0.conv.weight"][2:]
        residual = shapes.get(f"{_place(level)}0.residual.weight")
        if residual is None or residual[2:] != kernel:
            return [1] * ndim
    return [2] * ndim


def _order(
    shapes: Shapes, adn: str, norm: str, hints: Mapping[str, Any]
) -> tuple[Order, list[Assumption]]:
    """Tell whether the norm comes before the activation.

    Torch keeps the order of registration, in which each ``bias`` comes right after its
    ``weight``; safetensors files have lost it.
    """
    told = hints.get("adn_ordering")
    if isinstance(told, str) and {"A", "N"} <= set(told.upper()):
        return _first(told.upper().index("N") < told.upper().index("A")), []
    if norm == "none":
        return "NDA", []
    keys = list(shapes)
    first, last = f"{adn}.N.weight", f"{adn}.A.weight"
    if first in shapes and last in shapes:
        if shapes.in_order:
            return _first(keys.index(first) < keys.index(last)), []
    order = _first(not _all_positive(shapes))
    other = _first(order != "NDA")
    reason = "whether norm or activation comes first left no trace"
    field = "architecture.order"
    return order, [
        Assumption(field=field, value=order, alternatives=(other,), reason=reason)
    ]


def _first(is_norm: bool) -> Order:
    return "NDA" if is_norm else "AND"


def _all_positive(shapes: Shapes) -> bool:
    """Whether batch norms only ever saw values after a ReLU: no mean is negative."""
    means = [t for k, t in shapes.tensors.items() if k.endswith("running_mean")]
    lowest = min((float(t.min()) for t in means), default=-1.0)
    return lowest >= 0 and any(float(t.max()) > 0 for t in means)


class MonaiUNet(MonaiNetwork):
    """MONAI's UNet with its key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: MonaiUNetSpec) -> None:
        super().__init__(spec)
        if len(spec.strides) != len(spec.widths) - 1:
            raise ValueError("strides: one less than widths")
        self.model = _level(spec, 0)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        logits: torch.Tensor = self.model(x)
        return logits


def _level(spec: MonaiUNetSpec, n: int) -> nn.Module:
    """Return level `n` with all below it; the last is the bottom."""
    inputs = spec.widths[n - 1] if n else spec.in_channels
    if n == len(spec.strides):
        return _down(spec, inputs, spec.widths[n], (1,) * spec.ndim)
    width, below = spec.widths[n], spec.widths[n + 1]
    joined = width + (below if n + 1 == len(spec.strides) else width)
    down = _down(spec, inputs, width, spec.strides[n])
    return nn.Sequential(down, _Skip(_level(spec, n + 1)), _up(spec, joined, n))


class _Skip(nn.Module):
    """Concatenation of the input and what the levels below make of it."""

    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.submodule(x)], 1)


def _down(spec: MonaiUNetSpec, inputs: int, outputs: int, stride: Size) -> nn.Module:
    if spec.res_units:
        return _Residual(spec, inputs, outputs, stride, spec.res_units)
    return _unit(spec, inputs, outputs, stride)


def _up(spec: MonaiUNetSpec, inputs: int, level: int) -> nn.Module:
    outputs = spec.widths[level - 1] if level else spec.out_channels
    conv = convolution(
        *(spec, inputs, outputs, spec.up_kernel, spec.strides[level]),
        bias=spec.bias,
        transposed=True,
    )
    is_last = level == 0 and not spec.res_units
    up = Unit(conv) if is_last else Unit(conv, spec, outputs, spec.order)
    if not spec.res_units:
        return up
    still = (1,) * spec.ndim
    return nn.Sequential(
        up, _Residual(spec, outputs, outputs, still, 1, bare_end=level == 0)
    )


def _unit(
    spec: MonaiUNetSpec, inputs: int, outputs: int, stride: Size, bare: bool = False
) -> Unit:
    conv = convolution(spec, inputs, outputs, spec.kernel, stride, bias=spec.bias)
    return Unit(conv) if bare else Unit(conv, spec, outputs, spec.order)


class _Residual(nn.Module):
    """Some convolutions, and one beside them where size or channels change."""

    def __init__(
        self,
        spec: MonaiUNetSpec,
        inputs: int,
        outputs: int,
        stride: Size,
        units: int,
        bare_end: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        self.residual: nn.Module = nn.Identity()
        still = (1,) * spec.ndim
        for n in range(units):
            bare = bare_end and n == units - 1
            unit = _unit(
                spec, outputs if n else inputs, outputs, still if n else stride, bare
            )
            self.conv.add_module(f"unit{n}", unit)
        if max(stride) > 1:
            self.residual = convolution(
                spec, inputs, outputs, spec.kernel, stride, bias=spec.bias
            )
        elif inputs != outputs:
            self.residual = conv_class(spec.ndim)(inputs, outputs, 1, bias=spec.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.conv(x) + self.residual(x)
        return features
