"""A U-Net whose layers lie under given names.

For checkpoints of unknown source: every layer has the name it has in the file, so that
a strict load shows that nothing was left over.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from napari_unet.config import Config
from napari_unet.networks.unet import CropTo

Size = tuple[int, ...]
_POOLS: dict[str, tuple[Any, Any]] = {
    "max": (nn.MaxPool2d, nn.MaxPool3d),
    "average": (nn.AvgPool2d, nn.AvgPool3d),
}
Norm = Literal["none", "batch", "instance", "group"]


class PlacedConv(Config):
    """One convolution with what follows it, each under its name in the file.

    Attributes
    ----------
    name : str
        Dotted name of the convolution.
    inputs, outputs : int
        Channels.
    kernel : tuple of int
        One size per spatial axis.
    bias : bool
        Whether the convolution has one.
    norm : str
        Dotted name of the norm after it, empty for none.
    prelu : str
        Dotted name of a PReLU with weights after it, empty for none.
    """

    name: str
    inputs: int = Field(ge=1, le=65536)
    outputs: int = Field(ge=1, le=65536)
    kernel: Size
    bias: bool
    norm: str = ""
    prelu: str = ""


class PlacedRise(Config):
    """How one level of the decoder is reached; without `conv`, by interpolation alone.

    Attributes
    ----------
    conv : PlacedConv, optional
        A transposed convolution, or the convolution after the interpolation.
    transposed : bool
        Which of the two.
    """

    conv: PlacedConv | None = None
    transposed: bool = False


class PlacedSpec(Config):
    """Layers of a U-Net by name.

    Attributes
    ----------
    ndim : int
        2 for (N, C, Y, X), 3 for (N, C, Z, Y, X).
    encoder : tuple of tuple of PlacedConv
        Levels from the full resolution down, the bottom last.
    rises : tuple of PlacedRise
        From the bottom up.
    decoder : tuple of tuple of PlacedConv
        Levels from the bottom up.
    head : PlacedConv
        Gives the logits.
    strides : tuple of tuple of int
        Down-sampling between the levels from the full resolution down.
    norm : str
        Kind of all norms.
    groups : int
        Of a group norm.
    norm_first : bool
        Whether the norm comes before the activation.
    slope : float
        Negative slope of the activation, 0 for ReLU.
    pooling : str
        How a level is left downwards.
    upsampling : str
        Interpolation, where no transposed convolution rises.
    align_corners : bool
        Of a linear interpolation.
    skip_first : bool
        Order of the concatenation.
    padding : str
        same keeps the size; valid crops the skips.
    """

    ndim: Literal[2, 3]
    encoder: tuple[tuple[PlacedConv, ...], ...]
    rises: tuple[PlacedRise, ...]
    decoder: tuple[tuple[PlacedConv, ...], ...]
    head: PlacedConv
    strides: tuple[Size, ...]
    norm: Norm = "none"
    groups: int = Field(8, ge=1, le=4096)
    norm_first: bool = True
    slope: float = Field(0.0, ge=0.0, lt=1.0)
    pooling: Literal["max", "average"] = "max"
    upsampling: Literal["linear", "nearest"] = "linear"
    align_corners: bool = False
    skip_first: bool = True
    padding: Literal["same", "valid"] = "same"

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        depth = len(self.strides)
        counts = {len(self.rises), len(self.decoder), len(self.encoder) - 1}
        if counts != {depth} or not 1 <= depth <= 8:
            raise ValueError("one rise, one decoder level and one stride per pooling")
        return self


class PlacedUNet(nn.Module):
    """The U-Net of a `PlacedSpec`: (N, in_channels, *spatial) to logits."""

    def __init__(self, spec: PlacedSpec) -> None:
        super().__init__()
        self.spec = spec
        pool = _POOLS[spec.pooling][spec.ndim - 2]
        self.placed_pools = nn.ModuleList(pool(s, s) for s in spec.strides)
        self.placed_rises = nn.ModuleList(map(self._interpolation, spec.strides[::-1]))
        self.placed_slope = nn.LeakyReLU(spec.slope) if spec.slope else nn.ReLU()
        self.placed_crop = CropTo() if spec.padding == "valid" else None
        for level in (*spec.encoder, *spec.decoder):
            for conv in level:
                self._place_block(conv)
        for rise, stride in zip(spec.rises, spec.strides[::-1], strict=True):
            self._place_rise(rise, stride)
        self._place(spec.head.name, self._conv(spec.head))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        skips = []
        for level, pool in zip(self.spec.encoder, self.placed_pools, strict=False):
            x = self._level(level, x)
            skips.append(x)
            x = pool(x)
        x = self._level(self.spec.encoder[-1], x)
        for n, level in enumerate(self.spec.decoder):
            x = self._level(level, self._join(skips.pop(), self._rise(n, x)))
        logits: torch.Tensor = self.get_submodule(self.spec.head.name)(x)
        return logits

    def _level(self, level: tuple[PlacedConv, ...], x: torch.Tensor) -> torch.Tensor:
        for conv in level:
            x = self._block(conv, self.get_submodule(conv.name)(x))
        return x

    def _block(self, conv: PlacedConv, x: torch.Tensor) -> torch.Tensor:
        """Apply what follows a convolution."""
        slope = self.get_submodule(conv.prelu) if conv.prelu else self.placed_slope
        after = [self.get_submodule(conv.norm)] if conv.norm else []
        for layer in (*after, slope) if self.spec.norm_first else (slope, *after):
            x = layer(x)
        return x

    def _rise(self, n: int, x: torch.Tensor) -> torch.Tensor:
        rise = self.spec.rises[n]
        if not rise.transposed:
            x = self.placed_rises[n](x)
        if rise.conv is None:
            return x
        x = self.get_submodule(rise.conv.name)(x)
        return self._block(rise.conv, x) if rise.conv.norm else x

    def _join(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        skip = self.placed_crop(skip, x) if self.placed_crop is not None else skip
        return torch.cat([skip, x] if self.spec.skip_first else [x, skip], 1)

    def _interpolation(self, stride: Size) -> nn.Module:
        factor = tuple(float(s) for s in stride)
        if self.spec.upsampling == "nearest":
            return nn.Upsample(scale_factor=factor, mode="nearest")
        mode = "bilinear" if self.spec.ndim == 2 else "trilinear"
        align = self.spec.align_corners
        return nn.Upsample(scale_factor=factor, mode=mode, align_corners=align)

    def _place_rise(self, rise: PlacedRise, stride: Size) -> None:
        if rise.conv is None:
            return
        if not rise.transposed:
            self._place_block(rise.conv)
            return
        kind = nn.ConvTranspose2d if self.spec.ndim == 2 else nn.ConvTranspose3d
        self._place_block(
            rise.conv,
            kind(
                rise.conv.inputs,
                rise.conv.outputs,
                rise.conv.kernel,  # type: ignore[arg-type]
                stride,  # type: ignore[arg-type]
                bias=rise.conv.bias,
            ),
        )

    def _place_block(self, conv: PlacedConv, layer: nn.Module | None = None) -> None:
        self._place(conv.name, layer or self._conv(conv))
        if conv.norm:
            self._place(conv.norm, self._norm(conv.outputs))
        if conv.prelu:
            self._place(conv.prelu, nn.PReLU(conv.outputs))

    def _conv(self, conv: PlacedConv) -> nn.Module:
        kind = nn.Conv2d if self.spec.ndim == 2 else nn.Conv3d
        same = tuple(k // 2 for k in conv.kernel)
        padding = same if self.spec.padding == "same" else 0
        return kind(
            conv.inputs,
            conv.outputs,
            conv.kernel,  # type: ignore[arg-type]
            padding=padding,  # type: ignore[arg-type]
            bias=conv.bias,
        )

    def _norm(self, channels: int) -> nn.Module:
        if self.spec.norm == "group":
            return nn.GroupNorm(self.spec.groups, channels)
        if self.spec.norm == "instance":
            instance = nn.InstanceNorm2d if self.spec.ndim == 2 else nn.InstanceNorm3d
            return instance(channels, affine=True)
        batch = nn.BatchNorm2d if self.spec.ndim == 2 else nn.BatchNorm3d
        return batch(channels)

    def _place(self, name: str, layer: nn.Module) -> None:
        """Put a layer where its dotted name says; ValueError where there is one."""
        parent: nn.Module = self
        *outer, last = name.split(".")
        for part in outer:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        if last in parent._modules:
            raise ValueError(f"two layers of the name {name}")
        parent.add_module(last, layer)
