"""torch_em's UNet2d, UNet3d and AnisotropicUNet (constantinpape/torch-em 0.10).

Blocks of two convolutions, each after a norm that is by default an instance norm
without weights; linear interpolation and a 1x1 convolution upwards; the up-sampled
features come first in the concatenation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    count,
    normalization,
)
from napari_unet.config import Config
from napari_unet.networks.spec import Assumption
from napari_unet.networks.unet import CropTo

if TYPE_CHECKING:
    from collections.abc import Mapping

Size = tuple[Annotated[int, Field(ge=1, le=15)], ...]
Width = Annotated[int, Field(ge=1, le=4096)]


class TorchEmSpec(Config):
    """Shape of a torch_em U-Net.

    `norm` instance has no weights, tracked is an instance norm with running statistics,
    which in evaluation works as a batch norm does. `side` counts the outputs of the
    coarser levels, whose weights are kept but not used; 0 without side outputs.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    widths: tuple[Width, ...] = Field(min_length=2, max_length=9)
    strides: tuple[Size, ...] = Field(min_length=1, max_length=8)
    kernels: tuple[Size, ...] = Field(min_length=2, max_length=9)
    norm: Literal["instance", "group", "batch", "none"] = "instance"
    side: tuple[Width, ...] = ()


class TorchEm(Family):
    """torch_em's U-Nets."""

    name = "torch_em"
    title = "torch_em U-Net"
    source = "torch-em 0.10.9, torch_em.model.unet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 2,
        "in_channels": 1,
        "out_channels": 1,
        "widths": [16, 32, 64, 128],
        "strides": [[2, 2]] * 3,
        "kernels": [[3, 3]] * 4,
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("encoder.blocks.0.block.", "base.block.", "decoder.samplers.0.conv.")
        return all(any(key.startswith(m) for key in shapes) for m in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        depth = count(shapes, "encoder.blocks.{}.")
        places = [*(f"encoder.blocks.{n}" for n in range(depth)), "base"]
        first = _convolutions(shapes, "encoder.blocks.0")[0]
        convs = [shapes[f"{p}.block.{first}.weight"] for p in places]
        kernels = [list(shape[2:]) for shape in convs]
        side = _side(shapes)
        out = shapes[f"out_conv.{len(side) - 1}.weight" if side else "out_conv.weight"]
        architecture = {
            "ndim": len(convs[0]) - 2,
            "in_channels": convs[0][1],
            "out_channels": out[0],
            "widths": [shape[0] for shape in convs],
            "strides": _strides(kernels[:depth], hints.get("scale_factors")),
            "kernels": kernels,
            "norm": _norm(shapes, first),
            "side": list(side),
        }
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        named = str(hints.get("final_activation") or "").lower()
        if named in ("sigmoid", "softmax"):
            fields["activation"] = named
        return Inferred(architecture, fields, tuple(_assumed(architecture, hints)))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return TorchEmUNet(TorchEmSpec(**architecture))


def _convolutions(shapes: Shapes, place: str) -> list[int]:
    """Return where a block's convolutions are: 1 and 4 after norms, else 0 and 2."""
    return sorted(
        int(key.split(".")[-2])
        for key, shape in shapes.items()
        if key.startswith(f"{place}.block.") and len(shape) > 2
    )


def _norm(shapes: Shapes, first: int) -> str:
    """Tell the norm by its keys; the default has none and shows as a gap."""
    if first == 0:
        return "none"
    if "encoder.blocks.0.block.0.running_mean" in shapes:
        return "batch"
    return "group" if "encoder.blocks.0.block.0.weight" in shapes else "instance"


def _side(shapes: Shapes) -> tuple[int, ...]:
    """Return the outputs of all heads where there is one per level."""
    heads = count(shapes, "out_conv.{}.")
    return tuple(shapes[f"out_conv.{n}.weight"][0] for n in range(heads))


def _strides(kernels: list[list[int]], given: Any) -> list[list[int]]:
    """Take the scale factors given, else (1, 2, 2) where the kernel is flat."""
    if isinstance(given, (list, tuple)) and len(given) == len(kernels):
        ndim = len(kernels[0])
        return [list(g) if isinstance(g, (list, tuple)) else [g] * ndim for g in given]
    return [[1 if size == 1 else 2 for size in kernel] for kernel in kernels]


def _assumed(
    architecture: Mapping[str, Any], hints: Mapping[str, Any]
) -> list[Assumption]:
    assumed = [normalization("zscore", "torch_em standardises by default")]
    if "final_activation" not in hints or not hints["final_activation"]:
        assumed.append(activation(architecture["out_channels"]))
    if "scale_factors" not in hints:
        assumed.append(
            Assumption(
                field="architecture.strides",
                value=architecture["strides"],
                reason="pooling has no weights",
            )
        )
    return assumed


class TorchEmUNet(nn.Module):
    """torch_em's U-Net with its key names: (N, C, *spatial) to raw outputs."""

    def __init__(self, spec: TorchEmSpec) -> None:
        super().__init__()
        self.encoder = _Encoder(spec)
        self.base = _Block(spec, spec.widths[-2], spec.widths[-1], spec.kernels[-1])
        self.decoder = _Decoder(spec)
        conv = _conv(spec.ndim)
        rising = spec.widths[-2::-1]
        self.out_conv: nn.Module = conv(spec.widths[0], spec.out_channels, 1)
        if spec.side:
            pairs = zip(rising, spec.side, strict=True)
            self.out_conv = nn.ModuleList(conv(w, o, 1) for w, o in pairs)

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
        output: torch.Tensor = head(x)
        return output


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
