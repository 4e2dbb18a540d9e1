"""A U-Net around an encoder, with the key names of segmentation_models_pytorch 0.6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from napari_unet.networks.blocks import ResizeTo

Mode = Literal["nearest", "bilinear", "nearest-exact", "bicubic", "area"]

_SQUEEZE = 16


@dataclass(frozen=True)
class DecoderShape:
    """Shape of the decoder.

    Attributes
    ----------
    channels : tuple of int
        Outputs of the blocks from the deepest up, one block per halving.
    norm : str
        After each convolution.
    norm_eps : float
        Added to the variance.
    attention : bool
        Whether channels and pixels are weighed in each block.
    interpolation : str
        How features are enlarged.
    """

    channels: tuple[int, ...]
    norm: Literal["batch", "instance", "none"] = "batch"
    norm_eps: float = 1e-5
    attention: bool = False
    interpolation: Mode = "nearest"


class EncodedUNet(nn.Module):
    """Encoder, decoder and a 3x3 convolution: (N, C, Y, X) to logits, of any size.

    Parameters
    ----------
    encoder : torch.nn.Module
        Gives features from half the size down; has their channels in `widths`.
    shape : DecoderShape
        As many blocks as the encoder has features.
    out_channels : int
        Channels of the logits.
    """

    def __init__(self, encoder: Any, shape: DecoderShape, out_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = _Decoder(encoder.widths, shape)
        head = nn.Conv2d(shape.channels[-1], out_channels, 3, padding=1)
        self.segmentation_head = nn.Sequential(head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, Y, X)."""
        features = self.decoder(x, self.encoder(x))
        logits: torch.Tensor = self.segmentation_head(features)
        return logits


class _Decoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], shape: DecoderShape) -> None:
        super().__init__()
        inputs = (widths[-1], *shape.channels)
        skips = (*widths[-2::-1], 0)
        self.blocks = nn.ModuleList(
            _Block(shape, inputs[n], skips[n], shape.channels[n])
            for n in range(len(shape.channels))
        )

    def forward(self, image: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        x = skips.pop()
        for block in self.blocks:
            x = block(x, skips.pop() if skips else None, image)
        return x


class _Block(nn.Module):
    """Enlarge, join the skip, convolve twice."""

    def __init__(
        self, shape: DecoderShape, inputs: int, skip: int, outputs: int
    ) -> None:
        super().__init__()
        self.resize = ResizeTo(2, shape.interpolation)
        self.conv1 = _convolution(shape, inputs + skip, outputs)
        self.attention1 = _attention(shape, inputs + skip)
        self.conv2 = _convolution(shape, outputs, outputs)
        self.attention2 = _attention(shape, outputs)

    def forward(
        self, x: torch.Tensor, skip: torch.Tensor | None, image: torch.Tensor
    ) -> torch.Tensor:
        if skip is None:  # its first attention then has weights but no use
            x = self.resize(x, image)
        else:
            x = self.attention1(torch.cat([self.resize(x, skip), skip], 1))
        features: torch.Tensor = self.attention2(self.conv2(self.conv1(x)))
        return features


def _convolution(shape: DecoderShape, inputs: int, outputs: int) -> nn.Sequential:
    """Convolution, norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=shape.norm == "none")
    return nn.Sequential(conv, _norm(shape, outputs), nn.ReLU(inplace=True))


def _norm(shape: DecoderShape, channels: int) -> nn.Module:
    if shape.norm == "batch":
        return nn.BatchNorm2d(channels, shape.norm_eps)
    if shape.norm == "instance":
        return nn.InstanceNorm2d(channels, shape.norm_eps, affine=True)
    return nn.Identity()


def _attention(shape: DecoderShape, channels: int) -> nn.Module:
    return _Weigh(channels) if shape.attention else nn.Identity()


class _Weigh(nn.Module):
    """Holds the attention under the name the source gives it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = _SpaceAndChannels(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weighed: torch.Tensor = self.attention(x)
        return weighed


class _SpaceAndChannels(nn.Module):
    """Spatial and channel squeeze and excitation (Roy et al., arXiv:1808.08127)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = channels // _SQUEEZE
        self.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )
        self.sSE = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weighed: torch.Tensor = x * self.cSE(x) + x * self.sSE(x)
        return weighed
