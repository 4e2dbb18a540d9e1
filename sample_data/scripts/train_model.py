"""Train the shipped checkpoint on real and simulated nuclei.

Usage: python sample_data/scripts/train_model.py PATH/TO/dsb2018_fluo

The folder holds ``images/*.tif`` and ``labels/*.tif`` (instance ids) of the 2018 Data
Science Bowl. The last 50 images by name are held out; `score_model.py` scores on them.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
from simulate import Scene, simulate
from torch.nn import functional as F

from napari_unet import checkpoints
from napari_unet.images.intensity import Normalization
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec
from napari_unet.training.targets import BACKGROUND, instance_target

HELD_OUT = 50
PATCH = 128
BATCH = 16
ARCHITECTURE = UNetSpec(out_channels=3, widths=(16, 32, 64, 128))
NORMALIZATION = Normalization(kind="percentile", low=1.0, high=99.8)


@dataclass(frozen=True)
class Pair:
    """A normalised image and its instance ids, both float32 (rows, columns)."""

    image: torch.Tensor
    ids: torch.Tensor


def pair(image: np.ndarray, ids: np.ndarray) -> Pair:
    """Normalise an image as the finished model will."""
    low, high = np.percentile(image, [NORMALIZATION.low, NORMALIZATION.high])
    scaled = (image.astype(np.float32) - low) / (high - low + NORMALIZATION.eps)
    return Pair(torch.from_numpy(np.float32(scaled)), torch.from_numpy(np.float32(ids)))


def real_pairs(folder: Path) -> list[Pair]:
    """Real images but the held-out ones."""
    names = sorted(path.name for path in (folder / "images").glob("*.tif"))
    return [
        pair(
            tifffile.imread(folder / "images" / name),
            tifffile.imread(folder / "labels" / name),
        )
        for name in names[:-HELD_OUT]
    ]


def simulated_pairs(number: int) -> list[Pair]:
    """Simulate nuclei of many sizes, well in focus on a low background."""
    rng = np.random.default_rng(2018)
    pairs = []
    for seed in range(number):
        radius = rng.uniform(5, 12)
        scene = Scene(
            nuclei=int(rng.integers(10, 60)),
            radius=(radius, radius * rng.uniform(1.2, 2.0)),
            touching=rng.uniform(0.1, 0.7),
            texture=rng.uniform(0.05, 0.4),
            background=rng.uniform(2, 15),
            haze=rng.uniform(0.0, 0.2),
            psf=rng.uniform(0.7, 1.8),
        )
        image, truth = simulate(scene, 1000 + seed)
        pairs.append(pair(image[0], truth[0]))
    return pairs


def batch(
    pairs: list[Pair], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random patches, re-lit and rescaled, and their classes."""
    chosen = [pairs[n] for n in rng.integers(len(pairs), size=BATCH)]
    patches = [_patch(member, rng) for member in chosen]
    images = torch.stack([_relight(image, rng) for image, _ in patches])
    ids = np.stack([ids.numpy().astype(np.int32) for _, ids in patches])
    target = [instance_target(plane, complete=True) - BACKGROUND for plane in ids]
    return images[:, None], torch.from_numpy(np.stack(target)).long()


def _patch(source: Pair, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Cut a patch of random place, size, flip and turn, brought to `PATCH`."""
    rows, columns = source.image.shape
    size = min(round(PATCH * math.exp(rng.uniform(-0.5, 0.5))), rows, columns)
    top, left = rng.integers(rows - size + 1), rng.integers(columns - size + 1)
    window = slice(top, top + size), slice(left, left + size)
    image, ids = source.image[None, None, *window], source.ids[None, None, *window]
    image = F.interpolate(image, PATCH, mode="bilinear", antialias=True)[0, 0]
    ids = F.interpolate(ids, PATCH, mode="nearest-exact")[0, 0]
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    return tuple(
        torch.rot90(t.flip(0) if flip else t, turns).contiguous() for t in (image, ids)
    )


def _relight(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Random gamma, gain, offset, blur and noise."""
    image = image.sign() * image.abs() ** math.exp(rng.uniform(-0.35, 0.35))
    image = image * math.exp(rng.uniform(-0.4, 0.4)) + rng.uniform(-0.05, 0.1)
    if rng.random() < 0.3:
        image = _blur(image, rng.uniform(0.4, 1.3))
    noise = rng.normal(0, rng.uniform(0, 0.06), image.shape)
    return image + torch.from_numpy(np.float32(noise))


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    steps = torch.arange(-4, 5, dtype=torch.float32)
    kernel = torch.exp(-((steps / sigma) ** 2) / 2)
    square = kernel[:, None] * kernel[None, :] / kernel.sum() ** 2
    padded = F.pad(image[None, None], (4, 4, 4, 4), mode="reflect")
    return F.conv2d(padded, square[None, None])[0, 0]


def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy plus soft Dice of the three classes."""
    weight = torch.tensor([1.0, 1.0, 2.0])
    probability = logits.softmax(1)
    truth = F.one_hot(target, 3).movedim(-1, 1).float()
    overlap = (probability * truth).sum((0, 2, 3))
    total = (probability + truth).sum((0, 2, 3))
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return F.cross_entropy(logits, target, weight) + dice.mean()


def train(pairs: list[Pair], steps: int, output: Path) -> None:
    """Train with AdamW and a one-cycle learning rate, and save the network."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = UNet(ARCHITECTURE).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, 0.1)
    begun, mean = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        images, target = batch(pairs, rng)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        value = loss(logits.float(), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        mean += (value.item() - mean) / min(step, 100)
        if step % 100 == 0:
            seconds = time.monotonic() - begun
            print(f"{step} {seconds:.0f} s, loss {mean:.4f}", flush=True)
    checkpoints.save(Network(model, specification(steps)), output, overwrite=True)


def specification(steps: int) -> ModelSpec:
    """Say what the network is, for the checkpoint."""
    return ModelSpec(
        name="nuclei",
        architecture=ARCHITECTURE.model_dump(mode="json"),
        ndim=2,
        in_channels=1,
        out_channels=3,
        task="instances",
        class_names=("background", "interior", "boundary"),
        normalization=(NORMALIZATION,),
        provenance={
            "data": "2018 Data Science Bowl fluorescence nuclei (CC0) and simulation",
            "script": "sample_data/scripts/train_model.py",
            "steps": steps,
        },
    )


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with images/ and labels/")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parents[1] / "nuclei.safetensors",
    )
    arguments = parser.parse_args()
    pairs = real_pairs(arguments.folder) + simulated_pairs(60)
    train(pairs, arguments.steps, arguments.output)


if __name__ == "__main__":
    main()
