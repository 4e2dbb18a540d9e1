"""The Batch page: many files, one after the other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
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
from napari_unet.errors import UsageError
from napari_unet.gui import words
from napari_unet.gui.file_table import FileTable
from napari_unet.gui.form import Form
from napari_unet.gui.look import Folded, page, push_button, show_button, text_label

if TYPE_CHECKING:
    from napari_unet.gui.controller import Controller
    from napari_unet.gui.predict_panel import PredictPanel
    from napari_unet.gui.state import BatchFile
    from napari_unet.gui.view import View


_WRITTEN = ("kind", "probabilities", "measure", "suffix")
_OPTIONS = ("table", "by_content", "memory_limit", "time_limit")


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
        self._kind = ""
        self.form = Form(BatchConfig, _WRITTEN, words.LOOKS)
        self.form.fields["kind"].changed.connect(self._offer_files)
        self.form.connect(self._estimate_anew)
        self.options = Form(BatchConfig, _OPTIONS)
        self.folder = push_button("Folder …", self._choose_folder)
        self.files = push_button("Files …", self._choose_files)
        self.pattern = QLineEdit(BatchConfig.model_fields["pattern"].default)
        self.pattern.setToolTip(BatchConfig.model_fields["pattern"].description)
        self.pattern.setAccessibleName("Pattern")
        self.pattern.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.pattern.editingFinished.connect(
            lambda: controller.batch.set_pattern(self.pattern.text())
        )
        self.output = QElidingLabel()
        self.output.setElideMode(Qt.TextElideMode.ElideLeft)  # folders end in a name
        self.output.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.change = push_button("Change …", self._choose_output)
        self.run = push_button("", self._run, primary=True)
        self.pause = push_button("", controller.batch.pause)
        self.retry = push_button("", self._retry)
        self.command = push_button("", self._copy)
        self.estimate = text_label(faint="true")
        self.estimate.setAccessibleName("Estimate")
        self._estimated: object = None
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._estimate)
        self.table = FileTable(self._open)
        self._lay_out()

    def show_view(self, view: View) -> None:
        """Bring the page up to date."""
        self.output.setText(view.output or "beside the images")
        self.output.setToolTip(view.output)
        if view.kind != self._kind:
            self._kind = view.kind
            self.form.fields["kind"].value = view.kind
        show_button(self.run, view.batch)
        show_button(self.pause, view.pause_batch)
        show_button(self.retry, view.retry)
        show_button(self.command, view.command)
        self.estimate.setText(view.estimate)
        self.estimate.setVisible(bool(view.estimate))
        self._estimate_if_new(view)
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
        form.addRow("Save in", results)
        layout.addLayout(form)
        layout.addWidget(self.form)
        layout.addWidget(Folded("Options", self.options))
        hint = "The options of the Predict page count here too."
        layout.addWidget(text_label(hint, faint="true"))
        layout.addWidget(self.run)
        layout.addWidget(self.estimate)
        layout.addWidget(self.table, 1)
        actions = QHBoxLayout()
        actions.addWidget(self.pause)
        actions.addWidget(self.retry)
        layout.addLayout(actions)
        layout.addWidget(self.command)
        layout.addStretch(0)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def _offer_files(self, kind: str) -> None:
        """Offer what can be written beside this kind of result."""
        can = {
            "measure": kind in ("labels", "instances"),
            "probabilities": kind != "probabilities",
        }
        for name, enabled in can.items():
            field = self.form.fields[name]
            field.enabled = enabled
            if not enabled:
                field.value = False

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

    def _retry(self) -> None:
        """Do the files again that failed."""
        self._controller.session.attempt(
            lambda: self._controller.batch.retry(self._settings())
        )

    def _copy(self) -> None:
        """Put the command line that does the same on the clipboard."""

        def copy() -> None:
            line = self._controller.batch.command(self._settings())
            QApplication.clipboard().setText(line)
            self._controller.session.say("Copied. Paste it into a terminal.")

        self._controller.session.attempt(copy)

    def _open(self, file: BatchFile) -> None:
        """Open a file of the table, and what was written for it."""
        kind = str(self.form.fields["kind"].value)
        is_done = file.status in ("done", "skipped")
        written = {file.output: kind, file.probabilities: "probabilities"}
        written.pop("", None)
        self._controller.opening.results(file.path, written if is_done else {})

    def _estimate_if_new(self, view: View) -> None:
        """Ask what the files would take, once for these and the model."""
        key = (
            tuple(file.path for file in view.files[:1]),
            len(view.files),
            view.model_path,
        )
        if view.busy or key == self._estimated:
            return
        self._estimated = key
        if view.files and view.model_path:
            self._soon.start(0)

    def _estimate_anew(self) -> None:
        """Ask again once something else is to be written."""
        if self._estimated and self._controller.session.state.activity is None:
            self._soon.start(0)

    def _estimate(self) -> None:
        """Say what the files would take."""
        with contextlib.suppress(UsageError):  # told when the files are run
            self._controller.batch.estimating.ask(self._settings())

    def _settings(self) -> dict[str, Any]:
        """Read the settings of this page and of the Predict page."""
        mine = {**self.form.values(), **self.options.values()}
        return {**self._predict.settings(), **mine}
