"""The dock: model and image on top, a page for each job, one sentence below."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from napari.utils import notifications
from napari.utils.theme import get_theme
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QFrame, QSizePolicy, QTabWidget, QVBoxLayout, QWidget

from napari_unet.execution.child_process import Child
from napari_unet.gui.batch_panel import BatchPanel
from napari_unet.gui.controller import Controller
from napari_unet.gui.footer import Footer
from napari_unet.gui.jobs import MainThread, in_background
from napari_unet.gui.keys import KEYS, PREDICT, PREVIEW, TRAIN, Keys
from napari_unet.gui.layers import Layers
from napari_unet.gui.look import style
from napari_unet.gui.model_panel import ImagePanel, ModelPanel
from napari_unet.gui.predict_panel import PredictPanel
from napari_unet.gui.train_panel import TrainPanel

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari
    from qtpy.QtGui import QDragEnterEvent, QDropEvent, QHideEvent, QShowEvent

    from napari_unet.gui.view import View

_NAME = "unet-napari"
_RECOUNT_AFTER = 250
_WIDTH = 320


class _Shared:
    """What the docks of one viewer share: the controller, and who shows it."""

    def __init__(self, viewer: Any) -> None:
        self._main_thread = MainThread()
        self._docks: dict[int, tuple[Callable[[], None], Callable[[str], None]]] = {}
        self._viewer = weakref.ref(viewer)
        self._keys = Keys(self._press, KEYS)
        layers = Layers(viewer)
        self.controller = Controller(
            layers,
            Child(),
            Path(tempfile.mkdtemp(prefix=f"{_NAME}-")),
            platformdirs.user_data_path(_NAME) / "rounds",
            post=self._main_thread.post,
            background=in_background,
            notify=_notify,
        )
        self._recount = QTimer()
        self._recount.setSingleShot(True)
        self._recount.setInterval(_RECOUNT_AFTER)
        self._recount.timeout.connect(self.controller.recount)
        self.controller.strokes.connect(self._recount.start)

    def join(self, dock: UNetDock) -> None:
        """Show the state in one more dock, which gets the keys."""
        if id(dock) not in self._docks:
            unsubscribe = self.controller.session.subscribe(dock.show_view)
            self._docks[id(dock)] = unsubscribe, dock.press
            if (viewer := self._viewer()) is not None:
                self._keys.bind(viewer)

    def leave(self, dock: int) -> None:
        """Forget a dock; with the last one the computing process ends."""
        if dock not in self._docks:
            return
        unsubscribe, _ = self._docks.pop(dock)
        unsubscribe()
        if self._docks:
            return
        if (viewer := self._viewer()) is not None:
            self._keys.unbind(viewer)
        self._recount.stop()
        self.controller.close()

    def _press(self, key: str) -> None:
        """Hand a key to the dock that came last."""
        _, press = list(self._docks.values())[-1]
        press(key)


_SHARED: dict[int, _Shared] = {}


def _shared_by(viewer: Any) -> _Shared:
    """Find or make what the docks of a viewer share; it goes with the viewer."""
    shared = _SHARED.get(id(viewer))
    if shared is None:
        shared = _SHARED[id(viewer)] = _Shared(viewer)
        weakref.finalize(viewer, _SHARED.pop, id(viewer), None)
    return shared


def dock_for(viewer: napari.Viewer) -> UNetDock:
    """Find the dock of a viewer, or open it."""
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, UNetDock):
            return widget
    dock = UNetDock(viewer)
    viewer.window.add_dock_widget(dock, name="U-Net", area="right")
    return dock


def offer_checkpoint(viewer: napari.Viewer, path: str | Path) -> None:
    """Open a checkpoint in the dock of a viewer, opening the dock if need be."""
    dock_for(viewer).controller.models.open(str(path))


class UNetDock(QWidget):  # type: ignore[misc]
    """The dock widget.

    A second dock of the same viewer shows the same state.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer it belongs to.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._shared = _shared_by(self._viewer)
        self.controller = self._shared.controller
        self.setAcceptDrops(True)
        self.setMinimumWidth(280)
        self.model = ModelPanel(self.controller, self.try_sample)
        self.image = ImagePanel(self.controller)
        self.predict = PredictPanel(self.controller)
        self.train = TrainPanel(self.controller)
        self.batch = BatchPanel(self.controller, self.predict)
        self.footer = Footer(self.controller)
        self._closed_check = QTimer(self)
        self._closed_check.setSingleShot(True)
        self._closed_check.timeout.connect(self._leave_if_closed)
        self._lay_out()
        self._restyle()
        self._viewer.events.theme.connect(self._restyle)
        self._join()

    def show_view(self, view: View) -> None:
        """Bring everything up to date."""
        for panel in self._panels:
            panel.show_view(view)

    def press(self, key: str) -> None:
        """Do what a key of the viewer stands for, or say why that cannot be done."""
        activity = self.controller.session.state.activity
        if key == TRAIN and activity is not None and activity.kind == "train":
            self.controller.stop()
            return
        buttons = {
            PREVIEW: self.predict.preview,
            PREDICT: self.predict.predict,
            TRAIN: self.train.train,
        }
        button = buttons[key]
        if button.isEnabled():
            button.click()
        elif activity is None:
            self.controller.session.say(button.toolTip() or f"{button.text()}.")

    def reset_choices(self, *_: object) -> None:
        """Look at the viewer's layers again; napari calls this."""
        self.controller.refresh()

    def try_sample(self) -> None:
        """Open the sample image, strokes on it, and the sample model."""
        from napari_unet.gui.contributions import sample_strokes
        from napari_unet.samples import sample

        for data, shown, kind in sample_strokes():
            if shown["name"] not in self._viewer.layers:
                getattr(self._viewer, f"add_{kind}")(data, **shown)
        self.controller.choose_image("nuclei")
        self.controller.models.open(str(sample("nuclei.safetensors")))

    def sizeHint(self) -> QSize:
        """Ask for the usual width of a dock."""
        return QSize(_WIDTH, 700)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files only."""
        if _dropped_file(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open a checkpoint that is dropped on the dock."""
        self.controller.models.open(_dropped_file(event))
        event.acceptProposedAction()

    def hideEvent(self, event: QHideEvent) -> None:
        """Notice when napari closes the dock, which it tells by hiding it only."""
        super().hideEvent(event)
        self._closed_check.start(0)

    def showEvent(self, event: QShowEvent) -> None:
        """Show the state again after the dock was closed and reopened."""
        super().showEvent(event)
        self._shared.join(self)

    def _join(self) -> None:
        """Show the state from now on, until Qt destroys this widget."""
        shared, number = self._shared, id(self)
        shared.join(self)
        self.destroyed.connect(lambda: shared.leave(number))

    def _leave_if_closed(self) -> None:
        """Leave if napari no longer lists this dock."""
        window = getattr(self._viewer, "window", None)
        if window is not None and self not in window.dock_widgets.values():
            self._shared.leave(id(self))

    def _restyle(self, *_: object) -> None:
        """Take the colours of napari's theme."""
        self.setStyleSheet(style(get_theme(self._viewer.theme)))

    @property
    def _panels(self) -> tuple[Any, ...]:
        """List the parts that show the state."""
        return (
            self.model,
            self.image,
            self.predict,
            self.train,
            self.batch,
            self.footer,
        )

    def _lay_out(self) -> None:
        """Place the parts."""
        self.tabs = QTabWidget()
        for title in ("Predict", "Train", "Batch"):
            self.tabs.addTab(getattr(self, title.lower()), title)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.model)
        layout.addWidget(self.image)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(line)
        layout.addWidget(self.footer)
        self.tabs.setSizePolicy(
            QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding
        )


def _dropped_file(event: QDropEvent) -> str:
    """Path of the one local file that is dropped, else nothing."""
    urls = event.mimeData().urls()
    return urls[0].toLocalFile() if len(urls) == 1 else ""


def _notify(severity: str, text: str) -> None:
    """Show a message as napari does."""
    show = notifications.show_error if severity == "error" else notifications.show_info
    show(text)
