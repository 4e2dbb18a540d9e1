"""Every control of the Train page does something: one that has no check here fails."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QMenu,
    QMessageBox,
    QWidget,
)
from test_gui_controls import fields_of
from test_gui_rounds import keep_state, play_round, spots

from napari_unet.events import Cancelled, Finished, Progress
from napari_unet.gui.form import Form
from napari_unet.gui.learning import Round, Suspect
from napari_unet.gui.look import Folded
from napari_unet.gui.state import Offer
from napari_unet.gui.train_panel import TrainPanel
from napari_unet.projects import packing

pytestmark = pytest.mark.gui
KINDS = QAbstractButton, QAbstractItemView, QAbstractSpinBox, QComboBox, QLineEdit
CHECKS = {}


@dataclass
class Bench:
    """The page on a desk where all can be done, and what a check needs besides."""

    page: TrainPanel
    desk: Any
    patch: pytest.MonkeyPatch
    folder: Path

    @property
    def layer(self):
        return self.desk.viewer.layers["cells · strokes"]

    @property
    def projects(self):
        return self.desk.controller.projects

    def run(self):
        """Press the blue button, end the job, and return what it was given."""
        self.page.train.click()
        sent = self.desk.job.arguments
        self.desk.job.play(Cancelled())
        return sent

    def second_image(self):
        """Add another image with strokes to the project."""
        other = np.zeros((16, 16), np.uint16)
        self.desk.viewer.add_image(other, name="others", axis_labels=("y", "x"))
        self.desk.controller.choose_image("others")
        self.desk.controller.painting.new()


@pytest.fixture
def bench(desk, qtbot, monkeypatch, tmp_path):
    desk.add_image()
    desk.viewer.scene.camera.center = (0, 16, 24)
    desk.open_model("nuclei.pt")
    desk.controller.painting.new()
    desk.viewer.layers["cells · strokes"].data[:, :2] = [1, 2]
    desk.controller.painting.recount()
    page = TrainPanel(desk.controller)
    qtbot.addWidget(page)
    desk.controller.session.subscribe(page.show_view)
    return Bench(page, desk, monkeypatch, tmp_path)


def names_of(owner, prefix=""):
    """Name the widgets that are attributes of our panels, and of theirs."""
    names = {}
    for name, value in vars(owner).items():
        path = f"{prefix}{name}"
        if isinstance(value, list):
            names |= {id(widget): f"{path}[]" for widget in value}
        elif isinstance(value, Form):
            fields = value.fields.items()
            names |= {id(field.native): f"field {n}" for n, field in fields}
        elif isinstance(value, QWidget) and not name.startswith("_"):
            names[id(value)] = path
            if type(value).__module__.startswith("napari_unet"):
                names |= names_of(value, f"{path}.")
    return names


def controls(page):
    """Everything that a person can act on, but for the parts of such things."""
    for widget in page.findChildren(QWidget):
        above = widget.parentWidget()
        while above is not page and not isinstance(above, KINDS):
            above = above.parentWidget()
        if isinstance(widget, KINDS) and above is page:
            yield widget


def test_every_control_of_the_page_has_a_check(bench):
    names = names_of(bench.page)
    found = [
        "fold" if widget.property("fold") else names.get(id(widget), repr(widget))
        for widget in controls(bench.page)
    ]
    fields = {f"field {name}" for name in fields_of(bench.page)}
    assert set(found) == set(CHECKS) | fields


def check(*names):
    """Make a function the check of some controls."""

    def register(function):
        CHECKS.update(dict.fromkeys(names, function))
        return function

    return register


def pick(combo, text):
    """Choose from a list as a person does."""
    combo.setCurrentIndex(combo.findText(text))
    combo.textActivated.emit(text)


@check("strokes.new_strokes")
def makes_strokes(bench):
    bench.desk.viewer.layers.remove("cells · strokes")
    bench.page.strokes.new_strokes.click()
    assert "cells · strokes" in bench.desk.viewer.layers


@check("strokes.layers")
def chooses_strokes(bench):
    mine = np.zeros((32, 48), np.uint8)
    mine[:, :2] = [1, 2]
    bench.desk.viewer.add_labels(mine, name="mine")
    pick(bench.page.strokes.layers, "mine")
    assert bench.run()["strokes"][0].name == "mine"


@check("strokes.legend.rows[]")
def paints_a_class(bench):
    for number, row in enumerate(bench.page.strokes.legend.rows, start=1):
        row.click()
        assert bench.layer.selected_label == number


@check("strokes.legend.menus[]")
def opens_the_menu_of_a_class(bench):
    opened = []
    bench.patch.setattr(QMenu, "popup", lambda menu, *_: opened.append(menu))
    for number, button in enumerate(bench.page.strokes.legend.menus):
        button.click()
        (hide,) = [a for a in opened[-1].actions() if a.text() == "Hide"]
        hide.trigger()
        assert bench.desk.view.annotation.rows[number].hidden


@check("strokes.add_class")
def adds_a_class(bench):
    bench.page.strokes.add_class.click()
    assert bench.layer.selected_label == len(bench.page.strokes.legend.rows) == 3


@check("strokes.paint")
def takes_the_brush(bench):
    bench.layer.mode = "pan_zoom"
    bench.page.strokes.paint.click()
    assert bench.layer.mode == "paint"


@check("strokes.box")
def draws_a_box(bench):
    bench.page.strokes.box.click()
    boxes = bench.desk.viewer.layers.selection.active
    assert boxes.mode == "add_rectangle"
    boxes.add_rectangles([[4, 4], [4, 9], [9, 9], [9, 4]])
    assert bench.run()["boxes"][0][0].bounds == {"Y": (4, 10), "X": (4, 10)}


@check("strokes.accept")
def copies_what_is_predicted(bench):
    result = np.zeros((32, 48), np.uint8)
    result[20:24, 20:30] = 1
    found = bench.desk.viewer.add_labels(result, name="cells · prediction")
    found.metadata.update({"unet": "prediction", "unet-kind": "labels"})
    bench.desk.controller.refresh()
    bench.desk.viewer.cursor.position = (21, 25)
    bench.page.strokes.accept.click()
    np.testing.assert_array_equal(bench.layer.data[20:24, 20:30], 2)


@check("strokes.discs")
def paints_discs(bench):
    bench.desk.viewer.add_points([[10, 20]], size=4)
    bench.page.strokes.discs.click()
    assert bench.layer.data[10, 20] == 1


@check("strokes.mark_all")
def takes_the_rest_for_a_class(bench):
    bench.page.strokes.mark_all.click()
    assert [box.unpainted for box in bench.run()["boxes"][0]] == [1]


@check("strokes.kind")
def says_what_numbers_are(bench):
    pick(bench.page.strokes.kind, "objects")
    assert bench.run()["config"].strokes == "instances"


@check("strokes.save_as", "strokes.open")
def keeps_and_opens_a_project(bench):
    target = bench.folder / "mine"
    bench.patch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    bench.page.strokes.save_as.click()
    bench.page.train.click()
    assert Path(bench.desk.job.arguments["output"]).parent.parent == target
    bench.desk.job.play(Cancelled())
    packing.copy(bench.projects.project, bench.folder / "copy")
    bench.patch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_: str(bench.folder / "copy")
    )
    bench.page.strokes.open.click()
    assert bench.projects.project.folder == bench.folder / "copy"


@check("strokes.use_offer", "strokes.decline_offer")
def takes_or_leaves_earlier_strokes(bench):
    kept = bench.folder / "kept"
    packing.copy(bench.projects.project, kept)
    session = bench.desk.controller.session
    session.update(offer=Offer(str(kept), "cells", 64, 0.0))
    bench.page.strokes.decline_offer.click()
    assert bench.desk.view.annotation.offer == ""
    session.update(offer=Offer(str(kept), "cells", 64, 0.0))
    bench.page.strokes.use_offer.click()
    assert bench.projects.project.folder == kept


@check("strokes.pictures.list", "strokes.pictures.show_one")
def shows_an_image_of_the_project(bench):
    bench.second_image()
    pictures = bench.page.strokes.pictures
    pictures.list.itemDoubleClicked.emit(pictures.list.item(0))
    assert bench.run()["images"][0].name == "cells"
    pictures.list.setCurrentRow(1)
    pictures.show_one.click()
    assert bench.desk.view.image == "others"


@check("strokes.pictures.accept")
def takes_a_changed_file_as_fitting(bench):
    told, pictures = [], bench.page.strokes.pictures
    bench.patch.setattr(bench.projects, "accept_change", told.append)
    pictures.list.setCurrentRow(0)
    assert pictures.accept.isHidden()
    pictures.accept.click()
    assert told == [bench.projects.project.contents.pictures[0].id]


@check("strokes.pictures.remove")
def takes_an_image_out(bench):
    bench.page.strokes.pictures.list.setCurrentRow(0)
    bench.page.strokes.pictures.remove.click()
    assert bench.projects.project.contents.pictures == ()


@check("start")
def chooses_where_to_start(bench):
    assert bench.run()["model"] == "nuclei.pt"
    pick(bench.page.start, "A new U-Net")
    assert bench.run()["model"] is None


@check("train")
def trains(bench):
    bench.page.train.click()
    assert bench.desk.job.name == "iter_finetune"


@check("pause")
def rests(bench):
    bench.page.train.click()
    bench.desk.job.play(Progress(1, 60, "step 3, loss 0.1"))
    bench.page.pause.click()
    assert bench.desk.job.paused


@check("go_on")
def goes_on(bench):
    output = bench.run()["output"]
    keep_state(output, 10.0)
    bench.desk.controller.versions.look_for_cut_short()
    bench.page.go_on.click()
    sent = bench.desk.job.arguments
    assert (sent["go_on"], sent["output"]) == (True, output)


@check("use_anyway")
def uses_a_worse_round(bench):
    bench.desk.controller.session.update(declined=Round("/r/a-round-1.safetensors"))
    bench.page.use_anyway.click()
    assert bench.desk.job.arguments == {"model": "/r/a-round-1.safetensors"}


@check("next_spot")
def flies_to_doubt(bench):
    bench.page.next_spot.click()
    bench.desk.job.play(Finished(spots((5, 40))))
    assert bench.desk.viewer.scene.camera.center[-2:] == (5, 40)


@check("doubt")
def shows_doubt(bench):
    bench.page.doubt.click()
    bench.desk.job.play(Finished(spots()))
    assert "cells · doubt" in bench.desk.viewer.layers


@check("check")
def looks_for_wrong_strokes(bench):
    bench.page.form.fields["max_seconds"].value = 7
    bench.page.check.click()
    assert bench.desk.job.name == "iter_audit"
    assert bench.desk.job.arguments["config"].max_seconds == 7


@check("suspects")
def goes_to_a_stroke(bench):
    suspect = Suspect("", (("Y", 4), ("X", 7)), 2, 1, 0.9)
    bench.desk.controller.session.update(suspects=(suspect,))
    bench.page.suspects.setCurrentRow(0)
    assert bench.desk.viewer.scene.camera.center[-2:] == (4, 7)


@check("patches.button")
def shows_patches(bench):
    bench.page.options.fields["augment"].value = False
    bench.page.patches.button.click()
    assert bench.desk.job.name == "iter_patches"
    assert not bench.desk.job.arguments["config"].augment


@check("rounds.table", "rounds.use")
def uses_a_round(bench):
    one, two = play_round(bench.desk), play_round(bench.desk)
    table = bench.page.rounds.table
    table.itemDoubleClicked.emit(table.item(1, 0))
    table.selectRow(1)
    bench.page.rounds.use.click()
    assert bench.desk.job.arguments == {"model": one}
    bench.desk.job.play(Cancelled())
    assert bench.desk.state.model.path == two


@check("rounds.undo", "rounds.redo")
def goes_back_and_forth(bench):
    one = play_round(bench.desk)
    bench.page.rounds.undo.click()
    assert bench.desk.state.model.path == "nuclei.pt"
    bench.page.rounds.redo.click()
    assert bench.desk.state.model.path == one


@check("rounds.keep", "rounds.delete")
def keeps_and_deletes_a_round(bench):
    one = play_round(bench.desk)
    play_round(bench.desk)
    panel = bench.page.rounds
    yes = QMessageBox.StandardButton.Yes
    bench.patch.setattr(QMessageBox, "question", lambda *_: yes)
    panel.table.selectRow(1)
    panel.keep.click()
    assert not panel.delete.isEnabled()
    panel.keep.click()
    panel.delete.click()
    assert not Path(one).exists()
    assert len(bench.desk.state.rounds) == 1


@check("rounds.export")
def exports_a_round(bench):
    one = play_round(bench.desk)
    answer = ("/out/net.onnx", "ONNX (*.onnx)")
    bench.patch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer)
    bench.page.rounds.table.selectRow(1)
    bench.page.rounds.export.click()
    sent = bench.desk.job.arguments
    assert (sent["model"], sent["output"]) == (one, "/out/net.onnx")


@check("fold")
def opens_folds(bench):
    folds = bench.page.findChildren(Folded)
    assert len({fold.title for fold in folds}) == len(folds) > 4
    for fold in folds:
        header, content = fold.findChildren(QAbstractButton)[0], fold._content
        assert header.text() == fold.title
        assert content.isHidden()
        header.click()
        assert not content.isHidden()
        assert header.arrowType() == Qt.ArrowType.DownArrow


@pytest.mark.parametrize(
    "does", dict.fromkeys(CHECKS.values()), ids=lambda f: f.__name__
)
def test_a_control(bench, does):
    does(bench)
