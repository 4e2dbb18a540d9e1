"""A sheet of augmented patches, as the network would see them in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_unet.gui.look import push_button, show_button, text_label
from napari_unet.images.palette import colour

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.view import View

_COLUMNS = 4
_GAP = 2
_PAINT = 0.6
"""How much of a painted pixel is the colour of its class."""


class PatchesPanel(QWidget):  # type: ignore[misc]
    """Shows patches on demand.

    Parameters
    ----------
    ask : callable
        Called to make patches of the present settings.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        super().__init__()
        self.button = push_button("", ask)
        self.picture = QLabel()
        self.picture.setAccessibleName("Augmented patches")
        self.picture.setAlignment(Qt.AlignmentFlag.AlignLeft)
        self.picture.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.hint = text_label(
            "Turned, bent and mixed patches of the strokes, each colour a class.",
            faint="true",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.button, self.picture, self.hint):
            layout.addWidget(widget)
        self._shown: Any = None

    def show_view(self, view: View) -> None:
        """Bring the sheet up to date."""
        show_button(self.button, view.patches_button)
        self.picture.setVisible(view.patches is not None)
        self.hint.setVisible(view.patches is not None)
        if view.patches is not None and view.patches is not self._shown:
            self._draw(sheet(*view.patches))
        self._shown = view.patches

    def _draw(self, pixels: np.ndarray) -> None:
        """Show a picture as wide as the panel."""
        height, width = pixels.shape[:2]
        image = QImage(
            pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888
        )
        wide = max(self.width(), 200)
        picture = QPixmap.fromImage(image).scaledToWidth(
            wide, Qt.TransformationMode.SmoothTransformation
        )
        self.picture.setPixmap(picture)
        self.picture.setFixedHeight(picture.height())


def sheet(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Lay patches side by side, painted pixels in the colours of their classes.

    Parameters
    ----------
    images : numpy.ndarray
        float32, (N, C, *patch); the first channel is shown, of volumes the middle.
    targets : numpy.ndarray
        Integers (N, *patch), 0 where nothing is painted.

    Returns
    -------
    numpy.ndarray
        uint8, (rows, columns, 3).
    """
    images, targets = images[:, 0], targets
    if images.ndim == 4:
        middle = images.shape[1] // 2
        images, targets = images[:, middle], targets[:, middle]
    number, height, width = images.shape
    rows = -(-number // _COLUMNS)
    shape = (rows * (height + _GAP), _COLUMNS * (width + _GAP), 3)
    picture = np.zeros(shape, np.uint8)
    for n, (image, target) in enumerate(zip(images, targets, strict=True)):
        top, left = n // _COLUMNS * (height + _GAP), n % _COLUMNS * (width + _GAP)
        picture[top : top + height, left : left + width] = _tinted(image, target)
    return picture


def _tinted(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Draw one patch."""
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    drawn = np.repeat(255 * grey[..., None], 3, axis=-1)
    for value in np.unique(target[target > 0]):
        text = colour(int(value))
        paint = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)])
        mask = target == value
        drawn[mask] = (1 - _PAINT) * drawn[mask] + _PAINT * paint
    tinted: np.ndarray = drawn.round().astype(np.uint8)
    return tinted
