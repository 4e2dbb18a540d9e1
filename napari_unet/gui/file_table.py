"""The table of a batch's files, quick with a hundred thousand of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.state import BatchFile

_TITLES = ("File", "State")
_SIGNS = {"done": "✓", "failed": "✗", "skipped": "✓", "working": "▸"}


class FileTable(QTableView):  # type: ignore[misc]
    """Shows files and their states.

    Parameters
    ----------
    opened : callable
        Called with the file whose row is double-clicked, or entered.
    """

    def __init__(self, opened: Callable[[BatchFile], None]) -> None:
        super().__init__()
        self._model = _Files()
        self.setModel(self._model)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        header.setResizeContentsPrecision(0)  # looks at the rows in view only
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setMinimumHeight(150)
        self.setAccessibleName("Files")
        self.setToolTip("Double-click a file to open it with its result.")
        self.activated.connect(lambda index: opened(self._model.file(index.row())))

    def set_files(self, files: tuple[BatchFile, ...]) -> None:
        """Show these files."""
        self._model.set_files(files)

    def text(self, row: int, column: int) -> str:
        """Read what a cell shows."""
        return str(self._model.index(row, column).data())


class _Files(QAbstractTableModel):  # type: ignore[misc]
    """Tells Qt about the rows it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self._files: tuple[BatchFile, ...] = ()

    def file(self, row: int) -> BatchFile:
        """Find the file of a row."""
        return self._files[row]

    def set_files(self, files: tuple[BatchFile, ...]) -> None:
        """Take files and tell which rows changed."""
        if files is self._files:
            return
        if len(files) != len(self._files):
            self.beginResetModel()
            self._files = files
            self.endResetModel()
            return
        pairs = zip(self._files, files, strict=True)
        changed = [row for row, (old, new) in enumerate(pairs) if old is not new]
        self._files = files
        if changed:
            last = self.index(changed[-1], len(_TITLES) - 1)
            self.dataChanged.emit(self.index(changed[0], 0), last)

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Count the files; a cell holds none."""
        return 0 if parent is not None and parent.isValid() else len(self._files)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Count the columns."""
        return len(_TITLES)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = 0
    ) -> Any:
        """Title of a column."""
        across = orientation == Qt.Orientation.Horizontal
        return _TITLES[section] if across and role == _SHOWN else None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Text or tooltip of a cell."""
        file = self._files[index.row()]
        if role == _SHOWN:
            return _name(file) if index.column() == 0 else _state(file)
        if role == _TIP:
            return file.path if index.column() == 0 else file.note or file.output
        return None


_SHOWN = Qt.ItemDataRole.DisplayRole
_TIP = Qt.ItemDataRole.ToolTipRole


def _name(file: BatchFile) -> str:
    """Name of a file without its folder."""
    return Path(file.path).name


def _state(file: BatchFile) -> str:
    """State of a file by a sign and a word, and how far it is."""
    note = f" {file.note}" if file.status == "working" else ""
    return f"{_SIGNS.get(file.status, '')} {file.status}{note}".strip()
