"""The table of rounds, and what can be done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHeaderView,
    QMessageBox,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_unet.gui import round_rows
from napari_unet.gui.look import push_button, show_button

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.round_rows import RoundRow
    from napari_unet.gui.view import View

_COLUMNS = ("Round", "Strokes", "Dice")
_ROWS = 6


class RoundsPanel(QWidget):  # type: ignore[misc]
    """Lists the base and its rounds.

    Parameters
    ----------
    controller : Controller
        Told what the user does.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._rows: tuple[RoundRow, ...] = ()
        self.table = _table()
        self.table.itemSelectionChanged.connect(self._show_buttons)
        self.table.itemDoubleClicked.connect(lambda _: self._use())
        versions = controller.versions
        self.use = push_button("", self._use)
        self.keep = push_button("", lambda: versions.keep(self.chosen))
        self.undo = push_button("", versions.undo)
        self.redo = push_button("", versions.redo)
        self.export = push_button("", self._export)
        self.delete = push_button("", self._delete)
        self._lay_out()

    @property
    def chosen(self) -> str:
        """Path of the chosen row, empty without one."""
        rows = self.table.selectionModel().selectedRows()
        number = rows[0].row() if rows else -1
        return self._rows[number].path if 0 <= number < len(self._rows) else ""

    def show_view(self, view: View) -> None:
        """Bring the table and its buttons up to date."""
        if view.rounds != self._rows:
            self._fill(view.rounds)
        self._show_buttons()
        show_button(self.undo, view.undo)
        show_button(self.redo, view.redo)

    def _fill(self, rows: tuple[RoundRow, ...]) -> None:
        """Write all rows; the chosen one stays so."""
        chosen, self._rows = self.chosen, rows
        blocked = self.table.blockSignals(True)
        self.table.clearSelection()
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            marks = ("★ " if row.used else "") + ("♥ " if row.kept else "")
            for column, text in enumerate((marks + row.name, row.strokes, row.score)):
                self.table.setItem(number, column, _item(text, row))
            if row.path and row.path == chosen:
                self.table.selectRow(number)
        self.table.blockSignals(blocked)
        line = self.table.verticalHeader().defaultSectionSize()
        self.table.setFixedHeight(line * (min(len(rows), _ROWS) + 1) + 6)

    def _show_buttons(self) -> None:
        """Bring the buttons of the chosen row up to date."""
        state, path = self._controller.session.state, self.chosen
        for name in ("use", "keep", "export", "delete"):
            show_button(getattr(self, name), getattr(round_rows, name)(state, path))

    def _use(self) -> None:
        """Use the chosen round."""
        self._controller.versions.use(self.chosen)

    def _export(self) -> None:
        """Ask for a name and write the chosen round for other programs."""
        from napari_unet.gui.model_panel import ask_export

        ask_export(self, self._controller, self.chosen)

    def _delete(self) -> None:
        """Delete the chosen round if the user means it."""
        row = next((row for row in self._rows if row.path == self.chosen), None)
        if row is None:
            return
        question = f"Delete {row.name.lower()} and its files for good?\n\n{row.path}"
        yes = QMessageBox.StandardButton.Yes
        if QMessageBox.question(self, "Delete round", question) == yes:
            self._controller.versions.delete(row.path)

    def _lay_out(self) -> None:
        """Place the table and its buttons; undo and redo have a place on the page."""
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        grid = QGridLayout()
        buttons = ("use", "keep", "export", "delete")
        for number, name in enumerate(buttons):
            grid.addWidget(getattr(self, name), number // 2, number % 2)
        layout.addLayout(grid)


def _table() -> QTableWidget:
    """Make an empty table that fits the dock."""
    table = QTableWidget(0, len(_COLUMNS))
    table.setAccessibleName("Rounds")
    table.setHorizontalHeaderLabels(_COLUMNS)
    table.verticalHeader().hide()
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    table.setTabKeyNavigation(False)
    header = table.horizontalHeader()
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    for column in (1, 2):
        header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
    return table


def _item(text: str, row: RoundRow) -> QTableWidgetItem:
    """Make a cell; a screen reader says what the marks mean."""
    item = QTableWidgetItem(text)
    item.setToolTip(row.tip)
    marks = [w for w, on in (("in use", row.used), ("kept", row.kept)) if on]
    spoken = ", ".join([text.strip("★♥ "), *marks])
    item.setData(Qt.ItemDataRole.AccessibleTextRole, spoken)
    return item
