"""Score a checkpoint for the model card.

Usage: python sample_data/scripts/score_model.py PATH/TO/dsb2018_fluo [CHECKPOINT]

Scored are the held-out real images, and the sample images without the frames that have
strokes. Dice is that of nuclei against background over all pixels of an image, AP the
share of right objects, TP / (TP + FP + FN), at an overlap (IoU) of 0.5. Both are means
over images, or over the planes of stacks.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from make_images import BATCH, FOLDER, STROKED
from train_model import HELD_OUT

import napari_unet

if TYPE_CHECKING:
    from napari_unet.networks.network import Network


def main() -> None:
    """Print the rows of the model card's table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with images/ and labels/")
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", default=FOLDER / "nuclei.safetensors"
    )
    arguments = parser.parse_args()
    model = napari_unet.load_model(arguments.checkpoint)
    real = sorted((arguments.folder / "images").glob("*.tif"))[-HELD_OUT:]
    rows = [scores(model, p, arguments.folder / "labels" / p.name) for p in real]
    show("Held-out nuclei", [row for image in rows for row in image])
    frames = scores(model, *sample("timelapse.ome.tif", "timelapse_truth.ome.tif"))
    show("Sample time-lapse", [r for n, r in enumerate(frames) if n not in STROKED])
    names = [sample(f"batch/{name}.tif", f"batch_truth/{name}.tif") for name in BATCH]
    show("Sample batch", [row for pair in names for row in scores(model, *pair)])


def sample(*names: str) -> list[Path]:
    """Paths of sample files."""
    return [FOLDER / name for name in names]


def show(name: str, rows: list[tuple[float, float]]) -> None:
    """Print the means of Dice and AP as a row of the table."""
    dice, precision = np.mean(rows, axis=0)
    print(f"| {name} | {len(rows)} | {dice:.3f} | {precision:.3f} |")


def scores(model: Network, image: Path, truth: Path) -> list[tuple[float, float]]:
    """Dice and AP of each plane of an image."""
    with tifffile.TiffFile(image) as file:
        axes = file.series[0].axes
    labels, instances = (
        napari_unet.predict(image, model, kind=kind, axes=axes)
        for kind in ("labels", "instances")
    )
    stacks = labels, instances, tifffile.imread(truth)
    planes = (stack.reshape(-1, *stack.shape[-2:]) for stack in stacks)
    return [compare(*plane) for plane in zip(*planes, strict=True)]


def compare(
    labels: np.ndarray, instances: np.ndarray, truth: np.ndarray
) -> tuple[float, float]:
    """Dice of nuclei against background, and AP at an overlap of 0.5."""
    found, true = labels > 0, truth > 0
    dice = 2 * (found & true).sum() / (found.sum() + true.sum())
    objects = napari_unet.evaluate(instances, truth, task="instances")
    return float(dice), float(objects["ap"]["0.5"])


if __name__ == "__main__":
    main()
