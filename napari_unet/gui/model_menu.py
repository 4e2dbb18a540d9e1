"""The menu of the Change button: other models, and what can be done with this one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtGui import QFontDatabase
from qtpy.QtWidgets import QDialog, QMenu, QPlainTextEdit, QVBoxLayout

from napari_unet.gui.words import short
from napari_unet.page import page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from qtpy.QtWidgets import QWidget

    from napari_unet.gui.models import Models


class ModelMenu(QMenu):  # type: ignore[misc]
    """What the Change button offers.

    Parameters
    ----------
    parent : QWidget
        The panel.
    models : Models
        Told what is chosen.
    acts : mapping of str to callable
        What the panel does, by the words for it; listed first.
    """

    def __init__(
        self, parent: QWidget, models: Models, acts: Mapping[str, Callable[[], None]]
    ) -> None:
        super().__init__(parent)
        self._models = models
        for words, act in acts.items():
            self.addAction(words, act)
        self.recent = QMenu("Recent", self)
        self.insertMenu(self.actions()[2], self.recent)
        self.aboutToShow.connect(self.list_recent)

    def list_recent(self) -> None:
        """List the models that were opened last."""
        self.recent.clear()
        for path in self._models.recent.paths():
            name = short(Path(path).name).replace("&", "&&")
            action = self.recent.addAction(name, partial(self._models.open, path))
            action.setToolTip(path)
        self.recent.setToolTipsVisible(True)
        self.recent.setEnabled(not self.recent.isEmpty())


class ModelPage(QDialog):  # type: ignore[misc]
    """A page that says what a checkpoint is.

    Parameters
    ----------
    parent : QWidget
        What it belongs to.
    facts : mapping
        Of `napari_unet.api.iter_inspect`.
    """

    def __init__(self, parent: QWidget, facts: Mapping[str, Any]) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"U-Net: {facts.get('name', 'model')}")
        self.text = QPlainTextEdit(page(facts))
        self.text.setReadOnly(True)
        self.text.setAccessibleName("What the model is")
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        self.resize(640, 520)
