"""What a round would train, and the settings that change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.config import FinetuneConfig
from napari_unet.gui.form import Form
from napari_unet.gui.look import text_label
from napari_unet.gui.outlooks import SETTINGS

if TYPE_CHECKING:
    from napari_unet.gui.outlook_view import OutlookView

_OF_NEW = ("ndim", "depth", "width", "poolings")


class OutlookPanel(QWidget):  # type: ignore[misc]
    """Tells the plan in words; a field that is empty shows what is planned."""

    def __init__(self) -> None:
        super().__init__()
        self.text = text_label(faint="true")
        self.form = Form(FinetuneConfig, SETTINGS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(self.form)

    def show_view(self, view: OutlookView) -> None:
        """Bring the plan up to date."""
        self.text.setText(view.text)
        for name in SETTINGS:
            self.form.set_hint(name, view.hints.get(name, ""))
        for name in _OF_NEW:
            self.form.set_shown(name, view.is_new)
