"""Score a checkpoint for the model card.

Usage: python sample_data/scripts/score_model.py PATH/TO/dsb2018_fluo [CHECKPOINT]

Scored are the held-out real images, and the sample images without the frames that have
strokes. Dice is that of nuclei against background over all pixels of an image, AP the
share of right objects, TP / (TP + FP + FN), at an overlap (IoU) of 0.5. Both are means
over images, or frames.
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
    truth = [arguments.folder / "labels" / path.name for path in real]
    show("Held-out nuclei", [scores(model, *p) for p in zip(real, truth, strict=True)])
    show("Sample time-lapse", timelapse(model))
    show("Sample batch", [batch(model, name) for name in BATCH])


def show(name: str, rows: list[tuple[float, float]]) -> None:
    """Print the means of Dice and AP as a row of the table."""
    dice, precision = np.mean(rows, axis=0)
    print(f"| {name} | {len(rows)} | {dice:.3f} | {precision:.3f} |")


def scores(model: Network, image: Path, truth: Path) -> tuple[float, float]:
    """Dice and AP of one image."""
    return compare(*predict(model, image, axes="YX"), tifffile.imread(truth))


def timelapse(model: Network) -> list[tuple[float, float]]:
    """Dice and AP of each frame of the sample without strokes."""
    truth = tifffile.imread(FOLDER / "timelapse_truth.ome.tif")
    frames = zip(*predict(model, FOLDER / "timelapse.ome.tif"), truth, strict=True)
    return [compare(*frame) for n, frame in enumerate(frames) if n not in STROKED]


def batch(model: Network, name: str) -> tuple[float, float]:
    """Dice and AP of one image of the batch folder."""
    truth = tifffile.imread(FOLDER / "batch_truth" / f"{name}.tif")
    found = predict(model, FOLDER / "batch" / f"{name}.tif")
    return compare(*found, truth)


def predict(
    model: Network, image: Path, axes: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Class labels and instances of an image."""
    labels, instances = (
        napari_unet.predict(image, model, kind=kind, axes=axes)
        for kind in ("labels", "instances")
    )
    return labels, instances


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
