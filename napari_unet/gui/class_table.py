"""The class table: colour, name and painted pixels of each class; a click paints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QColorDialog,
    QHBoxLayout,
    QInputDialog,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.gui import words
from napari_unet.gui.look import mark

if TYPE_CHECKING:
    from napari_unet.gui.legend import ClassRow
    from napari_unet.gui.painting import Painting


class ClassTable(QWidget):  # type: ignore[misc]
    """One line for each class.

    Parameters
    ----------
    painting : Painting
        Told which class to paint, and what changes.

    Attributes
    ----------
    rows : list of QToolButton
        What is clicked to paint.
    menus : list of QToolButton
        What else can be done with each class.
    """

    def __init__(self, painting: Painting) -> None:
        super().__init__()
        self._painting = painting
        self._shown: tuple[ClassRow, ...] = ()
        self.rows: list[QToolButton] = []
        self.menus: list[QToolButton] = []
        self._lines: list[QWidget] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)

    def show_classes(self, classes: tuple[ClassRow, ...], enabled: bool) -> None:
        """Show these classes."""
        while len(self.rows) > len(classes):
            self._lines.pop().deleteLater()
            self.rows.pop()
            self.menus.pop()
        while len(self.rows) < len(classes):
            self._add_line()
        self._shown = classes
        for button, menu, row in zip(self.rows, self.menus, classes, strict=True):
            _show(button, row, enabled)
            menu.setEnabled(enabled)
            menu.setAccessibleName(f"Change the class {row.name}")

    def menu_of(self, place: int) -> QMenu:
        """Make the menu of a line."""
        row = self._shown[place]
        menu = QMenu(self)
        menu.addAction("Rename …", lambda: self._rename(row))
        menu.addAction("Colour …", lambda: self._recolour(row))
        word = "Show" if row.hidden else "Hide"
        menu.addAction(word, lambda: self._change(row, hidden=not row.hidden))
        if row.number > 1:
            pixels = f" and its {words.grouped(row.pixels)} px" if row.pixels else ""
            text = f"Remove{pixels}"
            menu.addAction(text, lambda: self._painting.remove_class(row.number))
        return menu

    def _change(self, row: ClassRow, **fields: object) -> None:
        self._painting.change_class(row.number, **fields)

    def _rename(self, row: ClassRow) -> None:
        """Ask for another name."""
        text, is_given = QInputDialog.getText(
            self, "Rename the class", f"Name of class {row.number}:", text=row.name
        )
        if is_given:
            self._change(row, name=text.strip()[:200])

    def _recolour(self, row: ClassRow) -> None:
        """Ask for another colour."""
        chosen = QColorDialog.getColor(QColor(row.colour), self, f"Colour: {row.name}")
        if chosen.isValid():
            self._change(row, colour=chosen.name())

    def _add_line(self) -> None:
        """Add a line."""
        place = len(self.rows)
        button, more = QToolButton(), QToolButton()
        button.setCheckable(True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        mark(button, classrow="true")
        button.clicked.connect(lambda: self._painting.paint(self._shown[place].number))
        more.setText("⋯")
        more.setToolTip("Rename, colour, hide or remove this class.")
        more.setAutoRaise(True)
        more.clicked.connect(lambda: self._open_menu(place))
        line = QWidget()
        layout = QHBoxLayout(line)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(button, 1)
        layout.addWidget(more)
        self._layout.addWidget(line)
        self._lines.append(line)
        self.rows.append(button)
        self.menus.append(more)

    def _open_menu(self, place: int) -> None:
        """Open the menu of a line below its button."""
        button = self.menus[place]
        self.menu_of(place).popup(button.mapToGlobal(button.rect().bottomLeft()))


def _show(button: QToolButton, row: ClassRow, enabled: bool) -> None:
    """Bring a line up to date."""
    look = f"{row.colour}{row.hidden}"
    if button.property("look") != look:
        button.setProperty("look", look)
        button.setIcon(_swatch(row.colour, row.hidden))
    hidden = " (hidden)" if row.hidden else ""
    pixels = words.grouped(row.pixels)
    button.setText(
        f"  {row.number}  {words.short(row.name, 18)}{hidden}  ·  {pixels} px"
    )
    button.setToolTip(f"Click to paint {row.name}.")
    button.setChecked(row.painting and enabled)
    button.setEnabled(enabled)


def _swatch(colour: str, hidden: bool) -> QIcon:
    """Draw a square of a colour, only its frame where the class is hidden."""
    pixmap = QPixmap(16, 16)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    if hidden:
        painter.setPen(QColor(colour))
        painter.drawRect(1, 1, 13, 13)
    else:
        painter.fillRect(0, 0, 16, 16, QColor(colour))
    painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Disabled)
    return icon
