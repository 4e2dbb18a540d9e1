"""Strokes, classes, boxes and the project of a viewer, without Qt."""

import json
from functools import partial

import numpy as np
import pytest

from napari_unet.batch.locks import Locks
from napari_unet.batch.owners import Owner
from napari_unet.events import Finished
from napari_unet.gui.strokes import stroke_colours
from napari_unet.images.readers import open_image
from napari_unet.projects import folders
from napari_unet.projects.project import Project
from napari_unet.projects.schema import Region
from napari_unet.training.boxes import Box


@pytest.fixture
def page(desk):
    """A painting page with an image, strokes on it, and nothing painted."""
    desk.add_image()
    desk.controller.painting.new()
    return desk.controller.painting


def strokes(desk):
    return desk.viewer.layers["cells · strokes"]


def dab(desk, at, number=None, size=3):
    layer = strokes(desk)
    layer.brush_size = size
    layer.paint(at, number or layer.selected_label)
    desk.controller.painting.recount()
    return layer


def on_disk(desk):
    """Strokes as another program reads them."""
    folder = desk.controller.projects.project.folder
    other = Project.open(folder, writable=False)
    return np.array(other.strokes(other.contents.pictures[0].id))


def test_painting_writes_to_the_file_of_the_project(desk, page):
    layer = dab(desk, (10, 10), 2)
    assert isinstance(layer.data, np.memmap)
    np.testing.assert_array_equal(on_disk(desk), layer.data)
    assert on_disk(desk)[10, 10] == 2
    layer.undo()
    assert not on_disk(desk).any()
    page.recount()
    assert desk.state.strokes.counts == {}


def test_strokes_without_a_project_are_offered_for_the_image_and_taken(
    desk, page, tmp_path
):
    image = desk.viewer.layers["cells"].data
    dab(desk, (10, 10), 2)
    painted = strokes(desk).data.copy()
    assert desk.view.annotation.project == "unsaved"
    lost = desk.controller.projects.project
    lost.close()  # the viewer is gone

    again = type(desk)(tmp_path)
    again.viewer.add_image(np.zeros((9, 9)), name="another")
    again.controller.catch_up()
    assert again.view.annotation.offer == ""
    again.viewer.add_image(image.copy(), name="renamed")
    again.controller.choose_image("renamed")
    again.controller.catch_up()
    assert f"{(painted > 0).sum()} px" in again.view.annotation.offer
    again.controller.lost.take()
    np.testing.assert_array_equal(
        again.viewer.layers["renamed · strokes"].data, painted
    )
    assert again.view.annotation.strokes == "renamed · strokes"
    assert again.controller.projects.project.folder == lost.folder
    again.controller.projects.project.close()


def test_a_session_without_paint_leaves_nothing(desk, page, tmp_path):
    assert len(list((tmp_path / "recovery").iterdir())) == 1
    desk.viewer.layers.remove(strokes(desk))
    desk.controller.close()
    assert list((tmp_path / "recovery").iterdir()) == []


def test_painting_goes_on_in_the_folder_it_was_saved_to(desk, page, tmp_path):
    dab(desk, (10, 10), 2)
    desk.controller.projects.save_as(tmp_path / "mine")
    assert desk.view.annotation.project == "mine"
    assert list((tmp_path / "recovery").iterdir()) == []
    dab(desk, (20, 20), 1)
    assert on_disk(desk)[20, 20] == 1
    assert on_disk(desk)[10, 10] == 2
    assert desk.controller.projects.project.folder == tmp_path / "mine"
    desk.controller.projects.save_as(tmp_path / "mine")
    assert "there already" in desk.view.status


def test_a_project_that_a_crashed_computer_left_is_waited_for(
    desk, tmp_path, monkeypatch
):
    Project.create(tmp_path / "theirs").close()
    theirs = Locks(tmp_path / "theirs")
    theirs._me = Owner("elsewhere", 1, 0.0)
    assert theirs.take("project") is not None
    theirs._held.clear()  # its heart stops
    monkeypatch.setattr(folders, "Locks", partial(Locks, stale=0.3))
    desk.controller.projects.open(tmp_path / "theirs")
    said = [view.status for view in desk.views]
    assert any("process 1 on elsewhere" in s and "Waiting" in s for s in said)
    assert desk.controller.projects.project.folder == tmp_path / "theirs"
    theirs.close()


def test_strokes_that_lie_in_memory_are_kept_when_they_are_painted_on(desk):
    desk.add_image()
    mine = np.zeros((32, 48), np.int64)
    mine[5, :7] = 2
    desk.viewer.add_labels(mine, name="cells · strokes")
    desk.controller.painting.paint(1)
    assert desk.controller.projects.project is None
    layer = dab(desk, (20, 20), 1)
    desk.controller.keeping.autosave()
    assert layer.data is mine  # and can still be undone
    np.testing.assert_array_equal(on_disk(desk), mine)
    layer.undo()
    dab(desk, (25, 25), 3)
    desk.controller.keeping.autosave()
    np.testing.assert_array_equal(on_disk(desk), mine)


def test_strokes_in_memory_go_to_the_project_that_is_open(desk, tmp_path):
    desk.add_image()
    mine = np.zeros((32, 48), np.int64)
    desk.viewer.add_labels(mine, name="cells · strokes")
    desk.controller.painting.paint(1)
    dab(desk, (20, 20), 1)
    desk.controller.keeping.autosave()
    first, before = desk.controller.projects.project.folder, mine.copy()
    Project.create(tmp_path / "other").close()
    desk.controller.projects.open(tmp_path / "other")
    desk.controller.keeping.autosave()
    assert desk.state.tone != "bad"
    dab(desk, (5, 5), 2)
    desk.controller.keeping.autosave()
    assert desk.controller.projects.project.folder == tmp_path / "other"
    np.testing.assert_array_equal(on_disk(desk), mine)
    kept = Project.open(first)
    (picture,) = kept.contents.pictures
    np.testing.assert_array_equal(kept.strokes(picture.id), before)
    kept.close()


def test_classes_are_renamed_coloured_hidden_removed_and_kept(desk, page):
    page.add_class()
    page.change_class(3, name="mitosis", colour="#aa0011")
    page.change_class(2, hidden=True)
    rows = desk.view.annotation.rows
    assert [(r.number, r.name, r.hidden) for r in rows] == [
        (1, "background", False),
        (2, "object", True),
        (3, "mitosis", False),
    ]
    layer = dab(desk, (10, 10), 3)
    np.testing.assert_allclose(layer.get_color(3)[:3], [170 / 255, 0, 17 / 255])
    assert layer.get_color(2)[3] == 0
    folder = desk.controller.projects.project.folder
    desk.controller.keeping.autosave()
    kept = json.loads((folder / "project.json").read_text())["classes"]
    assert [c["name"] for c in kept] == ["", "", "mitosis"]
    page.remove_class(3)
    assert not layer.data.any()
    assert [r.number for r in desk.view.annotation.rows] == [1, 2]
    layer.undo()
    page.recount()
    assert desk.state.strokes.counts[3] > 0
    page.change_class(2, colour="no colour")
    assert "cannot be changed" in desk.view.status
    assert stroke_colours().map(np.array([1]))[0, 3] == 1


def test_paint_takes_a_class_that_is_not_painted(desk, page):
    dab(desk, (10, 10), 1)
    page.start()
    assert strokes(desk).selected_label == 2
    assert strokes(desk).mode == "paint"


def test_objects_are_found_out_counted_and_numbered(desk, page):
    assert desk.view.annotation.kind == "auto"
    for number, at in enumerate([(6, 6), (16, 16), (26, 26)], start=1):
        dab(desk, at, number, size=6)
    assert desk.state.guess[0] == "instances"
    assert "look like objects" in desk.view.annotation.kind_note
    assert desk.view.annotation.objects.startswith("3 objects")
    assert not desk.view.annotation.add_class.enabled
    page.start()
    assert strokes(desk).selected_label == 4
    page.set_kind("classes")
    assert desk.view.annotation.objects == ""
    before = strokes(desk).data.copy()
    page.set_kind("instances")
    assert strokes(desk).data.dtype == np.uint16
    np.testing.assert_array_equal(strokes(desk).data, before)
    assert desk.controller.projects.project.contents.kind == "instances"
    dab(desk, (6, 36), 300)
    assert desk.state.strokes.counts[300] > 0
    np.testing.assert_array_equal(on_disk(desk), strokes(desk).data)


def predicted(desk, kind, data, **place):
    layer = desk.viewer.add_labels(data, name="cells · prediction", **place)
    layer.metadata.update({"unet": "prediction", "unet-kind": kind})
    desk.controller.refresh()
    return layer


def test_accepting_copies_the_object_under_the_cursor(desk, page):
    result = np.zeros((32, 48), np.uint8)
    result[4:9, 5:12] = 1
    result[20:25, 5:12] = 1
    assert desk.view.annotation.accept.tip == "Nothing is predicted yet."
    predicted(desk, "labels", result)
    dab(desk, (4, 5), 1, size=1)
    desk.viewer.cursor.position = (6, 8)
    page.accept()
    expected = np.zeros((32, 48))
    expected[4:9, 5:12] = 2
    expected[4, 5] = 1  # what a person painted stays
    np.testing.assert_array_equal(strokes(desk).data, expected)
    strokes(desk).undo()
    assert (strokes(desk).data > 0).sum() == 1
    strokes(desk).brush_size = 4
    desk.viewer.cursor.position = (30, 40)
    page.accept()  # background: what the brush covers
    assert strokes(desk).data[30, 40] == 1
    assert 4 < (strokes(desk).data == 1).sum() < 20


def test_accepting_from_a_part_of_the_view_gives_objects_new_numbers(desk, page):
    page.set_kind("instances")
    result = np.zeros((10, 10), np.int32)
    result[2:5, 2:5] = 70
    predicted(desk, "instances", result, translate=(15, 20))
    dab(desk, (2, 2), 8, size=1)
    desk.viewer.cursor.position = (18, 23)
    page.accept()
    assert (strokes(desk).data[17:20, 22:25] == 9).all()
    assert (strokes(desk).data > 0).sum() == 10
    desk.viewer.cursor.position = (24, 29)
    page.accept()
    assert "no object under the cursor" in desk.view.status
    desk.viewer.cursor.position = (1, 1)
    page.accept()
    assert "outside the prediction" in desk.view.status


def test_points_become_discs(desk, page):
    assert desk.view.annotation.discs.tip == "There is no points layer."
    desk.viewer.add_points([(8, 8), (20, 30)], size=[6, 1])
    page.paint(2)
    assert desk.view.annotation.discs.enabled
    page.discs()
    y, x = np.mgrid[:32, :48]
    expected = (y - 8) ** 2 + (x - 8) ** 2 <= 9
    expected[20, 30] = True
    np.testing.assert_array_equal(strokes(desk).data == 2, expected)
    strokes(desk).undo()
    assert not strokes(desk).data.any()


def test_a_box_is_kept_in_whole_pixels_and_reaches_training(desk, page):
    dab(desk, (10, 10), 2)
    desk.controller.boxes.draw()
    layer = desk.viewer.layers["cells · complete"]
    assert layer.mode == "add_rectangle"
    layer.add_rectangles([[(4.2, 5.9), (4.2, 12.6), (9.4, 12.6), (9.4, 5.9)]])
    (picture,) = desk.controller.projects.project.contents.pictures
    assert picture.boxes == (Region(bounds={"Y": (5, 10), "X": (6, 13)}),)
    assert desk.view.annotation.pictures[0].boxes == 1
    assert desk.view.train.enabled  # one class and a box
    desk.controller.training.train({})
    assert desk.job.arguments["boxes"] == [(Box({"Y": (5, 10), "X": (6, 13)}, 1),)]
    layer.selected_data = {0}
    layer.remove_selected()
    (picture,) = desk.controller.projects.project.contents.pictures
    assert picture.boxes == ()


def test_an_image_of_nothing_but_a_class_is_marked(desk, page):
    page.paint(2)
    assert desk.view.annotation.mark_all.text == "All is object"
    desk.controller.boxes.mark_rest()
    (picture,) = desk.controller.projects.project.contents.pictures
    assert picture.boxes == (Region(unpainted=2),)
    desk.controller.boxes.mark_rest()
    (picture,) = desk.controller.projects.project.contents.pictures
    assert picture.boxes == ()


def test_all_painted_images_of_the_project_are_learned_from(desk, page, tmp_path):
    dab(desk, (10, 10), 2)
    desk.viewer.add_image(np.full((20, 24), 7.0), name="second")
    desk.controller.choose_image("second")
    page.new()
    layer = desk.viewer.layers["second · strokes"]
    layer.paint((3, 3), 1)
    page.recount()
    desk.viewer.add_image(np.full((9, 9), 1.0), name="unpainted")
    desk.controller.choose_image("unpainted")
    page.new()
    desk.controller.choose_image("second")
    assert desk.view.train.enabled
    desk.controller.training.train({})
    asked = desk.job.arguments
    assert [source.name for source in asked["images"]] == ["second", "cells"]
    with open_image(asked["strokes"][1]) as stack:
        np.testing.assert_array_equal(
            stack.read({}, "YX"), desk.viewer.layers["cells · strokes"].data
        )
    result = {
        "path": str(tmp_path / "r-round-1.safetensors"),
        "digest": "0" * 64,
        "score_before": None,
        "score_after": 0.9,
        "stopped": False,
    }
    desk.job.play(Finished(result))
    (made,) = desk.controller.projects.project.contents.rounds
    assert (made.digest, made.after) == ("0" * 64, 0.9)


def test_a_project_opens_with_its_image_strokes_and_boxes(desk, tmp_path):
    from napari_unet.projects.newcomers import NewPicture

    pixels = np.arange(3 * 20 * 24, dtype="u2").reshape(3, 20, 24)
    np.save(tmp_path / "stack.npy", pixels)
    project = Project.create(tmp_path / "project")
    new = NewPicture(
        "stack", "ZYX", pixels.shape, pixels, tmp_path / "stack.npy",
        scale={"Z": 2.0, "Y": 0.5, "X": 0.5}, units={"Z": "µm", "Y": "µm", "X": "µm"},
    )  # fmt: skip
    made = project.add(new)
    project.strokes(made.id)[1, 4:8, 5] = 2
    box = Region(bounds={"Z": (1, 2), "Y": (2, 9), "X": (3, 8)})
    whole = Region(bounds={"Z": (2, 3)}, unpainted=1)
    project.change_picture(made.id, boxes=(box, whole))
    project.close()
    desk.controller.projects.open(tmp_path / "project")
    assert desk.view.status == "Opened the project project."
    image, layer = desk.viewer.layers["stack"], desk.viewer.layers["stack · strokes"]
    np.testing.assert_array_equal(image.data, pixels)
    np.testing.assert_allclose(image.scale, (2, 0.5, 0.5))
    assert desk.state.image.axes == "ZYX"
    assert desk.state.strokes.counts == {2: 4}
    np.testing.assert_allclose(layer.scale, image.scale)
    boxes = desk.viewer.layers["stack · complete"]
    boxes.events.data(value=boxes.data)  # read back as it was
    (picture,) = desk.controller.projects.project.contents.pictures
    assert box in picture.boxes
    assert whole in picture.boxes


def test_a_damaged_project_leaves_everything_as_it_is(desk, page, tmp_path):
    dab(desk, (10, 10), 2)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "project.json").write_text("{}")
    desk.controller.projects.open(tmp_path / "bad")
    assert "no annotation project" in desk.view.status
    assert desk.notes[-1][0] == "error"
    assert strokes(desk).data.any()


@pytest.mark.parametrize("name", ["paint", "box", "accept", "discs", "mark_all"])
def test_buttons_without_strokes_say_why(desk, name):
    assert getattr(desk.view.annotation, name).tip == "Open an image first."
    desk.add_image()
    button = getattr(desk.view.annotation, name)
    assert (button.enabled, button.tip) == (False, "Make a stroke layer first.")


def test_painting_rests_while_the_disk_is_nearly_full(desk, monkeypatch):
    image = np.broadcast_to(np.uint8(0), (70, 1024, 1024))  # strokes with holes
    desk.viewer.add_image(image, name="cells", axis_labels="zyx")
    desk.controller.painting.new()
    free = {"left": 100 << 20}
    monkeypatch.setattr(
        "shutil.disk_usage", lambda _: type("Usage", (), {"free": free["left"]})
    )
    desk.controller.keeping.autosave()
    assert not strokes(desk).editable
    assert "nearly full" in desk.view.status
    free["left"] = 10 << 30
    desk.controller.painting.start()
    assert strokes(desk).editable
