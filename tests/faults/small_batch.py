"""A batch of three small images that runs in this process, in some milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tifffile
import torch
import zarr  # noqa: F401

from napari_unet.batch.inputs import gather
from napari_unet.batch.ledger import LEDGER, latest
from napari_unet.batch.run import run_batch
from napari_unet.batch.unit import work
from napari_unet.config import BatchConfig
from napari_unet.files import digest
from napari_unet.images.intensity import Normalization
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

if TYPE_CHECKING:
    from pathlib import Path

TIMES = {"began", "seconds"}
NAMES = ("a.tif", "b.tif", "c.tif")


def network() -> Network:
    torch.manual_seed(3)
    shape = UNetSpec(widths=(2, 4), norm="none")
    spec = ModelSpec(
        ndim=2,
        in_channels=1,
        out_channels=2,
        architecture=shape.model_dump(mode="json"),
        normalization=(Normalization(kind="zscore"),),
    )
    return Network(UNet(shape), spec, digest="d1")


def images(folder: Path, count: int = 3, planes: tuple[int, ...] = ()) -> Path:
    """Write images, or stacks of so many planes."""
    folder.mkdir()
    noise = np.random.default_rng(1)
    for number in range(count):
        name = NAMES[number] if count <= 3 else f"{number:03}.tif"
        pixels = noise.integers(0, 200, (*planes, 24, 24 + number), np.uint8)
        tifffile.imwrite(folder / name, pixels, photometric="minisblack")
    return folder


def run(source: Path, output: Path, net: Network, **settings) -> list:
    config = BatchConfig(device="cpu", measure=True, **settings)
    return list(run_batch(gather([source], output), net, output, config, segment=work))


def tree(output: Path) -> dict[str, str]:
    """Hash of each result, and of all else that is no ledger or report."""
    kept = (p for p in output.iterdir() if not p.name.startswith("unet-report"))
    return {p.name: digest(p) for p in kept if p.name != LEDGER}


def fates(output: Path) -> dict[str, dict]:
    """Last record of each image, without its times and deaths."""
    every = latest(output / LEDGER)
    left_out = TIMES | {"deaths"}
    return {name: r.model_dump(exclude=left_out) for name, r in every.items()}
