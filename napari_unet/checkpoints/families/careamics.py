"""CAREamics' U-Net for denoising, Noise2Void 2 included (careamics 0.3.5).

Its batch norms are in every file, also where they are not used; channels may be
independent networks side by side, as groups. A checkpoint tells mean and spread of its
training images; the output is brought back to their scale, as the source does.
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
    normalization,
    setting,
)
from napari_unet.config import Config
from napari_unet.networks.leaves import Affine, Blur, Interleave

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.networks.spec import Assumption

_FINAL: dict[str, type[nn.Module]] = {
    **{"None": nn.Identity, "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh},
    **{"ReLU": nn.ReLU, "LeakyReLU": nn.LeakyReLU, "ELU": nn.ELU},
}
_EPS = 1e-6


class CareamicsSpec(Config):
    """Shape of a CAREamics U-Net.

    `groups` independent networks lie side by side; `gain` and `offset` bring the output
    channels to the scale of the training images, empty where that is unknown.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    depth: int = Field(ge=1, le=8)
    groups: int = Field(1, ge=1, le=4096)
    batch_norm: bool = True
    n2v2: bool = False
    residual: bool = False
    final: str = "None"
    gain: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()


class Careamics(Family):
    """CAREamics U-Net."""

    name = "careamics"
    title = "CAREamics U-Net"
    source = "careamics 0.3.5, careamics.models.unet.UNet"
    typical: ClassVar[Mapping[str, Any]] = {
        **{"ndim": 2, "in_channels": 1, "out_channels": 1, "width": 8, "depth": 2},
        "batch_norm": True,
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (
            "encoder.encoder_blocks.0.conv1.weight",
            "decoder.bottleneck.conv1.weight",
            "decoder.decoder_blocks.1.conv1.weight",
            "final_conv.weight",
        )
        return all(mark in shapes for mark in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names, shapes and the source's own settings."""
        first = shapes["encoder.encoder_blocks.0.conv1.weight"]
        last, told = shapes["final_conv.weight"], _model(hints)
        depth = _blocks(shapes)
        groups = last[1] and first[0] // last[1]
        in_channels = first[1] * groups
        joined = shapes[f"decoder.decoder_blocks.{2 * depth - 1}.conv1.weight"][1]
        architecture = {
            "ndim": len(first) - 2,
            "in_channels": in_channels,
            "out_channels": last[0],
            "width": last[1],
            "depth": depth,
            "groups": groups,
            "batch_norm": bool(told.get("use_batch_norm", _is_used(shapes))),
            "n2v2": joined == last[1],
            "residual": bool(told.get("residual", False)),
            "final": str(told.get("final_activation", "None")),
        }
        fields = {
            **{k: architecture[k] for k in ("ndim", "in_channels", "out_channels")},
            **{"task": "restoration", "activation": "none"},
        }
        assumed = [] if "residual" in told else [_residual()]
        scales = _scales(hints, in_channels)
        if scales:
            fields["normalization"] = [
                {"kind": "linear", "gain": 1 / (s + _EPS), "offset": -m / (s + _EPS)}
                for m, s in scales
            ]
        else:
            assumed.append(normalization("zscore", "the file does not tell its images"))
        if len(scales) == last[0]:
            architecture["gain"] = [s + _EPS for _, s in scales]
            architecture["offset"] = [m for m, _ in scales]
        return Inferred(architecture, fields, tuple(assumed))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return CareamicsUNet(CareamicsSpec(**architecture))


def _model(hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the network that a checkpoint of the source holds."""
    place = hints.get("algorithm_config", hints)
    model = place.get("model", {}) if isinstance(place, dict) else {}
    return model if isinstance(model, dict) else {}


def _scales(hints: Mapping[str, Any], channels: int) -> list[tuple[float, float]]:
    """Return mean and spread of the training images for each channel."""
    data = hints.get("data_config", {})
    means, stds = data.get("image_means") or (), data.get("image_stds") or ()
    if len(means) != len(stds) or len(means) not in (1, channels):
        return []
    pairs = [(float(m), float(s)) for m, s in zip(means, stds, strict=True)]
    return pairs * (channels // len(pairs))


def _blocks(shapes: Shapes) -> int:
    """Count the encoder's blocks, which have even numbers."""
    start = "encoder.encoder_blocks."
    numbers = {k.removeprefix(start).split(".")[0] for k in shapes if start in k}
    return len(numbers)


def _is_used(shapes: Shapes) -> bool:
    """Whether the batch norms have seen anything."""
    tensors = shapes.tensors
    name = "encoder.encoder_blocks.0.batch_norm1"
    mean, var = (tensors.get(f"{name}.running_{part}") for part in ("mean", "var"))
    if mean is None or var is None:
        return False
    return bool(mean.any() or (var != 1).any())


def _residual() -> Assumption:
    return setting(
        "residual",
        value=False,
        alternatives=(True,),
        reason="adding the input to the output leaves no trace",
    )


class _Block(nn.Module):
    """Two convolutions, each with its batch norm, used or not, and ReLU."""

    def __init__(
        self, spec: CareamicsSpec, inputs: int, middle: int, outputs: int
    ) -> None:
        super().__init__()
        conv = nn.Conv2d if spec.ndim == 2 else nn.Conv3d
        norm = nn.BatchNorm2d if spec.ndim == 2 else nn.BatchNorm3d
        g = spec.groups
        self.conv1 = conv(inputs * g, middle * g, 3, padding=1, groups=g)
        self.conv2 = conv(middle * g, outputs * g, 3, padding=1, groups=g)
        self.batch_norm1, self.batch_norm2 = norm(middle * g), norm(outputs * g)
        self.act = nn.ReLU()
        self.is_normed = spec.batch_norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in (
            (self.conv1, self.batch_norm1),
            (self.conv2, self.batch_norm2),
        ):
            x = conv(x)
            x = self.act(norm(x) if self.is_normed else x)
        return x


class _Encoder(nn.Module):
    def __init__(self, spec: CareamicsSpec) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = spec.in_channels // spec.groups
        for n in range(spec.depth):
            width = spec.width * 2**n
            blocks += [_Block(spec, inputs, width, width), _pool(spec)]
            inputs = width
        self.encoder_blocks = nn.ModuleList(blocks)


class _Decoder(nn.Module):
    def __init__(self, spec: CareamicsSpec) -> None:
        super().__init__()
        deepest = spec.width * 2 ** (spec.depth - 1)
        self.bottleneck = _Block(spec, deepest, 2 * deepest, deepest)
        mode = "bilinear" if spec.ndim == 2 else "trilinear"
        blocks: list[nn.Module] = []
        for n in reversed(range(spec.depth)):
            width = spec.width * 2**n
            outputs = width // 2 if n else width
            joined = width if spec.n2v2 and not n else 2 * width
            block = _Block(spec, joined, 2 * outputs if n else outputs, outputs)
            blocks += [nn.Upsample(scale_factor=2, mode=mode), block]
        self.decoder_blocks = nn.ModuleList(blocks)


def _pool(spec: CareamicsSpec) -> nn.Module:
    """Halve: the maximum, after Noise2Void 2 the blurred maximum."""
    pool = nn.MaxPool2d if spec.ndim == 2 else nn.MaxPool3d
    return nn.Sequential(pool(2, stride=1), Blur()) if spec.n2v2 else pool(2)


class CareamicsUNet(nn.Module):
    """CAREamics' U-Net with its key names: (N, C, *spatial) to a restored image."""

    def __init__(self, spec: CareamicsSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder, self.decoder = _Encoder(spec), _Decoder(spec)
        conv = nn.Conv2d if spec.ndim == 2 else nn.Conv3d
        self.final_conv = conv(
            spec.width * spec.groups, spec.out_channels, 1, groups=spec.groups
        )
        self.final = _FINAL[spec.final]()
        self.join = Interleave(spec.groups)
        self.back = Affine(spec.gain, spec.offset) if spec.gain else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the restored image, (N, out_channels, *spatial)."""
        image, skips = x, []
        blocks = iter(self.encoder.encoder_blocks)
        for block, pool in zip(blocks, blocks, strict=True):
            skips.append(block(x))
            x = pool(skips[-1])
        x = self.decoder.bottleneck(x)
        blocks = iter(self.decoder.decoder_blocks)
        for up, block in zip(blocks, blocks, strict=True):
            x, skip = up(x), skips.pop()
            if skips or not self.spec.n2v2:
                x = self.join(x, skip)
            x = block(x)
        x = self.final_conv(x)
        x = self.final(x + image if self.spec.residual else x)
        restored: torch.Tensor = self.back(x)
        return restored
