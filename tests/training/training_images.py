"""Small images that can be learned in a few steps."""

import numpy as np

from napari_unet.config import FinetuneConfig
from napari_unet.images.stack import ImageStack
from napari_unet.training.annotations import Example


def two_tone(seed: int = 0, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs on dark, and the truth."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    truth = np.zeros((size, size), bool)
    for cy, cx in [(12, 12), (12, 36), (36, 12), (36, 36)]:
        truth |= (y - cy) ** 2 + (x - cx) ** 2 < 49
    image = truth * 100.0 + rng.normal(20, 5, truth.shape)
    return image.astype(np.float32), truth


def class_strokes(size: int = 48) -> np.ndarray:
    """Two strokes of background and two of object."""
    strokes = np.zeros((size, size), np.uint16)
    strokes[23:25, 2:46] = 1
    strokes[1:3, 2:46] = 1
    strokes[10:14, 9:15] = 2
    strokes[34:38, 33:39] = 2
    return strokes


def example(image: np.ndarray, strokes: np.ndarray, axes: str = "YX") -> Example:
    plain = axes.replace("C", "")
    return Example(ImageStack(image, axes), ImageStack(strokes, plain, name="strokes"))


def quick(**fields: object) -> FinetuneConfig:
    """Settings of a network so small that a step takes milliseconds."""
    small = {"depth": 1, "width": 8, "patch": (32,), "device": "cpu", "validation": 0}
    return FinetuneConfig.build(**{"max_seconds": 600, **small, **fields})
