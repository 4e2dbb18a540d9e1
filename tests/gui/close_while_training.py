"""Close napari as a person does while the dock trains; run by `test_gui_closing.py`.

    python close_while_training.py

Prints the question that is asked, how the round ended, and its file.
"""

import os

import napari
import numpy as np
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QApplication

from napari_unet.gui.dock import dock_for
from napari_unet.gui.shared import shared_by

SMALL = {"device": "cpu", "depth": 1, "width": 8, "patch": 32, "batch": 2}


class Close:
    """The event of a window that its title bar closes."""

    ignored = False

    def type(self):
        return QEvent.Type.Close

    def spontaneous(self):
        return True

    def ignore(self):
        self.ignored = True


def until(found):
    """Let the window live until something holds."""
    while not found():
        QApplication.processEvents()


def main():
    """Paint, train, close."""
    QTimer.singleShot(150_000, lambda: os._exit(3))  # rather than for ever
    viewer = napari.Viewer()
    rng = np.random.default_rng(0)
    viewer.add_image(rng.normal(size=(64, 64)).astype("f4"), name="cells")
    dock = dock_for(viewer)
    session = dock.controller.session
    dock.controller.painting.new()
    strokes = viewer.layers["cells · strokes"].data
    strokes[8:56:8, :60], strokes[12:56:8, :60] = 1, 2
    dock.controller.painting.recount()
    page = dock.train
    page.form.fields["max_seconds"].value = 900
    for name, value in SMALL.items():
        form = page.outlook.form if name in page.outlook.form.fields else page.options
        form.fields[name].value = str(value)
    until(lambda: page.train.isEnabled() and session.state.activity is None)
    page.train.click()
    until(lambda: session.state.curves.get("train_loss"))
    closing = shared_by(viewer).closing
    closing._ask = lambda _, job: not print("asked:", job.title, flush=True)
    assert closing.eventFilter(viewer.window._qt_window, event := Close())
    assert event.ignored
    napari.run()
    (made,) = session.state.rounds
    print("kept:", made.path, flush=True)


if __name__ == "__main__":
    main()
