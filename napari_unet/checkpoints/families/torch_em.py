"""torch_em's UNet2d, UNet3d and AnisotropicUNet (constantinpape/torch-em 0.10).

Blocks of two convolutions, each after a norm that is by default an instance norm
without weights; linear interpolation and a 1x1 convolution upwards; the up-sampled
features come first in the concatenation. Training checkpoints keep the arguments of the
class, also the activation and the joining of channels after the last convolution.
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
from napari_unet.networks.leaves import Leaf
from napari_unet.networks.spec import Assumption
from napari_unet.networks.unet import CropTo
from napari_unet.networks.windows import STILL, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

Size = tuple[Annotated[int, Field(ge=1, le=15)], ...]
Width = Annotated[int, Field(ge=1, le=4096)]

_POSTPROCESSING: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "": ((), ()),
    "affinities_to_boundaries_anisotropic": ((), (1, 3)),
    "affinities_to_boundaries2d": ((), (0, 2)),
    "affinities_with_foreground_to_boundaries2d": ((0, 1), (1, 3)),
    "affinities_to_boundaries3d": ((), (0, 3)),
    "affinities_with_foreground_to_boundaries3d": ((0, 1), (1, 4)),
}
"""Channels that are kept and joined, by the source's name."""


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
        side, keep, join = _side(shapes), *_POSTPROCESSING[_joining(hints)]
        has_head = "out_conv.weight" in shapes
        raw = shapes["out_conv.weight"] if has_head else convs[0]
        outputs = side[-1] if side else raw[0]
        architecture = {
            "ndim": len(convs[0]) - 2,
            "in_channels": convs[0][1],
            "out_channels": len(range(*keep or (0,))) + 1 if join else outputs,
            "widths": [shape[0] for shape in convs],
            "strides": _strides(kernels[:depth], hints.get("scale_factors")),
            "kernels": kernels,
            "norm": _norm(shapes, first),
            "side": list(side),
            "head": has_head,
            "raw_channels": outputs if join else None,
            "keep": list(keep),
            "join": list(join),
        }
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        fields |= _ending(architecture, hints)
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


def _joining(hints: Mapping[str, Any]) -> str:
    """Return the source's name of what happens to channels in the end."""
    return str(hints.get("postprocessing") or "")


def _ending(architecture: dict[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Take the activation told; the largest of sigmoids is that of the largest."""
    named = hints.get("final_activation")
    if not isinstance(named, str):
        return {}
    if named in ("Sigmoid", "Softmax"):
        if named == "Softmax" and architecture["join"]:
            raise ValueError("channels joined after a softmax")
        return {"activation": named.lower()}
    architecture["final"] = named
    return {"activation": "none"}


def _assumed(
    architecture: Mapping[str, Any], hints: Mapping[str, Any]
) -> list[Assumption]:
    reason = "torch_em standardises by default"
    assumed = [normalization("zscore", reason, joint=True, eps=1e-7)]
    if not isinstance(hints.get("final_activation"), str):
        assumed.append(activation(architecture["out_channels"]))
    if not {"scale_factors", "depth"} & set(hints):
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
