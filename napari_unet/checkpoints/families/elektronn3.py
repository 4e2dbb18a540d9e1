"""elektronn3's UNet and jaxony/unet-pytorch, from which it descends; 2-D and 3-D.

Up-sampled features come first in the concatenation, or are added. elektronn3 pools
with rounding up and cuts the surplus on the way up. Its attention is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    count,
    normalization,
    setting,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import CentreTo, StartTo, layer, linear

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.networks.spec import Assumption

_RANDOM_SLOPE = (1 / 8 + 1 / 3) / 2  # of a randomised leaky ReLU in evaluation


class Elektronn3Spec(Config):
    """Shape of the network.

    `planar` blocks leave Z alone. `up`: transposed convolution; resize, an enlargement
    and a convolution of size `up_kernel`; sequence, the same under jaxony's names.
    `up_activation` follows the up-sampling in elektronn3, not in jaxony's network.
    """

    ndim: Literal[2, 3] = 3
    in_channels: int = Field(1, ge=1, le=4096)
    out_channels: int = Field(2, ge=1, le=65535)
    widths: tuple[int, ...] = Field((32, 64, 128), min_length=1, max_length=9)
    planar: tuple[bool, ...] = (False, False, False)
    up: Literal["transposed", "resize", "sequence"] = "transposed"
    up_kernel: Literal[1, 3] = 3
    interpolation: Literal["nearest", "linear"] = "nearest"
    merge: Literal["concat", "add"] = "concat"
    norm: Literal["none", "batch", "instance", "group"] = "batch"
    groups: int = Field(8, ge=1, le=4096)
    full_norm: bool = True
    activation: Literal["relu", "leaky", "prelu", "rrelu", "silu", "lin"] = "relu"
    up_activation: bool = True
    conv_mode: Literal["same", "valid"] = "same"


class Elektronn3(Family):
    """elektronn3's UNet and jaxony's."""

    name = "elektronn3"
    title = "elektronn3 / jaxony UNet"
    source = (
        "elektronn3 0.1.1, elektronn3.models.unet.UNet; jaxony/unet-pytorch 15b6e02"
    )
    typical: ClassVar[Mapping[str, Any]] = {"widths": [8, 16, 32]}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        return "down_convs.0.conv1.weight" in shapes and "conv_final.weight" in shapes

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        blocks = range(count(shapes, "down_convs.{}."))
        convs = [shapes[f"down_convs.{n}.conv1.weight"] for n in blocks]
        ndim = len(convs[0]) - 2
        norm = _norm(shapes)
        architecture: dict[str, Any] = {
            "ndim": ndim,
            "in_channels": convs[0][1],
            "out_channels": shapes["conv_final.weight"][0],
            "widths": [shape[0] for shape in convs],
            "planar": [ndim == 3 and shape[2] == 1 for shape in convs],
            **_up(shapes),
            "merge": _merge(shapes),
            "norm": norm,
            "full_norm": norm == "none" or "down_convs.0.norm0.weight" in shapes,
            "activation": "prelu" if "down_convs.0.act1.weight" in shapes else "relu",
        }
        architecture["up_activation"] = not _may_be_jaxony(architecture)
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        return Inferred(architecture, fields, tuple(_assumed(architecture)))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return Elektronn3UNet(Elektronn3Spec(**architecture))


def _up(shapes: Shapes) -> dict[str, Any]:
    """Tell the kind of up-sampling by its weights' names."""
    for kind, key in (("resize", "conv"), ("sequence", "1")):
        shape = shapes.get(f"up_convs.0.upconv.{key}.weight")
        if shape:
            interpolation = "linear" if kind == "sequence" else "nearest"
            return {"up": kind, "up_kernel": shape[-1], "interpolation": interpolation}
    return {"up": "transposed"}


def _merge(shapes: Shapes) -> str:
    outputs, inputs = shapes.get("up_convs.0.conv1.weight", (1, 2))[:2]
    return "add" if outputs == inputs else "concat"


def _norm(shapes: Shapes) -> str:
    """Tell the norm; its instance norm has no weights and cannot be seen."""
    if "down_convs.0.norm1.running_mean" in shapes:
        return "batch"
    return "group" if "down_convs.0.norm1.weight" in shapes else "none"


def _may_be_jaxony(architecture: Mapping[str, Any]) -> bool:
    """Whether all is as in jaxony's network: 2-D, no norms, no PReLU."""
    return (
        architecture["ndim"] == 2
        and architecture["up"] != "resize"
        and (architecture["norm"], architecture["activation"]) == ("none", "relu")
    )


def _assumed(architecture: Mapping[str, Any]) -> list[Assumption]:
    """List what names and shapes do not tell."""
    values: list[tuple[str, Any, tuple[Any, ...], str]] = [
        ("conv_mode", "same", ("valid",), "padding is not stored"),
    ]
    if architecture["activation"] != "prelu":
        others = ("leaky", "silu", "rrelu", "lin")
        values.append(("activation", "relu", others, "the activation has no weights"))
    if architecture["norm"] == "group":
        values.append(("groups", 8, (), "the number of groups is not stored"))
    if architecture["norm"] == "none":
        reason = "its instance norm has no weights"
        values.append(("norm", "none", ("instance",), reason))
        values.append(("full_norm", True, (False,), reason))
        if architecture["up"] == "transposed":
            known = architecture["up_activation"]
            reason = "elektronn3 has one after up-sampling, jaxony's network has none"
            values.append(("up_activation", known, (not known,), reason))
    if architecture["up"] != "transposed":
        mode = architecture["interpolation"]
        other = "nearest" if mode == "linear" else "linear"
        reason = "interpolation has no weights"
        values.append(("interpolation", mode, (other,), reason))
    return [
        activation(architecture["out_channels"]),
        normalization("zscore", "its examples standardise with the data set's values"),
        *(setting(n, value=v, alternatives=a, reason=r) for n, v, a, r in values),
    ]


class Elektronn3UNet(nn.Module):
    """elektronn3's U-Net with its key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: Elektronn3Spec) -> None:
        super().__init__()
        widths = spec.widths
        inputs = (spec.in_channels, *widths)
        self.down_convs = nn.ModuleList(
            _Convs(spec, inputs[n], widths[n], spec.planar[n])
            for n in range(len(widths))
        )
        self.pools = nn.ModuleList(
            layer("MaxPool", spec.ndim)(_size(spec, 2, flat), ceil_mode=True)
            for flat in spec.planar[:-1]
        )
        self.up_convs = nn.ModuleList(
            _Up(spec, widths[n + 1], widths[n], spec.planar[n])
            for n in reversed(range(len(widths) - 1))
        )
        self.conv_final = layer("Conv", spec.ndim)(widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        skips = [self.down_convs[0](x)]
        for block, pool in zip(self.down_convs[1:], self.pools, strict=True):
            skips.append(block(pool(skips[-1])))
        x = skips.pop()
        for up in self.up_convs:
            x = up(x, skips.pop())
        logits: torch.Tensor = self.conv_final(x)
        return logits


class _Convs(nn.Module):
    """Convolution, norm, activation, twice; `first` numbers the first norm."""

    def __init__(
        self,
        spec: Elektronn3Spec,
        inputs: int,
        outputs: int,
        flat: bool,
        first: int = 0,
    ) -> None:
        super().__init__()
        self.first = first
        for n, width in enumerate((inputs, outputs)):
            padding = 0 if spec.conv_mode == "valid" else _size(spec, 1, flat, 0)
            conv = layer("Conv", spec.ndim)(
                width, outputs, _size(spec, 3, flat), padding=padding
            )
            self.add_module(f"conv{n + 1}", conv)
            is_normed = spec.full_norm or n == 1
            self.add_module(f"norm{first + n}", _norm_layer(spec, outputs, is_normed))
            self.add_module(f"act{n + 1}", _activation(spec))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for n in range(2):
            x = self.get_submodule(f"conv{n + 1}")(x)
            x = self.get_submodule(f"norm{self.first + n}")(x)
            x = self.get_submodule(f"act{n + 1}")(x)
        return x


class _Up(_Convs):
    """Up-sampling, joining with the skip, and two convolutions."""

    def __init__(
        self, spec: Elektronn3Spec, inputs: int, outputs: int, flat: bool
    ) -> None:
        joined = 2 * outputs if spec.merge == "concat" else outputs
        super().__init__(spec, joined, outputs, flat, first=1)
        self.upconv = _upsampling(spec, inputs, outputs, flat)
        self.norm0 = _norm_layer(spec, outputs, spec.full_norm)
        self.act0 = _activation(spec) if spec.up_activation else nn.Identity()
        self.adds = spec.merge == "add"
        self.centre = CentreTo() if spec.conv_mode == "valid" else None
        self.trim = StartTo()

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        x = self.upconv(x)
        skip = skip if self.centre is None else self.centre(skip, x)
        x = self.act0(self.norm0(self.trim(x, skip)))
        return super().forward(x + skip if self.adds else torch.cat([x, skip], 1))


class _Resize(nn.Module):
    """Enlargement and a convolution."""

    def __init__(self, enlarge: nn.Module, conv: nn.Module) -> None:
        super().__init__()
        self.upsample = enlarge
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.conv(self.upsample(x))
        return features


def _upsampling(
    spec: Elektronn3Spec, inputs: int, outputs: int, flat: bool
) -> nn.Module:
    size = _size(spec, 2, flat)
    if spec.up == "transposed":
        up: nn.Module = layer("ConvTranspose", spec.ndim)(inputs, outputs, size, size)
        return up
    mode = linear(spec.ndim) if spec.interpolation == "linear" else "nearest"
    enlarge = nn.Upsample(scale_factor=tuple(float(n) for n in size), mode=mode)
    kernel: Any = 1
    padding: Any = 0
    if spec.up_kernel == 3:
        kernel, padding = _size(spec, 3, flat), _size(spec, 1, flat, 0)
    conv = layer("Conv", spec.ndim)(inputs, outputs, kernel, padding=padding)
    if spec.up == "sequence":
        return nn.Sequential(enlarge, conv)
    return _Resize(enlarge, conv)


def _size(spec: Elektronn3Spec, n: int, flat: bool, alone: int = 1) -> Any:
    """Return `n` for each axis, `alone` along Z in planar blocks."""
    return (alone, n, n) if flat else (n,) * spec.ndim


def _norm_layer(spec: Elektronn3Spec, width: int, is_normed: bool) -> nn.Module:
    if spec.norm == "none" or not is_normed:
        return nn.Identity()
    if spec.norm == "group":
        return nn.GroupNorm(spec.groups, width)
    kind = "BatchNorm" if spec.norm == "batch" else "InstanceNorm"
    norm: nn.Module = layer(kind, spec.ndim)(width)
    return norm


def _activation(spec: Elektronn3Spec) -> nn.Module:
    """Make the activation of that name; the random one has its slope of evaluation."""
    made: dict[str, nn.Module] = {
        "relu": nn.ReLU(),
        "leaky": nn.LeakyReLU(0.1),
        "prelu": nn.PReLU(),
        "rrelu": nn.LeakyReLU(_RANDOM_SLOPE),
        "silu": nn.SiLU(),
        "lin": nn.Identity(),
    }
    return made[spec.activation]
