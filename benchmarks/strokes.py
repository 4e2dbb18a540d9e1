"""A minute of fine-tuning from real brush strokes, against a random forest.

    python -m benchmarks.strokes ../shared/data/brush_labels OUTPUT [--seconds 60]

For every image: train from scratch on its strokes, predict, and write a picture of
image, strokes and prediction to OUTPUT. Where dense reference labels of two classes
exist, the Dice of the objects is printed beside that of a random forest on multiscale
features (intensity, edges and texture at sigma 1 to 16 px; scikit-image) trained on the
same strokes. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import tifffile
from skimage import feature, io, segmentation

import napari_unet

PALETTE = np.array([(0.9, 0.6, 0), (0.35, 0.7, 0.9), (0, 0.6, 0.5), (0.8, 0.5, 0.7)])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks."""
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def forest(image: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Class of every pixel by a random forest; 0 is the first class."""
    from sklearn.ensemble import RandomForestClassifier

    features = feature.multiscale_basic_features(image, sigma_min=1, sigma_max=16)
    trees = RandomForestClassifier(100, n_jobs=-1, max_depth=10, random_state=0)
    trees.fit(features[strokes > 0], strokes[strokes > 0])
    labels = trees.predict(features.reshape(-1, features.shape[-1]))
    return labels.reshape(image.shape).astype(int) - 1


def picture(image: np.ndarray, strokes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Image, strokes and outlined prediction side by side, uint8 RGB."""
    low, high = np.percentile(image, (0.5, 99.8))
    grey = np.clip((image - low) / max(high - low, 1e-9), 0, 1)
    grey = np.repeat(grey[..., None], 3, -1)
    painted, found, mask = grey.copy(), grey.copy(), labels > 0
    painted[strokes > 0] = PALETTE[(strokes[strokes > 0] - 1) % 4]
    found[mask] = 0.5 * found[mask] + 0.5 * PALETTE[labels[mask] % 4]
    found = segmentation.mark_boundaries(found, labels, color=(1, 1, 0))
    return (255 * np.concatenate([grey, painted, found], 1)).astype(np.uint8)


def run(name: str, data: Path, output: Path, seconds: float, seed: int) -> None:
    """Do one image and print its line."""
    image_path, strokes_path = data / "images" / name, data / "scribbles" / name
    image, strokes = tifffile.imread(image_path), tifffile.imread(strokes_path)
    model = output / f"{Path(name).stem}-{seed}.safetensors"
    model.unlink(missing_ok=True)
    start = time.perf_counter()
    trained = napari_unet.finetune(
        [image_path], [strokes_path], model, max_seconds=seconds, seed=seed, axes="YX"
    )
    line = f"{name} seed {seed}: {time.perf_counter() - start:.0f} s"
    kind = "instances" if strokes.max() > 2 else "labels"
    labels = np.asarray(
        napari_unet.predict(image_path, trained.path, axes="YX", kind=kind)
    )
    reference = data / "reference" / name
    truth = tifffile.imread(reference) > 0 if reference.exists() else None
    if truth is not None and not truth.all():
        line += f", Dice {dice(labels > 0, truth):.4f}"
        line += f", random forest {dice(forest(image, strokes) > 0, truth):.4f}"
    print(line, flush=True)
    shown = picture(image, strokes, labels.astype(int))
    io.imsave(output / f"{Path(name).stem}-{seed}.png", shown, check_contrast=False)


def main() -> None:
    """Do every image that has strokes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for path in sorted((args.data / "scribbles").glob("*.tif")):
        if not args.only or path.stem in args.only:
            for seed in args.seeds:
                run(path.name, args.data, args.output, args.seconds, seed)


if __name__ == "__main__":
    main()
