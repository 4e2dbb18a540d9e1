"""Keep what judges rounds that start from the shipped checkpoint.

Usage: python sample_data/scripts/make_reference.py PATH/TO/dsb2018_fluo

Writes ``nuclei.reference`` beside ``nuclei.safetensors``: patches of its training
images (not of those held out from it), some that judge whether a round has forgotten
what the checkpoint knew, and others that a round learns along with its strokes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from train_model import PATCH, Pair, real_pairs, simulated_pairs

from napari_unet import checkpoints
from napari_unet.training import references
from napari_unet.training.targets import instance_target

REAL, MADE = 16, 4


def windows(
    pairs: list[Pair], number: int, random: np.random.Generator
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Cut one patch with nuclei out of each of some images."""
    large = [p for p in pairs if min(p.image.shape) >= PATCH]
    chosen = random.choice(len(large), number, replace=False)
    return [_window(large[n], random) for n in chosen]


def _window(pair: Pair, random: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Cut the patch with the most object pixels of eight at random."""
    corners = [
        tuple(int(random.integers(n - PATCH + 1)) for n in pair.image.shape)
        for _ in range(8)
    ]
    cuts = [(slice(y, y + PATCH), slice(x, x + PATCH)) for y, x in corners]
    best = max(cuts, key=lambda cut: float((pair.ids[cut] > 0).sum()))
    target = instance_target(pair.ids.numpy().astype(np.int32), complete=True)[best]
    image = pair.image[best][None].half().clone()
    return image, torch.from_numpy(target.astype(np.int64))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with images/ and labels/")
    path = Path(__file__).parents[1] / "nuclei.safetensors"
    real, made = real_pairs(parser.parse_args().folder), simulated_pairs(60)
    network, random = checkpoints.load(path), np.random.default_rng(0)
    reference = references.Reference(
        path.name,
        references.facts_of(network, "instances"),
        windows(real[::2], REAL, random) + windows(made[::2], MADE, random),
        {},
        windows(real[1::2], REAL, random) + windows(made[1::2], MADE, random),
    )
    references.save(reference, path)


if __name__ == "__main__":
    main()
