"""Topaz's small U-Net that denoises electron micrographs, 2-D.

A wide first convolution, no norms, nearest-neighbour up-sampling, and the image itself
as the last skip. Facts of the architecture only; the program is under the GPL.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    normalization,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import NearestTo

if TYPE_CHECKING:
    from collections.abc import Mapping

_SLOPE = 0.1


class TopazSpec(Config):
    """Shape of the network: `width` channels, the last convolutions have `heads`."""

    in_channels: int = Field(1, ge=1, le=4096)
    out_channels: int = Field(1, ge=1, le=65535)
    width: int = Field(48, ge=1, le=4096)
    heads: tuple[int, int] = (64, 32)
    first_kernel: int = Field(11, ge=1, le=31)
    last_kernel: int = Field(5, ge=1, le=31)


class Topaz(Family):
    """Topaz's `unet_small` denoiser."""

    name = "topaz"
    title = "Topaz denoiser (unet_small)"
    source = "topaz-em 0.3.20, topaz.denoising.models.UDenoiseNetSmall"
    typical: ClassVar[Mapping[str, Any]] = {"width": 8}

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("enc1.0.weight", "enc4.0.weight", "dec3.0.weight", "dec1.4.weight")
        return all(mark in shapes for mark in marks) and "enc5.0.weight" not in shapes

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        first = shapes["enc1.0.weight"]
        last = shapes["dec1.4.weight"]
        architecture = {
            "in_channels": first[1],
            "out_channels": last[0],
            "width": first[0],
            "heads": [shapes["dec1.0.weight"][0], shapes["dec1.2.weight"][0]],
            "first_kernel": first[2],
            "last_kernel": last[2],
        }
        fields = {
            "ndim": 2,
            "in_channels": first[1],
            "out_channels": last[0],
            "activation": "none",
            "task": "restoration",
        }
        reason = "the program standardises each micrograph"
        return Inferred(architecture, fields, (normalization("zscore", reason),))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return TopazUNet(TopazSpec(**architecture))


class TopazUNet(nn.Module):
    """Topaz's network with its key names: (N, C, Y, X) to the denoised image."""

    def __init__(self, spec: TopazSpec) -> None:
        super().__init__()
        n, inputs = spec.width, spec.in_channels
        self.enc1 = _encoder(inputs, n, spec.first_kernel).append(nn.MaxPool2d(2))
        self.enc2 = _encoder(n, n).append(nn.MaxPool2d(2))
        self.enc3 = _encoder(n, n).append(nn.MaxPool2d(2))
        self.enc4 = _encoder(n, n)
        self.dec3 = _convolutions([2 * n, 2 * n, 2 * n], 3).append(_leaky())
        self.dec2 = _convolutions([3 * n, 2 * n, 2 * n], 3).append(_leaky())
        widths = [2 * n + inputs, *spec.heads, spec.out_channels]
        self.dec1 = _convolutions(widths, spec.last_kernel)
        self.enlarge = nn.Upsample(scale_factor=2)
        self.fit = NearestTo()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the denoised image, (N, out_channels, Y, X)."""
        half = self.enc1(x)
        quarter = self.enc2(half)
        y: torch.Tensor = self.enc4(self.enc3(quarter))
        for skip, block in ((quarter, self.dec3), (half, self.dec2), (x, self.dec1)):
            y = self.fit(self.enlarge(y), skip)
            y = block(torch.cat([y, skip], 1))
        return y


def _leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(_SLOPE)


def _encoder(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    return _convolutions([inputs, outputs], kernel).append(_leaky())


def _convolutions(widths: list[int], kernel: int) -> nn.Sequential:
    """Convolutions with a leaky ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        layers += [conv, _leaky()]
    return nn.Sequential(*layers[:-1])
