"""Layers of torch_em's U-Nets (torch-em 0.10.9, torch_em.model.unet)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from napari_unet.config import Config
from napari_unet.networks.leaves import Leaf
from napari_unet.networks.unet import CropTo
from napari_unet.networks.windows import STILL, Window

Size = tuple[Annotated[int, Field(ge=1, le=15)], ...]
Width = Annotated[int, Field(ge=1, le=4096)]


class TorchEmSpec(Config):
    """Shape of a torch_em U-Net.

    Attributes
    ----------
    norm : str
        instance has no weights; an instance norm with running statistics works as a
        batch norm in evaluation and is called so here.
    side : tuple of int
        Outputs of each level from the coarsest to the full resolution, of which the
        last is used; empty without side outputs.
    head : bool
        Whether there is a convolution after the last level.
    raw_channels : int, optional
        Its outputs where they are joined after it, else those of the network.
    final : str
        torch's activation after it that is no probability, such as ``"ReLU"``.
    keep, join : tuple of int
        First channel and the one after the last of those that are kept and of those
        whose largest value is taken after that; empty if channels stay as they are.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    widths: tuple[Width, ...] = Field(min_length=2, max_length=9)
    strides: tuple[Size, ...] = Field(min_length=1, max_length=8)
    kernels: tuple[Size, ...] = Field(min_length=2, max_length=9)
    norm: Literal["instance", "group", "batch", "none"] = "instance"
    side: tuple[Width, ...] = ()
    head: bool = True
    raw_channels: int | None = Field(None, ge=1, le=65535)
    final: Literal["", "ReLU", "LeakyReLU", "ELU", "Tanh", "Softplus"] = ""
    keep: tuple[int, ...] = ()
    join: tuple[int, ...] = ()


class TorchEmUNet(nn.Module):
    """torch_em's U-Net with its key names: (N, C, *spatial) to raw outputs."""

    def __init__(self, spec: TorchEmSpec) -> None:
        super().__init__()
        self.encoder = _Encoder(spec)
        self.base = _Block(spec, spec.widths[-2], spec.widths[-1], spec.kernels[-1])
        self.decoder = _Decoder(spec)
        conv = _conv(spec.ndim)
        rising = spec.widths[-2::-1]
        self.out_conv: nn.Module = nn.Identity()
        if spec.side:
            pairs = zip(rising, spec.side, strict=True)
            self.out_conv = nn.ModuleList(conv(w, o, 1) for w, o in pairs)
        elif spec.head:
            outputs = spec.raw_channels or spec.out_channels
            self.out_conv = conv(spec.widths[0], outputs, 1)
        final = getattr(nn, spec.final)() if spec.final else nn.Identity()
        join = Join(spec.keep, spec.join) if spec.join else nn.Identity()
        self.ending = nn.Sequential(final, join)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return raw outputs at full resolution."""
        skips = []
        for block, pool in zip(self.encoder.blocks, self.encoder.poolers, strict=True):
            skips.append(block(x))
            x = pool(skips[-1])
        x = self.base(x)
        decoder = self.decoder
        for block, sampler in zip(decoder.blocks, decoder.samplers, strict=True):
            x = sampler(x)
            x = block(torch.cat([x, decoder.crop(skips.pop(), x)], 1))
        heads = self.out_conv
        head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
        output: torch.Tensor = self.ending(head(x))
        return output


class Join(Leaf):
    """Keep some channels and take the largest of others.

    Parameters
    ----------
    keep, join : tuple of int
        First channel and the one after the last.
    """

    def __init__(self, keep: tuple[int, ...], join: tuple[int, ...]) -> None:
        super().__init__()
        self.keep, self.join = slice(*keep) if keep else slice(0, 0), slice(*join)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, kept channels and one, *spatial)."""
        return torch.cat([x[:, self.keep], x[:, self.join].amax(1, keepdim=True)], 1)

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel."""
        return (STILL,) * ndim


class _Encoder(nn.Module):
    def __init__(self, spec: TorchEmSpec) -> None:
        super().__init__()
        inputs = (spec.in_channels, *spec.widths)
        pool = nn.MaxPool2d if spec.ndim == 2 else nn.MaxPool3d
        self.blocks = nn.ModuleList(
            _Block(spec, inputs[n], spec.widths[n], spec.kernels[n])
            for n in range(len(spec.strides))
        )
        self.poolers = nn.ModuleList(pool(stride) for stride in spec.strides)


class _Decoder(nn.Module):
    def __init__(self, spec: TorchEmSpec) -> None:
        super().__init__()
        widths, rising = spec.widths, range(len(spec.strides) - 1, -1, -1)
        self.blocks = nn.ModuleList(
            _Block(spec, 2 * widths[n], widths[n], spec.kernels[n]) for n in rising
        )
        self.samplers = nn.ModuleList(
            _Sampler(spec, widths[n + 1], widths[n], spec.strides[n]) for n in rising
        )
        self.crop = CropTo()


class _Block(nn.Module):
    """Norm, convolution, ReLU, twice."""

    def __init__(self, spec: TorchEmSpec, inputs: int, outputs: int, k: Size) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers += _norm_layer(spec, width)
            same = tuple(n // 2 for n in k)
            layers += [
                _conv(spec.ndim)(width, outputs, k, padding=same),  # type: ignore[arg-type]
                nn.ReLU(inplace=True),
            ]
        self.block = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.block(x)
        return features


class _Sampler(nn.Module):
    """Linear interpolation and a 1x1 convolution."""

    def __init__(self, spec: TorchEmSpec, inputs: int, outputs: int, s: Size) -> None:
        super().__init__()
        self.scale = [float(n) for n in s]
        self.mode = "bilinear" if spec.ndim == 2 else "trilinear"
        self.conv = _conv(spec.ndim)(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(
            x, scale_factor=self.scale, mode=self.mode, align_corners=False
        )
        features: torch.Tensor = self.conv(x)
        return features


def _conv(ndim: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if ndim == 2 else nn.Conv3d


def _norm_layer(spec: TorchEmSpec, width: int) -> list[nn.Module]:
    flat = spec.ndim == 2
    if spec.norm == "none":
        return []
    if spec.norm == "group":
        return [nn.GroupNorm(min(32, width), width)]
    if spec.norm == "batch":
        return [nn.BatchNorm2d(width) if flat else nn.BatchNorm3d(width)]
    return [nn.InstanceNorm2d(width) if flat else nn.InstanceNorm3d(width)]
