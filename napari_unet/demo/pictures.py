"""PNG pictures of an image with strokes and outlines on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.files import commit

if TYPE_CHECKING:
    from pathlib import Path

_COLOURS = np.array(
    [[86, 180, 233], [230, 159, 0], [0, 158, 115], [204, 121, 167], [240, 228, 66]],
    np.uint8,
)  # Okabe and Ito's, told apart by colour-blind people too
_OUTLINE = np.array([255, 220, 0], np.uint8)
_GAP = 6


def grey(plane: np.ndarray, zoom: int = 2) -> np.ndarray:
    """Stretch the contrast of a plane and enlarge it.

    Parameters
    ----------
    plane : numpy.ndarray
        Intensities (rows, columns).
    zoom : int
        Size of a pixel in the picture.

    Returns
    -------
    numpy.ndarray
        uint8 (rows * zoom, columns * zoom, 3).
    """
    low, high = np.percentile(plane, [0.5, 99.8])
    scaled = (plane.astype(np.float32) - low) / max(high - low, 1e-6)
    pixels = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return np.repeat(enlarge(pixels, zoom)[..., None], 3, axis=-1)


def painted(plane: np.ndarray, strokes: np.ndarray, zoom: int = 2) -> np.ndarray:
    """Draw strokes over a plane, each class in its colour.

    Parameters
    ----------
    plane, strokes : numpy.ndarray
        Intensities and stroke ids (rows, columns); 0 is not painted.
    zoom : int
        Size of a pixel in the picture.

    Returns
    -------
    numpy.ndarray
        uint8 (rows * zoom, columns * zoom, 3).
    """
    picture = grey(plane, zoom)
    ids = enlarge(strokes, zoom).astype(int)
    colours = _COLOURS[(ids - 1) % len(_COLOURS)]
    mixed = picture // 3 + colours - colours // 3
    return np.where((ids > 0)[..., None], mixed, picture)


def outlined(plane: np.ndarray, labels: np.ndarray, zoom: int = 2) -> np.ndarray:
    """Draw the outlines of labels over a plane.

    Parameters
    ----------
    plane, labels : numpy.ndarray
        Intensities and ids (rows, columns).
    zoom : int
        Size of a pixel in the picture.

    Returns
    -------
    numpy.ndarray
        uint8 (rows * zoom, columns * zoom, 3).
    """
    picture = grey(plane, zoom)
    picture[_outlines(enlarge(labels, zoom))] = _OUTLINE
    return picture


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Put pictures of one height beside each other with white gaps."""
    gap = np.full((len(pictures[0]), _GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=1)


def enlarge(plane: np.ndarray, zoom: int) -> np.ndarray:
    """Repeat each pixel `zoom` times along both axes."""
    return plane.repeat(zoom, axis=0).repeat(zoom, axis=1)


def save(path: Path, picture: np.ndarray) -> None:
    """Write a PNG."""
    from skimage.io import imsave

    with commit(path) as part:
        imsave(part, picture, check_contrast=False)


def _outlines(labels: np.ndarray) -> np.ndarray:
    """Pixels of an object with another label to the right or below."""
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges
