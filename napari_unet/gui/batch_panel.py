"""The Batch page: many files, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_unet.config import BatchConfig
from napari_unet.gui.file_table import FileTable
from napari_unet.gui.form import Form
from napari_unet.gui.look import page, push_button, show_button, text_label

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.predict_panel import PredictPanel
    from napari_unet.gui.view import View


class BatchPanel(QWidget):  # type: ignore[misc]
    """Runs the model over files.

    Parameters
    ----------
    controller : Controller
        Told what the user does.
    predict : PredictPanel
        Whose settings are used.
    """

    def __init__(self, controller: Controller, predict: PredictPanel) -> None:
        super().__init__()
        self._controller = controller
        self._predict = predict
        self.form = Form(BatchConfig, ("suffix", "retry_failed"))
        self.folder = push_button("Folder …", self._choose_folder)
        self.files = push_button("Files …", self._choose_files)
        self.pattern = QLineEdit(BatchConfig.model_fields["pattern"].default)
        self.pattern.setToolTip(BatchConfig.model_fields["pattern"].description)
        self.pattern.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.pattern.editingFinished.connect(
            lambda: controller.batch.set_pattern(self.pattern.text())
        )
        self.output = QElidingLabel()
        self.output.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.change = push_button("Change …", self._choose_output)
        self.run = push_button("", self._run, primary=True)
        self.table = FileTable()
        self._lay_out()

    def show_view(self, view: View) -> None:
        """Bring the page up to date."""
        self.output.setText(view.output or "beside the images")
        self.output.setToolTip(view.output)
        show_button(self.run, view.batch)
        for widget in (self.folder, self.files, self.pattern, self.change):
            widget.setEnabled(not view.busy)
        self.table.setVisible(bool(view.files))
        self.table.set_files(view.files)

    def _lay_out(self) -> None:
        """Place everything from top to bottom in the order of work."""
        area, layout = page()
        row = QHBoxLayout()
        row.addWidget(self.folder)
        row.addWidget(self.files)
        results = QHBoxLayout()
        results.addWidget(self.output, 1)
        results.addWidget(self.change)
        form = QFormLayout()
        form.addRow("Images", row)
        form.addRow("Pattern", self.pattern)
        form.addRow("Results", results)
        layout.addLayout(form)
        layout.addWidget(self.form)
        hint = "Uses the result and the options of the Predict page."
        layout.addWidget(text_label(hint, faint="true"))
        layout.addWidget(self.run)
        layout.addWidget(self.table, 1)
        layout.addStretch(0)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def _choose_folder(self) -> None:
        """Ask for a folder of images."""
        if folder := QFileDialog.getExistingDirectory(self, "Folder of images"):
            self._controller.batch.choose([folder])

    def _choose_files(self) -> None:
        """Ask for images."""
        files, _ = QFileDialog.getOpenFileNames(self, "Images")
        if files:
            self._controller.batch.choose(files)

    def _choose_output(self) -> None:
        """Ask for the folder of the results."""
        if folder := QFileDialog.getExistingDirectory(self, "Folder for the results"):
            self._controller.batch.set_output(folder)

    def _run(self) -> None:
        """Do the files."""
        self._controller.session.attempt(
            lambda: self._controller.batch.run(self._settings())
        )

    def _settings(self) -> dict[str, Any]:
        """Read the settings of this page and of the Predict page."""
        return {**self._predict.settings(), **self.form.values()}
