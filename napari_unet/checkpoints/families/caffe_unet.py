"""Caffe weights of the U-Net plugin for Fiji, without the description beside them.

All published networks, in 2-D and 3-D, name their layers alike: ``d0`` to ``d4`` are
the levels going down, ``u3`` to ``u0`` those going up. Up-sampled features come first
in the concatenation, the skip is cropped to them. With the description the layers are
read from that instead, see `napari_unet.checkpoints.packages.caffe_unet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    count,
    normalization,
    setting,
)
from napari_unet.config import Config
from napari_unet.networks.blocks import layer
from napari_unet.networks.unet import CropTo

if TYPE_CHECKING:
    from collections.abc import Mapping


class CaffeUNetSpec(Config):
    """Shape of the network.

    Attributes
    ----------
    widths : tuple of int
        Channels of the levels going down, the top first.
    risen : tuple of int
        Channels of the levels going up, the top first.
    kernels : tuple of tuple of int
        Of the convolutions of each level.
    strides : tuple of tuple of int
        Between the levels; also the kernels of the poolings and up-convolutions.
    slope : float
        Of ReLU below 0.
    joint : str
        Mark in the names of up-convolutions, which was another until 2015.
    """

    ndim: Literal[2, 3] = 2
    in_channels: int = Field(1, ge=1, le=4096)
    out_channels: int = Field(2, ge=1, le=65535)
    widths: tuple[int, ...] = Field((64, 128, 256, 512, 1024), min_length=2)
    risen: tuple[int, ...] = (64, 128, 256, 512)
    kernels: tuple[tuple[int, ...], ...] = ((3, 3),) * 5
    strides: tuple[tuple[int, ...], ...] = ((2, 2),) * 4
    slope: float = Field(0.1, ge=0.0, lt=1.0)
    padding: Literal["valid", "same"] = "valid"
    joint: Literal["-", "_"] = "-"

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        depth = len(self.widths) - 1
        if not len(self.risen) == len(self.strides) == len(self.kernels) - 1 == depth:
            raise ValueError("one level going up and one stride below each level")
        return self


class CaffeUNetFamily(Family):
    """The published networks of the Fiji plugin."""

    name = "caffe_unet"
    title = "Caffe U-Net (Fiji plugin)"
    source = "caffe_unet 1.0, layers and names of the published 2-D and 3-D networks"
    typical: ClassVar[Mapping[str, Any]] = {
        **{"widths": [4, 8, 16], "risen": [4, 8]},
        **{"kernels": [[3, 3]] * 3, "strides": [[2, 2]] * 2},
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("conv_d0a-b.weight", "conv_u0d-score.weight")
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        levels = range(count(shapes, "conv_d{}a-b."))
        joint = "_" if any(k.startswith("upconv_u1d_u0a.") for k in shapes) else "-"
        first = shapes["conv_d0a-b.weight"]
        outputs = shapes["conv_u0d-score.weight"][0]
        rises = [shapes[f"{_rise(n, len(levels), joint)}.weight"] for n in levels[:-1]]
        architecture = {
            "ndim": len(first) - 2,
            "in_channels": first[1],
            "out_channels": outputs,
            "widths": [shapes[f"conv_d{n}a-b.weight"][0] for n in levels],
            "risen": [rise[1] for rise in rises],
            "kernels": [shapes[f"conv_d{n}a-b.weight"][2:] for n in levels],
            "strides": [rise[2:] for rise in rises],
            "joint": joint,
        }
        fields = {
            **{"ndim": len(first) - 2, "in_channels": first[1]},
            **{"out_channels": outputs, "activation": "softmax"},
        }
        return Inferred(architecture, fields, _ASSUMED)

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return CaffeUNet(CaffeUNetSpec(**architecture))


_ASSUMED = (
    normalization("minmax", "the description is not there", joint=True, eps=0.0),
    setting("slope", 0.1, (0.0,), "ReLU has no weights; 0.1 since 2018, 0 in 2015"),
    setting("padding", "valid", ("same",), "padding is not stored with the weights"),
)


def _rise(level: int, levels: int, joint: str) -> str:
    """Return the name of the up-convolution to a level."""
    below = f"d{level + 1}c" if level == levels - 2 else f"u{level + 1}d"
    return f"upconv_{below}{joint}u{level}a"


class CaffeUNet(nn.Module):
    """The network with its layers' names: (N, C, *spatial) to scores."""

    def __init__(self, spec: CaffeUNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.relu = nn.LeakyReLU(spec.slope) if spec.slope else nn.ReLU()
        self.crop = CropTo()
        for n, stride in enumerate(spec.strides):
            self.add_module(f"pool{n}", layer("MaxPool", spec.ndim)(stride))
        inputs = (spec.in_channels, *spec.widths)
        for n, width in enumerate(spec.widths):
            self._conv(f"conv_d{n}a-b", inputs[n], width, spec.kernels[n])
            self._conv(f"conv_d{n}b-c", width, width, spec.kernels[n])
        below = (*spec.risen[1:], spec.widths[-1])
        for n, width in enumerate(spec.risen):
            up = layer("ConvTranspose", spec.ndim)
            self.add_module(
                self._rise(n), up(below[n], width, spec.strides[n], spec.strides[n])
            )
            joined = width + spec.widths[n]
            self._conv(f"conv_u{n}b-c", joined, width, spec.kernels[n])
            self._conv(f"conv_u{n}c-d", width, width, spec.kernels[n])
        self._conv("conv_u0d-score", spec.risen[0], spec.out_channels, (1,) * spec.ndim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores, (N, out_channels, *spatial)."""
        skips = []
        for n in range(len(self.spec.widths)):
            x = getattr(self, f"pool{n - 1}")(x) if n else x
            x = self._run(f"conv_d{n}b-c", self._run(f"conv_d{n}a-b", x))
            skips.append(x)
        for n in range(len(self.spec.risen) - 1, -1, -1):
            x = self._run(self._rise(n), x)
            x = torch.cat([x, self.crop(skips[n], x)], 1)
            x = self._run(f"conv_u{n}c-d", self._run(f"conv_u{n}b-c", x))
        scores: torch.Tensor = self.get_submodule("conv_u0d-score")(x)
        return scores

    def _run(self, name: str, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.relu(self.get_submodule(name)(x))
        return features

    def _conv(self, name: str, inputs: int, outputs: int, kernel: Any) -> None:
        make = layer("Conv", self.spec.ndim)
        padding = tuple(k // 2 for k in kernel) if self.spec.padding == "same" else 0
        self.add_module(name, make(inputs, outputs, tuple(kernel), padding=padding))

    def _rise(self, level: int) -> str:
        return _rise(level, len(self.spec.widths), self.spec.joint)
