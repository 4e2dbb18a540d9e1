"""Project folders that were damaged or made to do harm: one clear error each."""

import copy
import json
import os

import numpy as np
import pytest

from napari_unet.errors import ProjectError, UNetError
from napari_unet.projects import places
from napari_unet.projects.newcomers import NewPicture
from napari_unet.projects.project import Project


@pytest.fixture
def folder(tmp_path):
    pixels = np.arange(600, dtype="u2").reshape(20, 30)
    np.save(tmp_path / "cells.npy", pixels)
    project = Project.create(tmp_path / "project")
    project.add(NewPicture("cells", "YX", (20, 30), pixels, tmp_path / "cells.npy"))
    project.close()
    return project.folder


def _set(*path_and_value):
    *path, value = path_and_value

    def change(contents):
        for part in path[:-1]:
            contents = contents[part]
        contents[path[-1]] = value

    return change


PICTURE = ("pictures", 0)
BAD = {
    "version 2": (_set("version", 2), "version that is not known.*found 2"),
    "no version": (_set("version", None), "version that is not known"),
    "other format": (_set("format", "x"), "no annotation project"),
    "unknown field": (_set("evil", 1), "damaged.*evil"),
    "id with a path": (_set(*PICTURE, "id", "../../x"), "damaged.*id"),
    "id with a drive": (_set(*PICTURE, "id", "c:x"), "damaged.*id"),
    "NUL in a path": (_set(*PICTURE, "path", "a\0b"), "damaged.*path"),
    "path as a number": (_set(*PICTURE, "path", 3), "damaged.*path"),
    "object ids": (_set(*PICTURE, "dtype", "object"), "damaged.*dtype"),
    "shape of text": (_set(*PICTURE, "shape", ["20", "30"]), "damaged.*shape"),
    "negative shape": (_set(*PICTURE, "shape", [-20, 30]), "damaged.*shape"),
    "huge shape": (_set(*PICTURE, "shape", [1 << 39, 1 << 39]), "larger than any"),
    "axes too few": (_set(*PICTURE, "shape", [2, 20, 30]), "axes and shape differ"),
    "axes twice": (_set(*PICTURE, "axes", "YY"), "damaged"),
    "box outside": (
        _set(*PICTURE, "boxes", [{"bounds": {"Y": [0, 21]}}]),
        "box lies outside",
    ),
    "box on no axis": (
        _set(*PICTURE, "boxes", [{"bounds": {"Q": [0, 1]}}]),
        "box lies outside",
    ),
    "box of text": (_set(*PICTURE, "boxes", [{"bounds": "all"}]), "damaged"),
    "scale 0": (_set(*PICTURE, "scale", {"Y": 0.0}), "size above 0"),
    "classes as a dict": (_set("classes", {}), "damaged.*classes"),
    "class 0": (_set("classes", 0, "number", 0), "damaged.*number"),
    "class twice": (_set("classes", 1, "number", 1), "two classes"),
    "colour": (_set("classes", 0, "colour", "url(x)"), "damaged.*colour"),
    "long name": (_set("name", "x" * 10_000), "damaged.*name"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_file_is_refused_in_one_sentence(folder, name):
    change, message = BAD[name]
    contents = json.loads((folder / "project.json").read_text())
    change(contents)
    (folder / "project.json").write_text(json.dumps(contents))
    with pytest.raises(ProjectError, match=message) as caught:
        Project.open(folder)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x80\x04\x95",
        b"[]",
        b'{"format": "unet-napari project"',
        b"[" * 100_000,
        b'{"format": "unet-napari project", "version": NaN}',
        b" " * ((16 << 20) + 1),
    ],
    ids=["empty", "pickle", "list", "torn", "deep", "nan", "large"],
)
def test_what_is_no_json_of_ours_is_refused(folder, text):
    (folder / "project.json").write_bytes(text)
    with pytest.raises(ProjectError, match=r"project\.json"):
        Project.open(folder)


def test_two_pictures_with_one_id_are_refused(folder):
    contents = json.loads((folder / "project.json").read_text())
    contents["pictures"].append(copy.deepcopy(contents["pictures"][0]))
    (folder / "project.json").write_text(json.dumps(contents))
    with pytest.raises(ProjectError, match="two images have one id"):
        Project.open(folder)


def _strokes(folder):
    (path,) = (folder / "strokes").iterdir()
    return path


def _cut(path):
    os.truncate(path, path.stat().st_size - 1)


def _lengthened(path):
    os.truncate(path, path.stat().st_size + 1)


def _other_shape(path):
    np.save(path, np.zeros((30, 20), np.uint8))


def _other_type(path):
    np.save(path, np.zeros((20, 30), np.float32))


def _objects(path):
    np.save(path, np.full((20, 30), None), allow_pickle=True)


def _fortran(path):
    np.save(path, np.asfortranarray(np.zeros((20, 30), np.uint8)))


def _a_link(path):
    other = path.parent.parent.parent / "secret.npy"
    path.rename(other)
    path.symlink_to(other)


def _a_folder(path):
    path.unlink()
    path.mkdir()


def _a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def _rubbish(path):
    path.write_bytes(b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000)


@pytest.mark.parametrize(
    "harm",
    [
        _cut, _lengthened, _other_shape, _other_type, _objects, _fortran, _a_link,
        _a_folder, _a_pipe, _rubbish, os.unlink,
    ],
)  # fmt: skip
def test_strokes_that_are_not_those_of_the_image_are_refused(folder, harm):
    harm(_strokes(folder))
    project = Project.open(folder, writable=False)
    with pytest.raises(ProjectError, match=r"strokes"):
        project.strokes(project.contents.pictures[0].id)


def test_a_folder_of_strokes_that_leads_elsewhere_is_refused(folder):
    (folder / "strokes").rename(folder.parent / "other")
    (folder / "strokes").symlink_to(folder.parent / "other")
    project = Project.open(folder, writable=False)
    with pytest.raises(ProjectError, match="outside the project"):
        project.strokes(project.contents.pictures[0].id)


@pytest.mark.parametrize("path", ["../../etc/passwd", "a/../../../b", "c:x"])
def test_a_relative_path_does_not_lead_out(folder, path):
    project = Project.open(folder, writable=False)
    picture = project.contents.pictures[0].model_copy(update={"path": path})
    with pytest.raises(UNetError, match="outside its surroundings"):
        places.locate(picture, folder)
