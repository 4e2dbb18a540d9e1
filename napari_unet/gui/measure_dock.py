"""A table of measured objects, linked both ways with their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_unet.gui import words
from napari_unet.gui.look import push_button, style, text_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    import napari

    from napari_unet.gui.controller import Controller
    from napari_unet.gui.state import Measured
    from napari_unet.gui.view import View


class MeasuredModel(QAbstractTableModel):  # type: ignore[misc]
    """Rows of measurements in an order that can be changed; nothing is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.measured: Measured | None = None
        self._order = np.zeros(0, np.int64)

    def show(self, measured: Measured | None) -> None:
        """Show another table."""
        self.beginResetModel()
        self.measured = measured
        self._order = np.arange(len(measured) if measured else 0)
        self.endResetModel()

    def row_of(self, line: int) -> int:
        """Row of the table that stands in a line of the view."""
        return int(self._order[line])

    def line_of(self, row: int) -> int:
        """Line of the view in which a row of the table stands."""
        return int(np.flatnonzero(self._order == row)[0])

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Count the objects."""
        return 0 if parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        """Count the measurements."""
        return len(self.measured.names) if self.measured and not parent.isValid() else 0

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Text of a cell."""
        if self.measured is None:
            return None
        value = self.measured.columns[index.column()][self._order[index.row()]]
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{value:.5g}" if isinstance(value, np.floating) else str(value)
        if role == Qt.ItemDataRole.TextAlignmentRole and not isinstance(value, str):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Name of a column."""
        across = orientation == Qt.Orientation.Horizontal
        if role == Qt.ItemDataRole.DisplayRole and across and self.measured:
            return self.measured.names[section].replace("_", " ")
        return None

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        """Sort by a column; equal ones keep their order."""
        if self.measured is None or not 0 <= column < len(self.measured.columns):
            return
        self.layoutAboutToBeChanged.emit()
        self._order = np.argsort(self.measured.columns[column], kind="stable")
        if order == Qt.SortOrder.DescendingOrder:
            self._order = self._order[::-1]
        self.layoutChanged.emit()


class MeasureDock(QWidget):  # type: ignore[misc]
    """Table of the current result.

    Parameters
    ----------
    viewer : napari.Viewer
        Where the labels are.
    controller : Controller
        Of the dock of the same viewer.
    """

    def __init__(self, viewer: napari.Viewer, controller: Controller) -> None:
        super().__init__()
        self._viewer = viewer
        self._controller = controller
        self._follows = True
        self.model = MeasuredModel()
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setAccessibleName("Measured objects")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setSortingEnabled(True)
        self.table.verticalHeader().hide()
        self.table.selectionModel().currentRowChanged.connect(self._go)
        self.again = push_button("Measure again", controller.measuring.measure)
        self.save = push_button("Save as CSV …", self._save)
        self.only = QCheckBox("Only the selected object")
        self.only.setToolTip("<span>Hide all other objects of the layer.</span>")
        self.only.toggled.connect(self._show_only)
        self.words = text_label(faint="true")
        self._lay_out()
        self._restyle()
        viewer.events.theme.connect(self._restyle)
        viewer.mouse_drag_callbacks.append(self._picked)
        unsubscribe = controller.session.subscribe(self.show_view)
        callbacks = viewer.mouse_drag_callbacks
        picked = self._picked

        def leave() -> None:
            unsubscribe()
            if picked in callbacks:
                callbacks.remove(picked)

        self.destroyed.connect(leave)

    def show_view(self, view: View) -> None:
        """Bring the table up to date."""
        measured = view.measured
        self.again.setEnabled(not view.busy)
        self.save.setEnabled(measured is not None)
        if measured is self.model.measured:
            return
        self.model.show(measured)
        self.table.resizeColumnsToContents()
        if measured is not None:
            self.words.setText(
                f"{words.count(len(measured), 'object')} of {measured.layer}. Click a "
                "row to go there, or an object to find its row."
            )

    def select(self, row: int) -> None:
        """Select a row of the table without going there."""
        index = self.model.index(self.model.line_of(row), 0)
        self._follows = False
        self.table.setCurrentIndex(index)
        self._follows = True
        self.table.scrollTo(index)

    def _lay_out(self) -> None:
        """Place the parts."""
        row = QHBoxLayout()
        row.addWidget(self.again)
        row.addWidget(self.save)
        row.addWidget(self.only)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.addWidget(self.words)
        layout.addWidget(self.table, 1)
        layout.addLayout(row)

    def _go(self, current: QModelIndex, _: QModelIndex) -> None:
        """Go to the object of a row."""
        if current.isValid() and self._follows:
            self._controller.measuring.go_to(self.model.row_of(current.row()))

    def _picked(self, viewer: Any, event: Any) -> Iterator[None]:
        """Select the row of an object that is clicked, not dragged over."""
        dragged = False
        yield
        while event.type == "mouse_move":
            dragged = True
            yield
        if dragged:
            return
        if not self.isVisible():
            return
        row = self._controller.measuring.row_at(event.position)
        if row is not None:
            self.select(row)

    def _show_only(self, only: bool) -> None:
        """Hide the other objects, or show them again."""
        measured = self.model.measured
        if measured is not None and measured.layer in self._viewer.layers:
            self._viewer.layers[measured.layer].show_selected_label = only

    def _save(self) -> None:
        """Ask where to write the table, and write it."""
        path, _ = QFileDialog.getSaveFileName(
            self, "Save measurements", "measurements.csv", "CSV (*.csv)"
        )
        if path:
            self._controller.session.attempt(
                lambda: self._controller.measuring.export(path)
            )

    def _restyle(self, *_: object) -> None:
        """Take the colours of napari's theme."""
        self.setStyleSheet(style(get_theme(self._viewer.theme)))


def measure_dock_for(viewer: napari.Viewer, controller: Controller) -> MeasureDock:
    """Find the table of a viewer, or open it."""
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, MeasureDock):
            return widget
    dock = MeasureDock(viewer, controller)
    viewer.window.add_dock_widget(dock, name="U-Net measurements", area="bottom")
    return dock
