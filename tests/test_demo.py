import io
import subprocess
import sys

import numpy as np
import pytest

from napari_unet.demo import can_show, pictures, show
from napari_unet.demo.steps import _new_folder, _scores
from napari_unet.errors import UsageError


def test_grey_spans_black_to_white_and_is_enlarged():
    plane = np.linspace(100, 200, 64, dtype=np.float32).reshape(8, 8)
    picture = pictures.grey(plane, zoom=3)
    assert picture.shape == (24, 24, 3)
    assert picture.dtype == np.uint8
    assert (picture.min(), picture.max()) == (0, 255)
    assert not pictures.grey(np.ones((4, 4))).any()


def test_strokes_have_a_colour_each_and_leave_the_rest():
    plane = np.arange(16.0).reshape(4, 4)
    strokes = np.zeros((4, 4), np.uint8)
    strokes[0, 0], strokes[0, 1] = 1, 2
    picture = pictures.painted(plane, strokes, zoom=1)
    assert (picture[1:] == pictures.grey(plane, 1)[1:]).all()
    assert (picture[0, 0] != picture[0, 1]).any()
    assert np.ptp(picture[0, 0].astype(int)) > 0


def test_outlines_lie_where_labels_meet():
    labels = np.zeros((6, 6), int)
    labels[2:4, 2:4] = 1
    labels[2:4, 4:] = 2
    picture = pictures.outlined(np.zeros((6, 6)), labels, zoom=1)
    yellow = (picture == (255, 220, 0)).all(-1)
    assert yellow[2, 3]
    assert not yellow[2, 4]
    assert yellow[1, 2]
    assert not yellow[0].any()


def test_pictures_are_written(tmp_path):
    from skimage import io as images

    picture = pictures.side_by_side([np.zeros((4, 5, 3), np.uint8)] * 2)
    pictures.save(tmp_path / "deeper" / "a.png", picture)
    assert images.imread(tmp_path / "deeper" / "a.png").shape == (4, 16, 3)


def test_a_new_folder_each_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo_output", "demo_output_2"):
        folder = _new_folder(None)
        assert folder.name == name
        folder.mkdir()
    assert _new_folder(tmp_path / "demo_output").name == "demo_output"
    (tmp_path / "demo_output" / "mine").write_text("")
    with pytest.raises(UsageError):
        _new_folder(tmp_path / "demo_output")


def test_no_viewer_without_a_person_or_a_display(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert not can_show()
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    assert can_show()
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not can_show()


def test_viewer_is_another_process(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **_: (
            calls.append(command) or subprocess.CompletedProcess(command, 0)
        ),
    )
    assert show(tmp_path) == 0
    assert calls[0][1:3] == ["-m", "napari_unet.gui.show"]


def test_nuclei_are_scored_frame_by_frame():
    truth = np.zeros((2, 8, 8), int)
    truth[:, 2:5, 2:5] = [[[1]], [[2]]]
    labels = truth * 0
    labels[:, 2:5, 2:5] = 7
    assert _scores(labels, truth) == {"dice": 1.0, "f1": 1.0, "mean_ap": 1.0}
