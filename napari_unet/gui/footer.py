"""Foot of the dock: one sentence, progress and Stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_unet.gui.bar import Bar
from napari_unet.gui.look import mark, push_button, show_button, text_label

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.view import View


class Footer(QWidget):  # type: ignore[misc]
    """Says what goes on, and stops it.

    Parameters
    ----------
    controller : Controller
        Told to stop.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self.status = text_label()
        self.status.setAccessibleName("Status")
        self.bar = Bar()
        self.stop = push_button("", controller.stop)
        self._work = QWidget()
        row = QHBoxLayout(self._work)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.stop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.status)
        layout.addWidget(self._work)

    def show_view(self, view: View) -> None:
        """Bring the footer up to date."""
        self.status.setText(view.status)
        mark(self.status, tone=view.tone)
        self._work.setVisible(view.busy)
        show_button(self.stop, view.stop)
        self.bar.show_share(view.fraction)
