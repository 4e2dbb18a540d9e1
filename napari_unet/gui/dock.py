"""The dock: model and image on top, a page for each job, one sentence below."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from napari.utils.theme import get_theme
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QFrame, QSizePolicy, QTabWidget, QVBoxLayout, QWidget

from napari_unet.gui.footer import Footer
from napari_unet.gui.keys import (
    ACCEPT,
    BEFORE,
    KEEP,
    NEXT,
    PREDICT,
    PREVIEW,
    TRAIN,
)
from napari_unet.gui.look import style, tab_in_reading_order
from napari_unet.gui.measure_dock import measure_dock_for
from napari_unet.gui.model_panel import ImagePanel, ModelPanel
from napari_unet.gui.predict_panel import PredictPanel
from napari_unet.gui.shared import shared_by

if TYPE_CHECKING:
    from pathlib import Path

    import napari
    from qtpy.QtGui import QDragEnterEvent, QDropEvent, QHideEvent, QShowEvent

    from napari_unet.gui.batch_panel import BatchPanel
    from napari_unet.gui.train_panel import TrainPanel
    from napari_unet.gui.view import View

Panel = TypeVar("Panel", bound=QWidget)
_WIDTH = 320
_PAGES = ("Predict", "Train", "Batch")


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
        self._shared = shared_by(self._viewer)
        self.controller = self._shared.controller
        self.setAcceptDrops(True)
        self.setMinimumWidth(280)
        self.model = ModelPanel(self.controller, self.try_sample)
        self.image = ImagePanel(self.controller)
        self.predict = PredictPanel(self.controller)
        self.predict.measure.clicked.connect(
            lambda: measure_dock_for(self._viewer, self.controller)
        )
        self.footer = Footer(self.controller)
        self._made_later: list[Any] = []
        self._view: View | None = None
        self._closed_check = QTimer(self)
        self._closed_check.setSingleShot(True)
        self._closed_check.timeout.connect(self._leave_if_closed)
        self._lay_out()
        self._restyle()
        self._viewer.events.theme.connect(self._restyle)
        self._join()

    @cached_property
    def train(self) -> TrainPanel:
        """Make the Train page when it is first needed."""
        from napari_unet.gui.train_panel import TrainPanel

        return self._put("Train", TrainPanel(self.controller))

    @cached_property
    def batch(self) -> BatchPanel:
        """Make the Batch page when it is first needed."""
        from napari_unet.gui.batch_panel import BatchPanel

        return self._put("Batch", BatchPanel(self.controller, self.predict))

    def show_view(self, view: View) -> None:
        """Bring everything up to date."""
        self._view = view
        for panel in self._panels:
            panel.show_view(view)

    def follow_preferences(self) -> None:
        """Take over what was changed on napari's page of preferences."""
        self.predict.preferred.take()
        if "train" in self.__dict__:
            self.train.preferred.take()

    def press(self, key: str) -> None:
        """Do what a key of the viewer stands for, or say why that cannot be done."""
        activity = self.controller.session.state.activity
        if key == TRAIN and activity is not None and activity.kind == "train":
            self.controller.stop()
            return
        if key in (BEFORE, KEEP):
            act = {
                BEFORE: self.controller.compare.press,
                KEEP: self.controller.versions.keep,
            }
            act[key]()
            return
        buttons = {
            PREVIEW: self.predict.preview,
            PREDICT: self.predict.predict,
            TRAIN: self.train.train,
            ACCEPT: self.train.strokes.accept,
            NEXT: self.train.next_spot,
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
        """Open what is dropped on the dock: an image in the viewer, else a model."""
        self.open_file(_dropped_file(event))
        event.acceptProposedAction()

    def open_file(self, path: str) -> None:
        """Open an image in the viewer, or anything else as a model."""
        from napari_unet.images.readers import is_image

        page = self.controller
        open_it = page.opening.image if is_image(path) else page.models.open
        open_it(path)

    def hideEvent(self, event: QHideEvent) -> None:
        """Notice when napari closes the dock, which it tells by hiding it only."""
        super().hideEvent(event)
        self._closed_check.start(0)

    def showEvent(self, event: QShowEvent) -> None:
        """Show the state again after the dock was closed and reopened."""
        super().showEvent(event)
        self._shared.join(self)
        self._shared.closing.watch(self.window())
        tab_in_reading_order(self)

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
            self._shared.say_what_goes_on()

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
            *self._made_later,
            self.footer,
        )

    def _put(self, title: str, panel: Panel) -> Panel:
        """Put a panel into its page of the tabs, up to date."""
        self.tabs.widget(_PAGES.index(title)).layout().addWidget(panel)
        panel.show()
        self._made_later.append(panel)
        if self._view is not None:
            panel.show_view(self._view)
        return panel

    def _show_page(self, index: int) -> None:
        """Make the panel of a page that is shown, unless it is there."""
        getattr(self, _PAGES[index].lower())
        tab_in_reading_order(self)

    def _lay_out(self) -> None:
        """Place the parts."""
        self.tabs = QTabWidget()
        self.tabs.addTab(self.predict, _PAGES[0])
        for title in _PAGES[1:]:
            self.tabs.addTab(_empty_page(), title)
        self.tabs.currentChanged.connect(self._show_page)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.model)
        self.model.new_asked.connect(
            lambda: self.tabs.setCurrentIndex(_PAGES.index("Train"))
        )
        layout.addWidget(self.image)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(line)
        layout.addWidget(self.footer)
        self.tabs.setSizePolicy(
            QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding
        )


def _empty_page() -> QWidget:
    """Make a page for a panel that comes later."""
    page = QWidget()
    QVBoxLayout(page).setContentsMargins(0, 0, 0, 0)
    return page


def _dropped_file(event: QDropEvent) -> str:
    """Path of the one local file that is dropped, else nothing."""
    urls = event.mimeData().urls()
    return urls[0].toLocalFile() if len(urls) == 1 else ""
