"""Annotation projects: made, painted on, killed, moved, copied."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from functools import partial

import numpy as np
import pytest

from napari_unet import disk, files
from napari_unet.batch.locks import Locks
from napari_unet.batch.owners import Owner
from napari_unet.errors import OutputError, ProjectError
from napari_unet.projects import folders, marks, places, recovery, stroke_files
from napari_unet.projects.folders import SilentError, is_project
from napari_unet.projects.newcomers import NewPicture
from napari_unet.projects.packing import copy
from napari_unet.projects.project import Project
from napari_unet.projects.schema import Region, StrokeClass
from napari_unet.projects.tally import Tally


def picture(folder, name="cells", shape=(3, 20, 30), axes="ZYX", seed=0, **more):
    pixels = np.random.default_rng(seed).integers(0, 9, shape, dtype="u2")
    path = folder / f"{name}.npy"
    np.save(path, pixels)
    return NewPicture(name, axes, shape, pixels, path, **more)


def test_what_was_put_into_a_project_is_there_when_it_is_opened_again(tmp_path):
    with_channels = picture(
        tmp_path,
        shape=(2, 20, 30),
        axes="CYX",
        scale={"Y": 0.5, "X": 0.5},
        units={"Y": "µm", "X": "µm"},
    )
    project = Project.create(tmp_path / "project", "Nuclei")
    made = project.add(with_channels)
    project.strokes(made.id)[4:6, 7] = 2
    box = Region(bounds={"Y": (2, 9), "X": (0, 30)}, unpainted=1)
    project.change_picture(made.id, boxes=(box,))
    third = StrokeClass(number=3, name="mitösis", colour="#aa0011", hidden=True)
    project.change(
        classes=(*project.contents.classes, third),
        kind="classes",
        settings={"max_seconds": 12.5},
    )
    checkpoint = project.rounds_folder / "one.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    project.add_round(checkpoint, files.digest(checkpoint), None, 0.8)
    project.close()

    again = Project.open(tmp_path / "project" / "project.json")
    assert again.contents == project.contents
    assert again.contents.classes[2] == third
    assert again.contents.pictures[0].boxes == (box,)
    assert again.contents.pictures[0].scale == {"Y": 0.5, "X": 0.5}
    assert again.rounds() == [checkpoint]
    assert again.contents.pictures[0].path == "../cells.npy"
    strokes = again.strokes(made.id)
    assert strokes.shape == (20, 30)
    assert strokes.dtype == np.uint8
    assert {tuple(p) for p in np.argwhere(strokes)} == {(4, 7), (5, 7)}
    again.close()
    assert sorted(p.name for p in (tmp_path / "project").iterdir()) == [
        "project.json",
        "rounds",
        "strokes",
    ]


_PAINT = """
    import os, signal, sys
    from napari_unet.projects.project import Project
    project = Project.open(sys.argv[1])
    strokes = project.strokes(project.contents.pictures[0].id)
    strokes[1, 2:5, 3] = 7
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_painted_survives_a_kill(tmp_path):
    project = Project.create(tmp_path / "project")
    made = project.add(picture(tmp_path))
    project.close()
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_PAINT), str(project.folder)],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    again = Project.open(tmp_path / "project")  # the lock of the dead is taken over
    found = np.argwhere(again.strokes(made.id) == 7)
    assert found.tolist() == [[1, 2, 3], [1, 3, 3], [1, 4, 3]]
    again.close()


def test_two_programs_do_not_paint_on_one_project(tmp_path):
    first = Project.create(tmp_path / "project")
    with pytest.raises(ProjectError, match=r"open elsewhere.*process"):
        Project.open(tmp_path / "project")
    made = first.add(picture(tmp_path))
    looking = Project.open(tmp_path / "project", writable=False)
    with pytest.raises(ValueError, match="read-only"):
        looking.strokes(made.id)[0] = 1
    first.close()
    Project.open(tmp_path / "project").close()


@pytest.fixture
def elsewhere(tmp_path):
    """A project that another computer has open, and the locks of that one."""
    Project.create(tmp_path / "project").close()
    theirs = Locks(tmp_path / "project", stale=0.4)
    theirs._me = Owner("elsewhere", 1, 0.0)
    assert theirs.take("project") is not None
    yield theirs
    theirs.close()


def test_a_project_of_a_computer_that_crashed_is_free_after_a_while(
    elsewhere, tmp_path, monkeypatch
):
    monkeypatch.setattr(folders, "Locks", partial(Locks, stale=0.4))
    with pytest.raises(SilentError, match=r"process 1 on elsewhere.*free in 30 sec"):
        Project.open(tmp_path / "project")
    elsewhere._held.clear()  # its heart stops
    Project.open(tmp_path / "project", wait=True).close()


def test_a_project_of_a_computer_that_lives_is_not_taken(elsewhere, tmp_path):
    with pytest.raises(ProjectError, match=r"elsewhere\. Close it there") as told:
        Project.open(tmp_path / "project", wait=True)
    assert not isinstance(told.value, SilentError)
    mine = Project.create(tmp_path / "mine")
    with pytest.raises(ProjectError, match="Close it there"):  # told at once
        Project.open(tmp_path / "mine")
    mine.close()


def test_an_image_is_found_again_when_it_moved_and_told_when_it_changed(tmp_path):
    data, lab = tmp_path / "data", tmp_path / "lab"
    data.mkdir()
    lab.mkdir()
    project = Project.create(lab / "project")
    far = project.add(picture(data, "far"))
    near = project.add(picture(lab, "near", seed=1))
    layer = project.add(NewPicture("layer", "YX", (4, 4), np.ones((4, 4))))
    project.close()
    assert far.path == str(data / "far.npy")
    assert near.path == "../near.npy"
    folder = project.folder
    assert places.locate(far, folder) == (data / "far.npy", "there")
    assert places.locate(layer, folder) == (None, "no file")

    (lab / "deeper").mkdir()
    (lab / "near.npy").rename(lab / "deeper" / "near.npy")
    assert places.locate(near, folder) == (lab / "deeper" / "near.npy", "moved")

    np.save(data / "far.npy", np.zeros((3, 20, 30)))
    assert places.locate(far, folder) == (data / "far.npy", "changed")
    (data / "far.npy").unlink()
    assert places.locate(far, folder) == (None, "missing")

    lab.rename(tmp_path / "mailed")  # both together: nothing is lost
    (tmp_path / "mailed" / "deeper" / "near.npy").rename(
        tmp_path / "mailed" / "near.npy"
    )
    moved = tmp_path / "mailed" / "project"
    assert places.locate(near, moved) == (moved / ".." / "near.npy", "there")


def test_a_copy_has_everything_and_is_its_own(tmp_path):
    project = Project.create(tmp_path / "first")
    made = project.add(picture(tmp_path))
    project.strokes(made.id)[2, 5] = 3
    project.rounds_folder.mkdir()
    (project.rounds_folder / "one.safetensors").write_bytes(b"weights")
    one = project.rounds_folder / "one.safetensors"
    project.add_round(one, files.digest(one), 0.5, 0.6)
    target = tmp_path / "elsewhere" / "deep" / "copy"
    copy(project, target)
    project.close()
    second = Project.open(target)
    assert second.rounds() == [target / "rounds" / "one.safetensors"]
    assert places.locate(second.contents.pictures[0], target)[1] == "there"
    np.testing.assert_array_equal(second.strokes(made.id), project.strokes(made.id))
    second.strokes(made.id)[:] = 0
    assert project.strokes(made.id).any()
    second.close()
    with pytest.raises(OutputError, match="there already"):
        copy(project, target)


def test_a_large_project_takes_the_disk_of_what_is_painted(tmp_path):
    path = tmp_path / "strokes.npy"
    stroke_files.create(path, (400, 1024, 1024), "uint16")  # 839 MB
    strokes = stroke_files.opened(path, (400, 1024, 1024), "uint16")
    assert all(stop < 4096 for _, stop in stroke_files.slabs(strokes))  # the header's
    strokes[7, 100:110, 5] = 300
    strokes[399, 1023, 1023] = 2
    assert Tally(strokes).counts == {2: 1, 300: 10}
    spans = list(stroke_files.slabs(strokes))
    assert sum(stop - start for start, stop in spans) < 1 << 20
    flat = (np.flatnonzero(strokes[7]) + 7 * 1024 * 1024).tolist()
    assert all(any(a <= i < b for a, b in spans) for i in [*flat, strokes.size - 1])
    stroke_files.flush(path, strokes)
    assert path.stat().st_blocks * 512 < 1 << 20
    stroke_files.create(tmp_path / "copy.npy", (400, 1024, 1024), "uint16")
    other = stroke_files.opened(tmp_path / "copy.npy", strokes.shape, "uint16")
    stroke_files.copy(strokes, other)
    assert Tally(other).counts == {2: 1, 300: 10}
    assert os.stat(tmp_path / "copy.npy").st_blocks * 512 < 1 << 26


def test_more_than_255_objects_get_wider_strokes(tmp_path):
    project = Project.create(tmp_path / "project")
    made = project.add(picture(tmp_path))
    project.strokes(made.id)[0, 0, :5] = 200
    wide = project.strokes(project.convert(made.id, "uint16"))
    wide[0, 0, 0] = 999
    project.close()
    again = Project.open(tmp_path / "project")
    (only,) = again.contents.pictures
    assert only.dtype == "uint16"
    assert again.strokes(only.id)[0, 0].tolist() == [999] + 4 * [200] + 25 * [0]
    assert len(list((tmp_path / "project" / "strokes").iterdir())) == 1
    again.close()


def test_the_tally_equals_a_full_count_after_strokes_and_undo():
    random = np.random.default_rng(5)
    strokes = np.zeros((3, 500, 400), np.uint8)
    tally = Tally(strokes)
    undone = []
    for _ in range(40):
        corner = [int(random.integers(0, n - 8)) for n in (9, 500, 400)]
        parts = [slice(corner[0] % 3, corner[0] % 3 + 1)]
        region = (*parts, *(slice(c, c + 8) for c in corner[1:]))
        undone.append((region, strokes[region].copy()))
        strokes[region] = random.integers(0, 4)
        tally.touch(region)
        assert tally.catch_up()
        assert tally.counts == _counts(strokes)
    for region, before in reversed(undone):
        strokes[region] = before
    tally.look_back()
    while not tally.catch_up(most=3):
        pass
    assert tally.counts == _counts(strokes) == {}


def _counts(strokes):
    return dict(sorted(Counter(strokes[strokes > 0].tolist()).items()))


def test_strokes_without_a_project_are_found_for_the_same_image(tmp_path):
    place = tmp_path / "recovery"
    image = picture(tmp_path)
    assert recovery.matching(place, image) == []
    lost = recovery.begin(place, "cells / 2")
    made = lost.add(image)
    lost.strokes(made.id)[0, 1, 1] = 2
    lost.close()
    empty = recovery.begin(place, "other")
    empty.add(image)
    empty.close()
    assert recovery.drop_if_empty(empty)
    assert not recovery.drop_if_empty(lost)
    (place / "rubbish").mkdir()
    (found,) = recovery.matching(place, image)
    assert found.folder == lost.folder
    assert found.picture.id == made.id
    again = np.array(image.data)  # another layer of the same image, under another name
    assert (
        len(recovery.matching(place, NewPicture("x", "ZYX", again.shape, again))) == 1
    )
    again[0] += 1
    assert not recovery.matching(place, NewPicture("x", "ZYX", again.shape, again))


class _Lazy:
    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, index):
        return np.asfortranarray(self._array[index])


def test_marks_tell_images_apart_and_know_them_again(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 99, (6, 200, 300), dtype="u2")
    assert marks.of_pixels(_Lazy(pixels)) == marks.of_pixels(pixels)
    assert marks.of_pixels(pixels) != marks.of_pixels(pixels[::-1])
    assert marks.of_pixels(pixels) != marks.of_pixels(pixels.astype("u4"))
    large = tmp_path / "large.raw"
    with large.open("wb") as file:
        file.truncate(200 << 20)
    before = marks.of_file(large)
    assert before.startswith("parts:")
    with large.open("r+b") as file:
        file.truncate((200 << 20) + 1)
    assert marks.of_file(large) != before


def test_a_full_disk_leaves_the_project_as_it_was(tmp_path):
    project = Project.create(tmp_path / "project")
    project.add(picture(tmp_path))
    before = (tmp_path / "project" / "project.json").read_bytes()

    def full(call, _path):
        if call in ("reserve", "write"):
            raise OSError(28, "No space left on device")

    with disk.observed(full), pytest.raises(OutputError, match="no space left"):
        project.add(picture(tmp_path, "second", seed=2))
    assert (tmp_path / "project" / "project.json").read_bytes() == before
    assert len(project.contents.pictures) == 1
    assert len(list((tmp_path / "project" / "strokes").iterdir())) == 1
    project.close()


def test_a_project_is_known_by_its_file(tmp_path):
    assert not is_project(tmp_path)
    Project.create(tmp_path / "a").close()
    assert is_project(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "project.json").read_text())["version"] == 1
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="something in b"):
        Project.create(tmp_path / "b")
