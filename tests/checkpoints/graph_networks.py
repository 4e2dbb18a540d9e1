"""Small networks that no family knows, and readers of their files without the child."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from tiny_networks import lively
from torch import nn

from napari_unet.checkpoints.oracle import activate

if TYPE_CHECKING:
    from pathlib import Path


class Mixed(nn.Module):
    """Most layers that occur in U-Nets, the image scaled inside, softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.same = nn.Conv2d(4, 4, 2, padding="same")
        self.instance = nn.InstanceNorm2d(4, affine=True)
        self.group = nn.GroupNorm(2, 4)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.transposed = nn.ConvTranspose2d(4, 4, 2, 2)
        self.drop = nn.Dropout(0.2)
        self.slope = nn.PReLU(2)
        self.last = nn.Conv2d(8, 2, 1)
        self.register_buffer("gain", torch.tensor([1.5, 2.0]).view(1, 2, 1, 1))

    def forward(self, x):
        x = (x - 0.5) / 0.25
        a = F.leaky_relu(self.norm(self.first(x)), 0.1, inplace=True)
        y = self.instance(self.same(self.pool(a)))
        y = self.drop(F.gelu(self.group(y)))
        y = F.interpolate(y, size=a.shape[2:], mode="nearest")
        y = y + self.up(F.elu(self.pool(self.transposed(self.pool(a)))))
        down, right = a.size(2) - y.size(2), a.size(3) - y.size(3)
        y = F.pad(y, [right // 2, right - right // 2, down // 2, down - down // 2])
        z = self.slope(self.last(torch.cat([a, y], 1))) * self.gain
        return torch.softmax(z, 1)


class Attentive(nn.Module):
    """Squeeze and excitation, gates, a crop, activations with bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.squeeze, self.excite = nn.Linear(8, 2), nn.Linear(2, 8)
        self.gate = nn.Conv2d(8, 1, 1)
        self.valid = nn.Conv2d(4, 4, 3)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = F.relu6(self.first(x))
        weights = torch.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1).flatten(1)))
        weights = torch.sigmoid(self.excite(weights)).view(-1, 8, 1, 1)
        x = x * weights * torch.sigmoid(self.gate(x))
        x = x - x.mean((2, 3), keepdim=True)
        left, right = x.chunk(2, 1)
        kept = left[:, :, 1:-1, 1:-1]
        return self.last(torch.cat([kept, F.hardtanh(self.valid(right))], 1))


class Volumes(nn.Module):
    """Residual units in three dimensions, as MONAI's U-Net has them."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(1, 4, 3, stride=2, padding=1)
        self.skip = nn.Conv3d(1, 4, 3, stride=2, padding=1)
        self.norm = nn.InstanceNorm3d(4)
        self.slope = nn.PReLU()
        self.up = nn.ConvTranspose3d(4, 2, 3, 2, 1, output_padding=1)

    def forward(self, x):
        return self.up(self.slope(self.norm(self.down(x))) + self.skip(x))


NETWORKS = {
    "mixed": (Mixed, 1, 2),
    "attentive": (Attentive, 2, 2),
    "volumes": (Volumes, 1, 3),
}
"""Class, channels and axes of each."""


def network(name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Return a network with an image to trace it with and one of another size."""
    made, channels, ndim = NETWORKS[name]
    draw = torch.Generator().manual_seed(4)
    small, large = (
        torch.randn(2, channels, *sizes[:ndim], generator=draw)
        for sizes in ((16, 24, 8), (32, 40, 16))
    )
    return lively(made()).requires_grad_(False), small, large


def traced(module: nn.Module, image: torch.Tensor, path: Path) -> Path:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(module, image).save(path)
    return path


def exported(
    module: nn.Module, image: torch.Tensor, path: Path, way: str = "free"
) -> Path:
    """Write a torch.export package: of one size, of any, or taken apart as well."""
    free = dict.fromkeys(range(2, image.ndim), torch.export.Dim.AUTO)
    free[0] = torch.export.Dim.AUTO
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(
            module, (image,), dynamic_shapes=None if way == "fixed" else (free,)
        )
        if way == "apart":
            program = program.run_decompositions()
        torch.export.save(program, path)
    return path


def whole(network, image: torch.Tensor) -> torch.Tensor:
    """Return what the file itself gives, with the activation its graph ends in."""
    is_assumed = "activation" in {a.field for a in network.spec.assumed}
    return activate(network(image), "none" if is_assumed else network.spec.activation)
