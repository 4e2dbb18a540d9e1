"""Nothing is cut off at 320 pixels in either theme, and all is named for a reader."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QLabel,
    QLineEdit,
    QScrollArea,
    QWidget,
)
from superqt import QElidingLabel

from napari_unet.gui.dock import dock_for
from napari_unet.gui.learning import Begun, Outlook, Round, Suspect
from napari_unet.gui.look import Folded, narrow_combo
from napari_unet.gui.state import BatchFile, Card, Model

pytestmark = pytest.mark.gui

LONG = "a rather long name of a checkpoint that somebody made.safetensors"
FACTS = {
    "ndim": 2,
    "in_channels": 1,
    "out_channels": 3,
    "task": "semantic",
    "activation": "sigmoid",
    "device": "cpu: the CPU build of torch is installed",
    "assumed": [
        {"field": "normalization", "value": "zscore", "alternatives": ["none"]},
        {"field": "architecture.align_corners", "value": True, "alternatives": [False]},
    ],
}

PLAN = {
    "axes": "ZYX", "patch": [128, 128, 128], "batch": 16, "weights": 31_000_000,
    "widths": [128, 256, 320, 320], "strides": [[1, 2, 2], [2, 2, 2], [2, 2, 2]],
    "receptive_field": [101, 221, 221], "memory": 64 << 30, "painted": 12,
    "painted_as": "instances", "images": 112, "typical_size": [1000, 10000, 10000],
    "typical_spacing": {"Z": 4, "Y": 1, "X": 1}, "notes": ["Something. " * 9],
}  # fmt: skip


@pytest.fixture
def full(make_napari_viewer, monkeypatch, tmp_path):
    """A dock of 320 pixels in which everything is shown at once."""
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data")
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1100, 1000)
    viewer.add_image(np.zeros((2, 3, 8, 9)), name=LONG)
    dock = dock_for(viewer)
    fill(dock, viewer)
    dock.setFixedWidth(320)
    return dock


def fill(dock, viewer):
    """Bring the dock into a state that shows as much as there can be."""
    session = dock.controller.session
    dock.controller.set_axes("ZCYX")
    dock.controller.painting.new()
    made = Round(f"/r/{LONG}.pt", 0.81, 0.9, strokes=12, note="Something. " * 5)
    session.update(
        model=Model(made.path, FACTS),
        settings=None,
        plan=Card("streamed · 1,064 pieces · about 3 min", (("way", "w " * 90),)),
        files=tuple(BatchFile(f"/in/{n}{LONG}.tif", s) for n, s in enumerate(STATES)),
        output=f"/out/{LONG}",
        estimate="About 14 min · up to 1.2e+02 GB of results",
        rounds=(made,),
        outlook=Outlook(PLAN),
        cut_short=Begun("/r/nuclei-round-12.safetensors", "", LONG, share=0.625),
        declined=Round(f"/r/{LONG}-round-13.pt", 0.9, 0.7, worse=("It forgot. " * 9,)),
        suspects=(Suspect("", (("Z", 999), ("Y", 9999), ("X", 9999)), 2, 1, 0.93),),
        curves={"train_loss": ((0.0, 1.0), (1.0, 0.5))},
        message="Something to be said that takes more than one line. " * 2,
    )
    for panel in (dock, dock.train, dock.batch):  # pages come in when they are shown
        for fold in panel.findChildren(Folded):
            fold.set_open(True)


STATES = ("done", "failed", "working", "waiting", "skipped")


def lacking(widget):
    """Pixels that a widget would need beyond what it has, 0 where it elides."""
    if isinstance(widget, QElidingLabel | QComboBox | QLineEdit):
        return 0
    if isinstance(widget, QLabel) and widget.wordWrap():
        words = widget.text().replace("<br>", " ").split(" ")
        widest = max(map(widget.fontMetrics().horizontalAdvance, words), default=0)
        return widest - widget.width() if "<" not in widget.text() else 0
    return widget.sizeHint().width() - widget.width()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off(full, qtbot, tmp_path, theme):
    viewer = full._viewer
    viewer.theme = theme
    folder = Path(os.environ.get("UNET_SCREENSHOTS", tmp_path))
    for index in range(full.tabs.count()):
        full.tabs.setCurrentIndex(index)
        QTest.qWait(60)
        name = full.tabs.tabText(index).lower()
        full.grab().save(str(folder / f"dock-{name}-{theme}.png"))
        assert full.width() == 320
        cut = [
            (type(widget).__name__, widget.text(), lacking(widget))
            for kind in (QLabel, QAbstractButton)
            for widget in full.findChildren(kind)
            if widget.isVisible() and widget.text() and lacking(widget) > 0
        ]
        assert cut == []
        for area in full.findChildren(QScrollArea):
            if area.isVisible():
                assert area.widget().width() <= area.viewport().width()


def test_long_names_lose_their_middle(full, qtbot):
    combo = narrow_combo("Names")
    qtbot.addWidget(combo)
    combo.setStyleSheet(full.styleSheet())
    combo.setFixedSize(180, 28)
    combo.show()
    combo.addItems([LONG, "b" + LONG[1:-1] + "z"])
    shown = []
    for index in range(2):
        combo.setCurrentIndex(index)
        shown.append(image_of(combo.grab().toImage()).copy())
    # The first letter differs and so does the last: both are seen.
    columns = np.flatnonzero((shown[0] != shown[1]).any((0, 2)))
    assert columns.min() < 30
    assert columns.max() > 110


def image_of(picture):
    """Pixels of a picture of Qt."""
    picture = picture.convertToFormat(picture.Format.Format_RGB32)
    bits = picture.constBits()
    if hasattr(bits, "setsize"):  # PyQt
        bits.setsize(picture.sizeInBytes())
    return np.frombuffer(bits, np.uint8).reshape(picture.height(), -1, 4)


def is_reached_by_tab(widget):
    return bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus) and widget.isVisible()


def test_a_reader_hears_a_name_for_everything_that_can_be_reached(full, qtbot):
    for index in range(full.tabs.count()):
        full.tabs.setCurrentIndex(index)
        QTest.qWait(30)
        nameless = [
            widget
            for widget in full.findChildren(QWidget)
            if is_reached_by_tab(widget)
            and isinstance(widget, QAbstractButton | QComboBox | QLineEdit)
            and not (widget.accessibleName() or getattr(widget, "text", str)())
            and not isinstance(widget.parent(), QComboBox)
            and "spinbox" not in widget.objectName()
        ]
        assert [type(w).__name__ for w in nameless] == []


def place(full, widget):
    """Where a widget begins: from top to bottom, then from left to right."""
    corner = widget.mapTo(full, widget.rect().topLeft())
    return corner.y() + widget.height() / 2, corner.x()


def reached(full, page):
    """What the tab key reaches on a page, from its first widget on."""
    full.tabs.setFocus()
    full.focusNextChild()
    widget, chain = full.window().focusWidget(), []
    while page.isAncestorOf(widget) and widget not in chain:
        chain.append(widget)
        full.focusNextChild()
        widget = full.window().focusWidget()
    return chain


def test_tab_goes_from_top_to_bottom(full, qtbot):
    for index in range(full.tabs.count()):
        full.tabs.setCurrentIndex(index)
        QTest.qWait(30)
        chain = reached(full, full.tabs.currentWidget())
        buttons = [w for w in chain if isinstance(w, QAbstractButton | QComboBox)]
        assert buttons
        spots = [place(full, button) for button in buttons]
        for (above, left), (below, right) in itertools.pairwise(spots):
            assert below > above - 8, (above, below)
            assert below > above + 8 or right > left
