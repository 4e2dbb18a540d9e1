"""Top of the dock: the model and the image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_unet.errors import UNetError, UsageError
from napari_unet.gui import words
from napari_unet.gui.facts_panel import FactsPanel
from napari_unet.gui.look import (
    Folded,
    mark,
    narrow,
    narrow_combo,
    push_button,
    text_label,
)
from napari_unet.gui.model_menu import ModelMenu, ModelPage

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.gui.controller import Controller
    from napari_unet.gui.open_facts import OpenFact
    from napari_unet.gui.view import View

CHECKPOINTS = "*.safetensors *.pt *.pth *.ckpt *.zip *.onnx *.pt2 *.keras *.h5 *.model"


EXPORTS = {
    "U-Net checkpoint (*.safetensors)": ".safetensors",
    "State dict of the source library (*.pth)": ".pth",
    "bioimage.io package (*.zip)": ".zip",
    "ONNX (*.onnx)": ".onnx",
    "torch.export program (*.pt2)": ".pt2",
}
"""Filters of the export dialog, with the ending that stands for each form."""


class ModelPanel(QWidget):  # type: ignore[misc]
    """Chooses the model.

    Parameters
    ----------
    controller : Controller
        Told what the user does.
    try_sample : callable
        Opens the sample image and model.

    Attributes
    ----------
    new_asked : Signal
        Emitted when a person wants to train a new model.
    """

    new_asked = Signal()

    def __init__(self, controller: Controller, try_sample: Callable[[], None]) -> None:
        super().__init__()
        self._controller = controller
        self._try_sample = try_sample
        self.empty = self._empty_state()
        self.chosen = self._chosen_state()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.empty)
        layout.addWidget(self.chosen)

    def show_view(self, view: View) -> None:
        """Bring the panel up to date."""
        self.empty.setVisible(not view.model_name)
        self.chosen.setVisible(bool(view.model_name))
        self.facts.show_facts(view.open_facts, busy=view.busy)
        self.open_facts.setVisible(bool(view.open_facts))
        self.open_facts.set_title(_open_title(view.open_facts))
        self.name.setText(view.model_name)
        self.name.setToolTip(view.model_tip)
        self.line.setText(view.model_line)
        self.line.setToolTip(view.model_tip)
        for button in (self.open, self.new, self.sample, self.change):
            button.setEnabled(not view.busy)

    def choose_file(self) -> None:
        """Ask for a checkpoint."""
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a checkpoint", "", f"Checkpoints ({CHECKPOINTS});;All files (*)"
        )
        if path:
            self._controller.models.open(path)

    def choose_folder(self) -> None:
        """Ask for a folder that holds a model."""
        path = QFileDialog.getExistingDirectory(self, "Open a model folder")
        if path:
            self._controller.models.open(path)

    def choose_export(self) -> None:
        """Ask under which name and in which form the model is written."""
        ask_export(self, self._controller)

    def _empty_state(self) -> QFrame:
        """Build what is shown while there is no model."""
        frame = QFrame()
        mark(frame, drop="true")
        layout = QVBoxLayout(frame)
        layout.addWidget(text_label("Drop a U-Net checkpoint here", title="true"))
        layout.addWidget(
            text_label("or start without one: paint strokes, then Train.", faint="true")
        )
        row = QHBoxLayout()
        self.open = push_button("Open …", self.choose_file)
        self.new = push_button("Start new", self._start_new)
        self.new.setToolTip("Paint strokes and train a new U-Net on them.")
        self.sample = push_button("Sample", self._try_sample)
        self.sample.setToolTip("Open an image of nuclei, strokes on it and a model.")
        row.addWidget(self.open)
        row.addWidget(self.new)
        row.addWidget(self.sample)
        layout.addLayout(row)
        return frame

    def _chosen_state(self) -> QFrame:
        """Build what is shown once there is a model."""
        frame = QFrame()
        mark(frame, card="true")
        layout = QVBoxLayout(frame)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(2)
        self.name = QElidingLabel()
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        mark(self.name, title="true")
        self.change = QPushButton("Change  ")
        self.change.setMenu(self._menu())
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.name, 1)
        row.addWidget(self.change)
        self.line = text_label(faint="true")
        layout.addLayout(row)
        layout.addWidget(self.line)
        self.facts = FactsPanel(self._controller)
        self.open_facts = Folded("", self.facts)
        layout.addWidget(self.open_facts)
        return frame

    def show_page(self) -> None:
        """Show what the model is."""
        model = self._controller.session.state.model
        if model is not None:
            ModelPage(self, model.facts).show()

    def _start_new(self) -> None:
        """Work without a model, to train a new one."""
        self._controller.models.forget()
        self.new_asked.emit()

    def _menu(self) -> ModelMenu:
        """Build the menu of the Change button."""
        acts = {
            "Open a checkpoint …": self.choose_file,
            "Open a model folder …": self.choose_folder,
            "Start a new U-Net": self._start_new,
            "What is this model? …": self.show_page,
            "Save or export …": self.choose_export,
            "Try the sample": self._try_sample,
        }
        return ModelMenu(self, self._controller.models, acts)


def ask_export(parent: QWidget, controller: Controller, model: str = "") -> None:
    """Ask for a name and a form, and write the model in use or another."""
    path, wish = QFileDialog.getSaveFileName(
        parent, "Export the model", "", ";;".join(EXPORTS)
    )
    if path:  # the dialog has asked about `path`, but not about another name
        named = _with_ending(path, wish)
        controller.models.export(named, overwrite=named == path, model=model)


def _with_ending(path: str, wish: str) -> str:
    """Give a name without an ending that of the filter."""
    return path if Path(path).suffix else path + EXPORTS.get(wish, "")


def _open_title(facts: tuple[OpenFact, ...]) -> str:
    """Title of the fold: how much was assumed, how much was told."""
    told = sum(fact.told for fact in facts)
    counts = {"assumed": len(facts) - told, "told": told}
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    return f"Not in the file: {', '.join(parts)}"


class ImagePanel(QWidget):  # type: ignore[misc]
    """Chooses the image and says what it is.

    Parameters
    ----------
    controller : Controller
        Told what the user does.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._shown: object = None
        self.picker = ComboBox(choices=lambda _: controller.session.state.images)
        self.picker.native.setAccessibleName("Image")
        self.picker.native.setPlaceholderText("no image")
        narrow(self.picker.native)
        self.picker.changed.connect(controller.choose_image)
        self.line = text_label(faint="true")
        self.axes = self._axes_field()
        self.channels = self._channels_field()
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Image", self.picker.native)
        self._form.addRow(self.line)
        self._form.addRow("Axes", self.axes)
        self._form.addRow("Channels", self.channels)

    def show_view(self, view: View) -> None:
        """Bring the panel up to date."""
        if view.images != self.picker.choices or view.image != self.picker.value:
            with self.picker.changed.blocked():
                self.picker.reset_choices()
                if view.image:
                    self.picker.value = view.image
        self.picker.tooltip = view.image
        self.line.setText(view.image_line)
        mark(self.line, tone="bad" if view.ask_axes and not view.axes else "plain")
        self._form.setRowVisible(self.axes, view.ask_axes)
        self._form.setRowVisible(self.channels, view.ask_channels)
        self._show_axes(view)

    def _axes_field(self) -> QComboBox:
        """Build the field for the axes: choices in words, or letters."""
        field = narrow_combo("Axes")
        field.setEditable(True)
        field.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        field.lineEdit().setPlaceholderText("choose, or type such as ZYX")
        field.setToolTip(
            "<span>What each axis of the image is, in order: T time, Z depth, C "
            "channel, Y row, X column.</span>"
        )
        field.activated.connect(self._choose_axes)
        field.lineEdit().returnPressed.connect(self._type_axes)
        return field

    def _channels_field(self) -> QLineEdit:
        """Build the field for the channels."""
        field = QLineEdit()
        field.setPlaceholderText("all, or such as 0")
        field.setAccessibleName("Channels")
        field.setToolTip(
            "<span>Numbers of the channels that feed the model, in order; the first "
            "is 0.</span>"
        )
        field.editingFinished.connect(self._choose_channels)
        return field

    def _show_axes(self, view: View) -> None:
        """Offer axes in words for the number of axes that the image has."""
        if self.axes.lineEdit().hasFocus() or self._shown == (view.shape, view.axes):
            return
        self._shown = view.shape, view.axes
        ndim = len(view.shape)
        blocked = self.axes.blockSignals(True)
        self.axes.clear()
        for text, axes in words.choices(ndim).items():
            if len(axes) == ndim:
                self.axes.addItem(f"{axes}: {text}", axes)
        self.axes.setCurrentIndex(self.axes.findData(view.axes))
        if self.axes.currentIndex() < 0:
            self.axes.setEditText(view.axes)
        self.axes.lineEdit().setCursorPosition(0)  # its beginning is seen
        self.axes.blockSignals(blocked)

    def _choose_axes(self, index: int) -> None:
        """Take axes from the list."""
        self.axes.lineEdit().clearFocus()
        self._controller.set_axes(self.axes.itemData(index) or "")

    def _type_axes(self) -> None:
        """Take axes that were typed."""
        text = self.axes.currentText()
        if self.axes.findText(text) < 0:
            self.axes.lineEdit().clearFocus()
            self._controller.set_axes(text)

    def _choose_channels(self) -> None:
        """Take channel numbers that were typed."""
        text = self.channels.text().replace(",", " ").split()
        try:
            numbers = tuple(int(part) for part in text)
        except ValueError:
            self._controller.session.fail(_no_numbers(self.channels.text()))
            return
        self._controller.set_channels(numbers or None)


def _no_numbers(text: str) -> UNetError:
    """Say that channels are numbers."""
    return UsageError(
        "The channels cannot be used", found=repr(text), expected="numbers such as 0, 1"
    )
