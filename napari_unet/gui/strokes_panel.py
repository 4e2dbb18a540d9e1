"""The upper half of the Train page: stroke layers and the classes painted on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.gui import words
from napari_unet.gui.look import (
    mark,
    narrow_combo,
    push_button,
    show_button,
    show_items,
    text_label,
)

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.legend import ClassRow
    from napari_unet.gui.view import View

_HINT = "P paints, E erases, Ctrl+Z undoes; right-drag fills an outline."


class StrokesPanel(QWidget):  # type: ignore[misc]
    """Makes and chooses stroke layers and the class that is painted.

    Parameters
    ----------
    controller : Controller
        Told what the user does.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self.legend = Legend(controller)
        self.new_strokes = push_button("", controller.painting.new)
        self.add_class = push_button("Add a class", controller.painting.add_class)
        self.layers = narrow_combo("Strokes")
        self.layers.setPlaceholderText("none yet")
        self.layers.textActivated.connect(controller.painting.choose)
        self._lay_out()

    def show_view(self, view: View) -> None:
        """Bring the panel up to date."""
        show_items(self.layers, view.stroke_layers, view.strokes)
        self.legend.show_classes(view.classes, bool(view.strokes))
        self.hint.setVisible(bool(view.strokes))
        self.add_class.setEnabled(bool(view.strokes))
        show_button(self.new_strokes, view.new_strokes)

    def _lay_out(self) -> None:
        """Place everything from top to bottom in the order of work."""
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        form = QFormLayout()
        form.addRow("Strokes", self.layers)
        layout.addLayout(form)
        row = QHBoxLayout()
        row.addWidget(self.new_strokes)
        row.addWidget(self.add_class)
        layout.addLayout(row)
        layout.addWidget(self.legend)
        self.hint = text_label(_HINT, faint="true")
        layout.addWidget(self.hint)


class Legend(QWidget):  # type: ignore[misc]
    """One line for each class: its colour, name and painted pixels; a click paints it.

    Parameters
    ----------
    controller : Controller
        Told which class to paint.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.rows: list[QToolButton] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)

    def show_classes(self, classes: tuple[ClassRow, ...], enabled: bool) -> None:
        """Show these classes."""
        while len(self.rows) > len(classes):
            self.rows.pop().deleteLater()
        while len(self.rows) < len(classes):
            self._add_row()
        for button, row in zip(self.rows, classes, strict=True):
            pixels = words.grouped(row.pixels)
            self._paint(button, row.colour)
            button.setText(f"  {row.number}  {row.name}  ·  {pixels} px")
            button.setChecked(row.painting and enabled)
            button.setEnabled(enabled)

    def _paint(self, button: QToolButton, colour: str) -> None:
        """Give a line its colour."""
        if button.property("colour") != colour:
            button.setProperty("colour", colour)
            button.setIcon(_swatch(colour))

    def _add_row(self) -> None:
        """Add a line."""
        number = len(self.rows) + 1
        button = QToolButton()
        button.setCheckable(True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.setToolTip("Click to paint this class.")
        mark(button, classrow="true")
        button.clicked.connect(lambda: self._controller.painting.paint(number))
        self._layout.addWidget(button)
        self.rows.append(button)


def _swatch(colour: str) -> QIcon:
    """Draw a square of a colour."""
    pixmap = QPixmap(16, 16)
    pixmap.fill(QColor(colour))
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Disabled)
    return icon
