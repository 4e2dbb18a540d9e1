"""Layers of pytorch-3dunet's networks (pytorch-3dunet 1.9.6, unet3d.buildingblocks).

UNet2D and UNet3D have pairs of convolutions and concatenate the skip connection before
what comes from below; ResidualUNet2D, ResidualUNet3D and ResidualUNetSE3D have residual
blocks and add it. A string such as ``"gcr"`` tells the order of group norm, convolution
and ReLU; a norm before the first convolution sees the image itself.

Residual networks of older releases, whose first convolution is a whole block and whose
transposed convolutions have a bias, follow copies of that source; they were not run
against it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from napari_unet.config import Config
from napari_unet.networks.blocks import Named, ResizeTo, layer, linear
from napari_unet.networks.unet import CropTo

Width = Annotated[int, Field(ge=1, le=4096)]

_ACTIVATIONS: dict[str, tuple[str, type[nn.Module]]] = {
    "r": ("ReLU", nn.ReLU),
    "l": ("LeakyReLU", nn.LeakyReLU),
    "e": ("ELU", nn.ELU),
}


class Pytorch3dunetSpec(Config):
    """Shape of a pytorch-3dunet network.

    Attributes
    ----------
    order : str
        Layers around each convolution: c itself, g and b group and batch norm, r, l and
        e ReLU, leaky ReLU and ELU.
    groups : int
        Of the group norms; one group where there are fewer channels.
    block : str
        double: two convolutions; residual: three, the last two around the first;
        residual_se: with squeeze and excitation after it.
    first : str
        Whether a residual block's first convolution is of size 1 or a whole block.
    upscale : int
        1 if the first of two convolutions already has all channels, 2 if half of them.
    upsampling : str
        Interpolation, a transposed convolution stretched to the skip's size, or one
        that gives it itself.
    joining : str
        How the skip connection is joined.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    widths: tuple[Width, ...] = Field(min_length=2, max_length=9)
    order: str = Field("gcr", pattern=r"^[gbc][gbcrle]{0,4}$")
    groups: int = Field(8, ge=1, le=4096)
    block: Literal["double", "residual", "residual_se"] = "double"
    first: Literal["point", "block"] = "point"
    upscale: Literal[1, 2] = 2
    upsampling: Literal["nearest", "linear", "area", "deconv", "deconv_to_size"] = (
        "nearest"
    )
    joining: Literal["concat", "sum"] = "concat"


class Pytorch3dunetUNet(nn.Module):
    """The network with its key names: (N, C, *spatial) to logits."""

    def __init__(self, spec: Pytorch3dunetSpec) -> None:
        super().__init__()
        inputs = (spec.in_channels, *spec.widths)
        self.encoders = nn.ModuleList(
            _Encoder(spec, inputs[n], width, bool(n))
            for n, width in enumerate(spec.widths)
        )
        rising = spec.widths[::-1]
        pairs = pairwise(rising)
        self.decoders = nn.ModuleList(_Decoder(spec, i, o) for i, o in pairs)
        self.final_conv = layer("Conv", spec.ndim)(spec.widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        skips = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
        skips.pop()
        for decoder in self.decoders:
            x = decoder(x, skips.pop())
        logits: torch.Tensor = self.final_conv(x)
        return logits


class _Encoder(nn.Module):
    def __init__(
        self, spec: Pytorch3dunetSpec, inputs: int, outputs: int, pools: bool
    ) -> None:
        super().__init__()
        self.pooling = layer("MaxPool", spec.ndim)(2) if pools else nn.Identity()
        middle = max(outputs // spec.upscale, inputs)
        self.basic_module = _basic(spec, inputs, middle, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.basic_module(self.pooling(x))
        return features


class _Decoder(nn.Module):
    """Up-sampling, the skip connection, then the block."""

    def __init__(self, spec: Pytorch3dunetSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        is_learned = spec.upsampling.startswith("deconv")
        self.upsampling = _Rise(spec, inputs, outputs)
        self.is_sum = spec.joining == "sum"
        joined = outputs + (outputs if is_learned else inputs)
        self.basic_module = _basic(
            spec, outputs if self.is_sum else joined, outputs, outputs
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.upsampling(x, skip)
        x = skip + x if self.is_sum else torch.cat([skip, x], 1)
        features: torch.Tensor = self.basic_module(x)
        return features


class _Rise(nn.Module):
    """Up-sampling to the size of the skip connection."""

    def __init__(self, spec: Pytorch3dunetSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        transposed = layer("ConvTranspose", spec.ndim)
        settings = {"kernel_size": 3, "stride": 2, "padding": 1}
        self.fit: CropTo | None = None
        if spec.upsampling == "deconv":
            conv = transposed(inputs, outputs, **settings, bias=False)
            self.upsample: nn.Module = Named("conv_transposed", conv)
            self.fit = StretchTo()
        elif spec.upsampling == "deconv_to_size":
            self.upsample = transposed(inputs, outputs, **settings, output_padding=1)
        else:
            is_linear = spec.upsampling == "linear"
            self.upsample = nn.Identity()
            self.fit = ResizeTo(2, linear(spec.ndim) if is_linear else spec.upsampling)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.upsample(x)
        return x if self.fit is None else self.fit(x, skip)


class StretchTo(CropTo):
    """Bring a transposed convolution's 2n - 1 pixels to the size of `like`.

    Nearest neighbours; where `like` has 2n pixels the first pixel is repeated and all
    others move on by one.
    """

    outside = "replicate"

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return `x` with the spatial size of `like`."""
        return F.interpolate(x, size=like.shape[2:])

    @staticmethod
    def offset(length: int, wanted: int) -> int:
        """Return the pixel that becomes the first: the one before the first."""
        return length - wanted


def _basic(
    spec: Pytorch3dunetSpec, inputs: int, middle: int, outputs: int
) -> nn.Module:
    """Make the block of one level."""
    if spec.block == "double":
        double = nn.Sequential()
        double.add_module("SingleConv1", _single(spec, inputs, middle))
        double.add_module("SingleConv2", _single(spec, middle, outputs))
        return double
    return _Residual(spec, inputs, outputs)


class _Residual(nn.Module):
    """A convolution for the channels, then two whose result is added to its own."""

    def __init__(self, spec: Pytorch3dunetSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1: nn.Module
        if spec.first == "block":
            self.conv1 = _single(spec, inputs, outputs)
        elif inputs != outputs:
            self.conv1 = layer("Conv", spec.ndim)(inputs, outputs, 1)
        else:
            self.conv1 = nn.Identity()
        bare = spec.order.translate({ord(a): None for a in "rel"})
        self.conv2 = _single(spec, outputs, outputs)
        self.conv3 = _single(spec, outputs, outputs, bare)
        self.non_linearity: nn.Module = nn.ReLU()
        if "l" in spec.order:
            self.non_linearity = nn.LeakyReLU(0.1)
        elif "e" in spec.order:
            self.non_linearity = nn.ELU()
        is_weighed = spec.block == "residual_se"
        self.se_module = _Weigh(spec.ndim, outputs) if is_weighed else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        x = self.non_linearity(self.conv3(self.conv2(x)) + x)
        features: torch.Tensor = self.se_module(x)
        return features


class _Weigh(nn.Module):
    """Squeeze and excitation of channels and of pixels; the larger of the two."""

    def __init__(self, ndim: int, width: int) -> None:
        super().__init__()
        mean = layer("AdaptiveAvgPool", ndim)(1)
        self.cSE = nn.Module()
        self.cSE.fc1 = nn.Linear(width, width)
        self.cSE.fc2 = nn.Linear(width, width)
        self.sSE = Named("conv", layer("Conv", ndim)(width, 1, 1))
        self.mean = nn.Sequential(mean, nn.Flatten())
        self.ones = (1,) * ndim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = self.cSE.fc2(self.cSE.fc1(self.mean(x)).relu())  # type: ignore[operator]
        channels = channels.sigmoid().unflatten(1, (-1, *self.ones))
        return torch.maximum(x * channels, x * self.sSE(x).sigmoid())


def _single(
    spec: Pytorch3dunetSpec, inputs: int, outputs: int, order: str = ""
) -> nn.Sequential:
    """One convolution with the layers around it, under the source's names."""
    order = order or spec.order
    single, width = nn.Sequential(), inputs
    for letter in order:
        if letter == "c":
            bias = not set("gb") & set(order)
            conv = layer("Conv", spec.ndim)
            single.add_module("conv", conv(inputs, outputs, 3, padding=1, bias=bias))
            width = outputs
        elif letter == "g":
            groups = spec.groups if width >= spec.groups else 1
            single.add_module("groupnorm", nn.GroupNorm(groups, width))
        elif letter == "b":
            single.add_module("batchnorm", layer("BatchNorm", spec.ndim)(width))
        else:
            name, activation = _ACTIVATIONS[letter]
            single.add_module(name, activation())
    return single
