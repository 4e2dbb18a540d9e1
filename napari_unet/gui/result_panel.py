"""How results are shown: classes, probabilities, doubt or objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFormLayout, QSizePolicy, QWidget
from superqt import QLabeledDoubleSlider

from napari_unet.config import PredictConfig
from napari_unet.gui import words
from napari_unet.gui.look import narrow_combo, still, text_label
from napari_unet.gui.state import Look

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.view import View

_RUN_FOR_DOUBT = "labels"


class ResultPanel(QWidget):  # type: ignore[misc]
    """Chooses what is shown; acts at once on results whose probabilities are kept.

    Parameters
    ----------
    changed : callable
        Called after each change.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        self.kind = narrow_combo("Show the result as")
        for kind, text in words.LOOKS.items():
            self.kind.addItem(text, kind)
        self.threshold = _slider()
        self.split = QCheckBox("Split touching objects")
        self.split.setToolTip(
            "<span>Part objects where they are narrow, such as two round nuclei that "
            "touch.</span>"
        )
        self.tally = text_label(faint="true")
        self.tally.setAccessibleName("Objects and foreground of the result")
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addRow("Show", self.kind)
        self._layout.addRow("Threshold", self.threshold)
        self._layout.addRow(self.split)
        self._layout.addRow(self.tally)
        self.kind.currentIndexChanged.connect(self._change)
        self.threshold.valueChanged.connect(self._change)
        self.split.toggled.connect(self._change)
        self._layout.setRowVisible(self.split, False)

    @property
    def look(self) -> Look:
        """What is chosen."""
        return Look(
            self.kind.currentData(),
            round(self.threshold.value(), 2),
            self.split.isChecked(),
        )

    def choose(self, kind: str) -> None:
        """Choose what is shown."""
        self.kind.setCurrentIndex(self.kind.findData(kind))

    def settings(self) -> dict[str, Any]:
        """Return the settings of a run that gives what is chosen."""
        look = self.look
        kind = _RUN_FOR_DOUBT if look.kind == "doubt" else look.kind
        return {"kind": kind, "threshold": look.threshold}

    def show_view(self, view: View) -> None:
        """Bring it up to date."""
        matters = view.has_threshold and self.look.kind in ("labels", "instances")
        self._layout.setRowVisible(self.threshold, matters)
        self.tally.setText(view.tally)
        self._layout.setRowVisible(self.tally, bool(view.tally))

    def _change(self, *_: object) -> None:
        """Show what belongs to the choice, and tell it."""
        self._layout.setRowVisible(self.split, self.look.kind == "instances")
        self._changed()


def _slider() -> QLabeledDoubleSlider:
    """Make the slider of the threshold from its setting."""
    info = PredictConfig.model_fields["threshold"]
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setDecimals(2)
    slider.setRange(0.01, 0.99)
    slider.setSingleStep(0.01)
    slider.setPageStep(0.1)
    slider.setValue(info.default)
    slider.setAccessibleName(info.title)
    slider.setToolTip(
        f"<span>{info.description} From 0.01 to 0.99. Acts at once on the results that "
        "are shown.</span>"
    )
    slider.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    still(slider)
    return slider
