"""Projects are learned from by the command line and the API."""

import json

import numpy as np
import pytest
from training.training_images import class_strokes, two_tone

import napari_unet
from napari_unet.api import projects as api_projects
from napari_unet.cli import main
from napari_unet.config import FinetuneConfig
from napari_unet.errors import ProjectError
from napari_unet.events import Finished
from napari_unet.images.readers import open_image
from napari_unet.projects.newcomers import NewPicture
from napari_unet.projects.project import Project
from napari_unet.projects.schema import Region
from napari_unet.training.boxes import Box

SMALL = ["--depth", "1", "--width", "8", "--patch", "32", "--device", "cpu"]


@pytest.fixture
def project(tmp_path):
    """Strokes on one image, a complete box on the second, nothing on the third."""
    project = Project.create(tmp_path / "project")
    for number, name in enumerate("abc"):
        image, _ = two_tone(number)
        np.save(tmp_path / f"{name}.npy", image)
        new = NewPicture(name, "YX", image.shape, image, tmp_path / f"{name}.npy")
        made = project.add(new)
        if name == "a":
            project.strokes(made.id)[:] = class_strokes()
        if name == "b":
            box = Region(bounds={"Y": (0, 4)}, unpainted=1)
            project.change_picture(made.id, boxes=(box,))
    project.change(kind="classes")
    project.close()
    return project


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def fake(*args, **kwargs):
        calls.append((args, kwargs))
        yield Finished(None)

    monkeypatch.setattr(api_projects, "iter_finetune", fake)
    monkeypatch.setattr(api_projects, "_note", lambda *_: iter(()))
    return calls


def _learn(project, **settings):
    config = FinetuneConfig.build(**settings)
    return list(api_projects.iter_finetune_project(project.folder, None, "new", config))


def test_painted_images_their_strokes_and_boxes_are_handed_to_training(project, asked):
    _learn(project)
    ((images, strokes, model, output, config), more) = asked[0]
    assert (model, output, config.strokes) == (None, "new", "classes")
    assert [image.name for image in images] == ["a", "b"]
    with open_image(strokes[0]) as stack:
        np.testing.assert_array_equal(stack.read({}, "YX"), class_strokes())
    assert more["boxes"] == [(), (Box({"Y": (0, 4)}, 1),)]
    _learn(project, strokes="instances")
    assert asked[1][0][4].strokes == "instances"


def test_a_changed_image_is_asked_for(project, asked, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((48, 48), np.float32))
    with pytest.raises(ProjectError, match=r"image a has changed.*--changed-images"):
        _learn(project)
    _learn(project, changed_images="use")
    assert len(asked) == 1


def test_a_missing_image_is_named(project, asked, tmp_path):
    (tmp_path / "b.npy").unlink()
    with pytest.raises(ProjectError, match=r"image b is missing.*beside the folder"):
        _learn(project)


def test_without_paint_there_is_nothing_to_learn(tmp_path, asked):
    empty = Project.create(tmp_path / "empty")
    empty.close()
    with pytest.raises(ProjectError, match="Nothing is painted"):
        _learn(empty)


def test_the_command_line_trains_on_a_project_and_notes_the_round(
    project, tmp_path, capsys
):
    output = tmp_path / "project" / "rounds" / "new.safetensors"
    argv = [
        "finetune", "--json", "--project", str(project.folder), "--new",
        "--output", str(output), "--max-seconds", "2", *SMALL,
    ]  # fmt: skip
    assert main(argv) == 0, capsys.readouterr().err
    facts = json.loads(capsys.readouterr().out)
    assert facts["classes"] == [1, 2]
    again = Project.open(project.folder, writable=False)
    assert again.rounds() == [output]
    assert again.contents.rounds[0].path == "rounds/new.safetensors"


def test_a_project_in_use_is_read_and_only_the_round_is_not_noted(project, tmp_path):
    held = Project.open(project.folder)
    events = list(api_projects._note(project.folder, None))
    held.close()
    assert "not noted" in events[0].message
    assert "open elsewhere" in events[0].message


def test_project_or_images_but_not_both(capsys):
    argv = ["finetune", "--project", "p", "--image", "a", "--new", "--output", "x"]
    assert main(argv) == 2
    assert "not allowed with" in capsys.readouterr().err
    assert napari_unet.finetune_project
