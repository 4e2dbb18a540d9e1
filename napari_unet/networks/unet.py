"""The reference U-Net: 2D and 3D, any depth, width and anisotropy.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015 (arXiv:1505.04597); in 3D Cicek et al., MICCAI 2016
(arXiv:1606.06650). The paper's own network is ``UNetSpec.paper()``.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from napari_unet.config import Config

Size = tuple[int, ...]


class UNetSpec(Config):
    """Shape of a U-Net.

    Attributes
    ----------
    ndim : int
        2 for (N, C, Y, X), 3 for (N, C, Z, Y, X).
    in_channels, out_channels : int
        Channels of the image and of the logits.
    widths : tuple of int
        Channels of each level from the full resolution down; depth is one less.
    strides : tuple of tuple of int
        Down-sampling between the levels, one factor per spatial axis.
    kernels : tuple of tuple of int
        Odd convolution kernel of each level, one size per spatial axis.
    convs : int
        Convolutions per level on either side.
    norm : str
        Normalisation after each convolution.
    groups : int
        Groups of the group norm.
    upsampling : str
        transposed convolution, or linear / nearest interpolation and a 1x1 convolution.
    padding : str
        same keeps the size; valid is the paper's, the output is smaller than the input.
    slope : float
        Negative slope of the activation; 0 is ReLU.
    """

    ndim: Literal[2, 3] = 2
    in_channels: int = Field(1, ge=1, le=4096)
    out_channels: int = Field(2, ge=1, le=65535)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    strides: tuple[Size, ...] = ()
    kernels: tuple[Size, ...] = ()
    convs: int = Field(2, ge=1, le=8)
    norm: Literal["batch", "instance", "group", "none"] = "batch"
    groups: int = Field(8, ge=1, le=4096)
    upsampling: Literal["transposed", "linear", "nearest"] = "transposed"
    padding: Literal["same", "valid"] = "same"
    slope: float = Field(0.0, ge=0.0, lt=1.0)

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, object]) -> dict[str, object]:
        """Give strides 2 and kernels 3 where none are named."""
        ndim, widths = values.get("ndim", 2), values.get("widths", (16, 32, 64, 128))
        if isinstance(ndim, int) and isinstance(widths, (tuple, list)):
            strides = values.get("strides") or ((2,) * ndim,) * (len(widths) - 1)
            kernels = values.get("kernels") or ((3,) * ndim,) * len(widths)
            values = {**values, "strides": strides, "kernels": kernels}
        return values

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        depth = len(self.widths) - 1
        if not 0 <= depth <= 8 or not all(1 <= w <= 4096 for w in self.widths):
            raise ValueError("widths: 1 to 9 levels of 1 to 4096 channels")
        if len(self.strides) != depth or len(self.kernels) != depth + 1:
            raise ValueError("one stride between levels and one kernel per level")
        sizes = (*self.strides, *self.kernels)
        if any(len(s) != self.ndim or not all(1 <= n <= 15 for n in s) for s in sizes):
            raise ValueError("strides and kernels: one size of 1 to 15 per axis")
        if any(n % 2 == 0 for kernel in self.kernels for n in kernel):
            raise ValueError("kernels are odd")
        if self.norm == "group" and any(w % self.groups for w in self.widths):
            raise ValueError(f"widths must be multiples of the {self.groups} groups")
        return self

    @classmethod
    def paper(cls, in_channels: int = 1, out_channels: int = 2) -> UNetSpec:
        """Return the network of 2015: 572 x 572 in, 388 x 388 out."""
        return cls(
            in_channels=in_channels,
            out_channels=out_channels,
            widths=(64, 128, 256, 512, 1024),
            norm="none",
            padding="valid",
        )


class CropTo(nn.Module):
    """Crop `x` centrally to the spatial size of `like`.

    Attributes
    ----------
    outside : float or str
        What lies around `x` where `like` is larger: a number, ``"reflect"`` or
        ``"replicate"``.
    """

    outside: float | str = 0.0

    def forward(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return the centre of `x`, (N, C, *spatial of `like`)."""
        for axis in range(2, x.ndim):
            start = self.offset(x.shape[axis], like.shape[axis])
            x = x.narrow(axis, start, like.shape[axis])
        return x

    @staticmethod
    def offset(length: int, wanted: int) -> int:
        """Return the pixel of `length` that becomes the first of the `wanted` ones."""
        return (length - wanted) // 2

    @staticmethod
    def moves(length: int, wanted: int) -> bool:
        """Whether pixels of `length` are only moved to make `wanted` ones."""
        del length, wanted
        return True


class UNet(nn.Module):
    """The U-Net of a `UNetSpec`: (N, in_channels, *spatial) to logits.

    Sizes must be multiples of the product of the strides; with valid padding each
    pooling must meet an even size, such as 572. The engine pads images to fit.
    """

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        widths, kernels = spec.widths, spec.kernels
        pool = nn.MaxPool2d if spec.ndim == 2 else nn.MaxPool3d
        inputs = (spec.in_channels, *widths[:-1])
        self.encoder = nn.ModuleList(
            _level(spec, i, o, k)
            for i, o, k in zip(inputs, widths, kernels, strict=True)
        )
        self.pools = nn.ModuleList(pool(stride, stride) for stride in spec.strides)
        rising = range(len(widths) - 2, -1, -1)
        self.ups = nn.ModuleList(
            _up(spec, widths[n + 1], widths[n], spec.strides[n]) for n in rising
        )
        self.decoder = nn.ModuleList(
            _level(spec, 2 * widths[n], widths[n], kernels[n]) for n in rising
        )
        self.crop = CropTo() if spec.padding == "valid" else None
        self.head = _conv(spec.ndim)(widths[0], spec.out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        skips = []
        for level, pool in zip(self.encoder, self.pools, strict=False):
            x = level(x)
            skips.append(x)
            x = pool(x)
        x = self.encoder[-1](x)
        for up, level, skip in zip(self.ups, self.decoder, skips[::-1], strict=True):
            x = up(x)
            x = level(
                torch.cat([skip if self.crop is None else self.crop(skip, x), x], 1)
            )
        logits: torch.Tensor = self.head(x)
        return logits


def _conv(ndim: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if ndim == 2 else nn.Conv3d


def _level(spec: UNetSpec, inputs: int, outputs: int, kernel: Size) -> nn.Sequential:
    """Convolution, norm and activation, `spec.convs` times."""
    layers: list[nn.Module] = []
    for n in range(spec.convs):
        same = tuple(k // 2 for k in kernel)
        conv = _conv(spec.ndim)(
            inputs if n == 0 else outputs,
            outputs,
            kernel,  # type: ignore[arg-type]
            padding=same if spec.padding == "same" else 0,  # type: ignore[arg-type]
            bias=spec.norm == "none",
        )
        layers += [conv, *_norm(spec, outputs), _activation(spec)]
    return nn.Sequential(*layers)


def _norm(spec: UNetSpec, channels: int) -> list[nn.Module]:
    if spec.norm == "none":
        return []
    if spec.norm == "group":
        return [nn.GroupNorm(spec.groups, channels)]
    if spec.norm == "batch":
        batch = nn.BatchNorm2d if spec.ndim == 2 else nn.BatchNorm3d
        return [batch(channels)]
    instance = nn.InstanceNorm2d if spec.ndim == 2 else nn.InstanceNorm3d
    return [instance(channels, affine=True)]


def _activation(spec: UNetSpec) -> nn.Module:
    if spec.slope:
        return nn.LeakyReLU(spec.slope, inplace=True)
    return nn.ReLU(inplace=True)


def _up(spec: UNetSpec, inputs: int, outputs: int, stride: Size) -> nn.Module:
    """Up-sampling by `stride` from `inputs` to `outputs` channels."""
    if spec.upsampling == "transposed":
        transposed = nn.ConvTranspose2d if spec.ndim == 2 else nn.ConvTranspose3d
        return transposed(inputs, outputs, stride, stride)  # type: ignore[arg-type]
    linear = "bilinear" if spec.ndim == 2 else "trilinear"
    mode = linear if spec.upsampling == "linear" else "nearest"
    factor = tuple(float(s) for s in stride)
    return nn.Sequential(
        nn.Upsample(scale_factor=factor, mode=mode),
        _conv(spec.ndim)(inputs, outputs, 1),
    )
