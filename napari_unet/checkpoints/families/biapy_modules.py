"""Layers of BiaPy's U-Net and residual U-Net (BiaPy 3.7.1, biapy.models).

Each level has one to several convolutions with a norm and an activation after or before
them. What comes from below is up-sampled, followed in the plain U-Net by a norm and an
activation too, and comes first in the concatenation. Networks may begin and end in a
larger convolution, and have several heads with one way up or one each.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from napari_unet.config import Config
from napari_unet.networks.blocks import Named, layer, linear

Size = tuple[Annotated[int, Field(ge=1, le=15)], ...]
Width = Annotated[int, Field(ge=1, le=4096)]
Count = Annotated[int, Field(ge=1, le=16)]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    **{"elu": nn.ELU, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "silu": nn.SiLU},
    **{"gelu": nn.GELU, "tanh": nn.Tanh, "softplus": nn.Softplus},
    **{"sigmoid": nn.Sigmoid, "linear": nn.Identity, "none": nn.Identity},
}
_IN_PLACE = ("relu", "leaky_relu", "elu", "silu")
_GROUPS = {2: 16, 3: 8}


class BiapySpec(Config):
    """Shape of a BiaPy U-Net.

    Attributes
    ----------
    widths : tuple of int
        Channels of each level from the full resolution down.
    risen : tuple of int
        Channels of each level on the way up, from the full resolution down.
    convs : tuple of int
        Convolutions of each level on either side.
    kernels, strides : tuple of tuple of int
        Of each level, and between the levels.
    outer : tuple of int
        Kernel of the convolution before the first and after the last level; empty
        without them.
    heads : tuple of int
        Outputs of each head.
    last_heads : tuple of int
        Numbers of the heads whose outputs come after those of the others.
    ways : int
        Ways up: one for all heads, or one for each.
    norm : str
        bare_instance has no weights; it and group norm are those of older releases.
    residual : bool
        Whether the input of each level's convolutions is added to their output.
    pre : bool
        Whether norm and activation come before the convolution.
    legacy : bool
        Whether names are those of releases before 3.7, with one way up.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    widths: tuple[Width, ...] = Field(min_length=2, max_length=9)
    risen: tuple[Width, ...] = Field(min_length=1, max_length=8)
    convs: tuple[Count, ...] = Field(min_length=2, max_length=9)
    kernels: tuple[Size, ...] = Field(min_length=2, max_length=9)
    strides: tuple[Size, ...] = Field(min_length=1, max_length=8)
    outer: Size = ()
    heads: tuple[Width, ...] = Field(min_length=1, max_length=64)
    last_heads: tuple[int, ...] = ()
    ways: int = Field(1, ge=1, le=64)
    norm: Literal["batch", "instance", "bare_instance", "group", "none"] = "none"
    activation: str = Field("elu", pattern=f"^({'|'.join(ACTIVATIONS)})$")
    upsampling: Literal["transposed", "linear"] = "transposed"
    residual: bool = False
    pre: bool = False
    legacy: bool = False


class BiapyUNet(nn.Module):
    """BiaPy's U-Net with its key names: (N, C, *spatial) to the outputs of all."""

    def __init__(self, spec: BiapySpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = (spec.widths[0] if spec.outer else spec.in_channels, *spec.widths)
        outer = _single(spec, spec.in_channels, spec.widths[0], spec.outer)
        if spec.outer:
            self.conv_in = Named("block", outer)
        blocks = [
            _level(spec, n, inputs[n], width, is_first=n == 0)
            for n, width in enumerate(spec.widths)
        ]
        self.bottleneck = blocks.pop()
        self.down_path = nn.ModuleList(blocks)
        pool = layer("MaxPool", spec.ndim)
        self.mpooling_layers = nn.ModuleList(pool(stride) for stride in spec.strides)
        self._add_ways()
        self._add_heads()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs, (N, out_channels, *spatial)."""
        x = self.conv_in(x) if self.spec.outer else x
        skips = []
        for block, pool in zip(self.down_path, self.mpooling_layers, strict=True):
            skips.append(block(x))
            x = pool(skips[-1])
        x = self.bottleneck(x)
        features = [self._rise(n, x, skips) for n in range(self.spec.ways)]
        last = self.spec.last_heads
        order = [n for n in range(len(self.spec.heads)) if n not in last]
        outputs = [
            self._head(n)(features[n if self.spec.ways > 1 else 0])
            for n in (*order, *last)
        ]
        return torch.cat(outputs, 1)

    def _add_ways(self) -> None:
        """Make the ways up."""
        spec = self.spec
        ways = []
        for _ in range(spec.ways):
            inputs, way = spec.widths[-1], nn.ModuleList()
            for n in reversed(range(len(spec.strides))):
                way.append(_Up(spec, n, inputs))
                inputs = spec.risen[n]
            ways.append(way)
        if spec.legacy:
            self.up_path = ways[0]
        else:
            self.up_paths = nn.ModuleList(ways)
        if spec.outer:
            width = spec.risen[0]
            ends = [
                Named("block", _single(spec, width, width, spec.outer))
                for _ in range(spec.ways)
            ]
            self.conv_out: nn.Module = ends[0] if spec.legacy else nn.ModuleList(ends)

    def _add_heads(self) -> None:
        """Make the convolutions of size 1 at the end."""
        conv = layer("Conv", self.spec.ndim)
        heads = [conv(self.spec.risen[0], outputs, 1) for outputs in self.spec.heads]
        if self.spec.legacy:
            self.last_block = heads[0]
            if len(heads) > 1:
                self.last_class_head = heads[1]
        else:
            self.heads = nn.Sequential(*heads)

    def _rise(
        self, number: int, x: torch.Tensor, skips: list[torch.Tensor]
    ) -> torch.Tensor:
        """Go one way up."""
        way = self.up_path if self.spec.legacy else self.up_paths[number]
        for up, skip in zip(way, skips[::-1], strict=True):  # type: ignore[call-overload]
            x = up(x, skip)
        if not self.spec.outer:
            return x
        end = self.conv_out if self.spec.legacy else self.conv_out[number]  # type: ignore[index]
        features: torch.Tensor = end(x)
        return features

    def _head(self, number: int) -> nn.Module:
        if self.spec.legacy:
            return self.get_submodule("last_class_head" if number else "last_block")
        return self.get_submodule(f"heads.{number}")


class _Up(nn.Module):
    """Up-sampling, the skip connection, then the level's convolutions."""

    def __init__(self, spec: BiapySpec, level: int, inputs: int) -> None:
        super().__init__()
        outputs, stride = spec.risen[level], spec.strides[level]
        raised = inputs if spec.residual else outputs
        layers: list[nn.Module] = []
        if spec.upsampling == "transposed":
            transposed = layer("ConvTranspose", spec.ndim)
            layers.append(transposed(inputs, raised, stride, stride))
        else:
            factor = tuple(float(s) for s in stride)
            layers.append(nn.Upsample(scale_factor=factor, mode=linear(spec.ndim)))
            if not spec.residual:
                layers.append(layer("Conv", spec.ndim)(inputs, outputs, 1))
        if not spec.residual:
            layers += [*_norm(spec, outputs), _act(spec)]
        self.up = layers[0] if spec.residual else nn.Sequential(*layers)
        joined = raised + spec.widths[level]
        self.conv_block = _level(spec, level, joined, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.conv_block(torch.cat([self.up(x), skip], 1))
        return features


class _Residual(nn.Module):
    """Convolutions, and their input through one of size 1 added to them."""

    def __init__(
        self, spec: BiapySpec, level: int, inputs: int, outputs: int, is_first: bool
    ) -> None:
        super().__init__()
        kernel, count = spec.kernels[level], spec.convs[level]
        layers: list[nn.Module] = []
        if not is_first and not spec.pre:
            layers += [*_norm(spec, inputs), _act(spec)]
        for n in range(count):
            is_bare = not spec.pre and n == count - 1 and count > 1
            width = outputs if n else inputs
            single = _single(spec, width, outputs, kernel, is_bare=is_bare)
            layers.append(Named("block", single))
        self.block = nn.Sequential(*layers)
        conv = layer("Conv", spec.ndim)
        self.shortcut = nn.Sequential(conv(inputs, outputs, 1))
        # Without a norm before it, the first activation is done in place since 3.7, so
        # that the shortcut meets its result.
        is_seen = spec.norm == "none" and (spec.pre or not is_first)
        is_seen = is_seen and not spec.legacy and spec.activation in _IN_PLACE
        self.seen = _act(spec) if is_seen else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.block(x) + self.shortcut(self.seen(x))
        return features


def _level(
    spec: BiapySpec, level: int, inputs: int, outputs: int, *, is_first: bool = False
) -> nn.Module:
    """Make the convolutions of one level."""
    if spec.residual:
        return _Residual(spec, level, inputs, outputs, is_first)
    kernel, count = spec.kernels[level], spec.convs[level]
    singles = [
        _single(spec, outputs if n else inputs, outputs, kernel) for n in range(count)
    ]
    if count == 1:
        return Named("block", singles[0])
    return Named("block", nn.Sequential(*(Named("block", s) for s in singles)))


def _single(
    spec: BiapySpec, inputs: int, outputs: int, kernel: Size, *, is_bare: bool = False
) -> nn.Sequential:
    """Make one convolution with its norm and activation, or bare."""
    conv = layer("Conv", spec.ndim)(inputs, outputs, kernel or 1, padding="same")
    if is_bare:
        return nn.Sequential(conv)
    around = [
        *_norm(spec, inputs if spec.pre else outputs),
        _act(spec),
    ]
    return nn.Sequential(*around, conv) if spec.pre else nn.Sequential(conv, *around)


def _act(spec: BiapySpec) -> nn.Module:
    """Make the activation; the slope of older releases was another."""
    if spec.activation == "leaky_relu" and spec.legacy:
        return nn.LeakyReLU(0.2)
    return ACTIVATIONS[spec.activation]()


def _norm(spec: BiapySpec, width: int) -> list[nn.Module]:
    if spec.norm == "none":
        return []
    if spec.norm == "batch":
        return [layer("BatchNorm", spec.ndim)(width)]
    if spec.norm == "group":
        return [nn.GroupNorm(_GROUPS[spec.ndim], width)]
    has_weights = spec.norm == "instance"
    return [layer("InstanceNorm", spec.ndim)(width, affine=has_weights)]
