"""The images of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_unet.gui import words
from napari_unet.gui.look import push_button

if TYPE_CHECKING:
    from napari_unet.gui.projects import Projects
    from napari_unet.gui.state import PictureRow

_ID = Qt.ItemDataRole.UserRole
_TALLEST = 96


class PicturesTable(QWidget):  # type: ignore[misc]
    """Lists images with what is known of them; a double click shows one.

    Parameters
    ----------
    projects : Projects
        Told what is to be done.
    """

    def __init__(self, projects: Projects) -> None:
        super().__init__()
        self._projects = projects
        self._shown: tuple[PictureRow, ...] = ()
        self.list = QListWidget()
        self.list.setAccessibleName("Images of the project")
        self.list.setMaximumHeight(_TALLEST)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.itemDoubleClicked.connect(lambda item: projects.show(item.data(_ID)))
        self.list.itemSelectionChanged.connect(self._enable)
        self.show_one = push_button("Show", lambda: self._do(projects.show))
        self.accept = push_button(
            "Still fits", lambda: self._do(projects.accept_change)
        )
        self.accept.setToolTip("The file has changed; its strokes still fit.")
        self.remove = push_button("Remove", lambda: self._do(projects.forget))
        self.remove.setToolTip("Take the image and its strokes out of the project.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.list)
        row = QHBoxLayout()
        for button in (self.show_one, self.accept, self.remove):
            row.addWidget(button)
        layout.addLayout(row)
        self._enable()

    def show_pictures(self, pictures: tuple[PictureRow, ...]) -> None:
        """Show these images."""
        if pictures != self._shown:
            chosen = self._chosen()
            self._shown = pictures
            self.list.clear()
            for picture in pictures:
                item = QListWidgetItem(_text(picture), self.list)
                item.setData(_ID, picture.id)
                item.setToolTip(picture.name)
                if chosen is not None and chosen.id == picture.id:
                    self.list.setCurrentItem(item)
            self._enable()

    def _chosen(self) -> PictureRow | None:
        """Row that is selected."""
        items = self.list.selectedItems()
        number = items[0].data(_ID) if items else ""
        return next((row for row in self._shown if row.id == number), None)

    def _enable(self) -> None:
        """Allow what can be done with the image that is selected."""
        row = self._chosen()
        self.show_one.setEnabled(row is not None)
        self.remove.setEnabled(row is not None)
        self.accept.setVisible(row is not None and row.trouble == "changed")

    def _do(self, call: object) -> None:
        """Do something with the image that is selected."""
        if (row := self._chosen()) is not None and callable(call):
            call(row.id)


def _text(picture: PictureRow) -> str:
    """Write a line."""
    parts = [words.short(picture.name, 24)]
    if picture.boxes:
        parts.append(words.count(picture.boxes, "box"))
    if picture.trouble:
        parts.append(picture.trouble)
    return " · ".join(parts)
