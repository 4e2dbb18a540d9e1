"""What a round would train: planned as strokes are painted, shown, and changed."""

import numpy as np
import pytest
from test_gui_controller import painted

from napari_unet.api import iter_finetune
from napari_unet.checkpoints import load
from napari_unet.config import FinetuneConfig
from napari_unet.errors import StrokesError
from napari_unet.events import Cancelled, Finished
from napari_unet.execution.protocol import Failed, plain
from napari_unet.gui.outlooks import SETTINGS
from napari_unet.gui.train_panel import TrainPanel

QUICK = {"max_seconds": 0.01, "validation": 0.0, "device": "cpu"}


def plan(desk):
    """Let the job that was asked for compute, and return what it tells."""
    *_, last = iter_finetune(**desk.job.arguments)
    assert isinstance(last, Finished)
    desk.job.play(Finished(plain(last.result)))
    return desk.view.outlook


def ready(desk, shape=(32, 48), axes=None, **more):
    desk.add_image(shape, axes, **more)
    painted(desk, 1, 2)
    desk.controller.outlooks.set_settings({})
    desk.controller.catch_up()
    return desk


def test_a_new_network_is_planned_once_there_is_something_to_learn(desk):
    desk.add_image()
    desk.controller.outlooks.set_settings({})
    painted(desk, 1)
    desk.controller.catch_up()
    assert desk.runner.jobs == []
    assert desk.view.outlook.title == "New U-Net"
    painted(desk, 2)
    desk.controller.catch_up()
    assert (desk.job.name, desk.job.turn) == ("iter_finetune", "last")
    shown = plan(desk)
    assert shown.title == "New U-Net: 2D, 16–64 channels"
    for words in (
        "2D, 2 poolings; 16, 32, 64 channels.",
        "Each step learns from 16 patches of 32 × 48 px, about ",
        "Planned from 2 classes painted on 1 image of 32 × 48 px.",
    ):
        assert words in shown.text
    assert shown.hints == {
        "ndim": "2", "depth": "2", "width": "16", "poolings": "2, 2",
        "patch": "32, 48", "batch": "16",
    }  # fmt: skip
    jobs = len(desk.runner.jobs)
    desk.viewer.layers["cells · strokes"].data[:, 9] = 2
    desk.controller.painting.recount()
    desk.controller.catch_up()
    assert len(desk.runner.jobs) == jobs  # more of the same changes no plan


def test_thick_planes_are_told(desk):
    more = {"scale": (4, 1, 1), "units": ("um",) * 3}
    ready(desk, (8, 32, 48), ("z", "y", "x"), **more)
    desk.controller.outlooks.set_settings({"ndim": 3})
    desk.controller.catch_up()
    shown = plan(desk)
    assert "3D, poolings Z 0, Y 2, X 2; 8, 16, 32 channels." in shown.text
    assert "planes 4 pixels apart" in shown.text


def test_a_plan_that_cannot_be_made_says_why_and_one_that_was_replaced_is_asked_again(
    desk,
):
    ready(desk)
    desk.job.play(Failed(StrokesError("No", hint="Do.")))
    assert desk.view.outlook.text == "No. Do."
    desk.controller.outlooks.set_settings({"depth": 3})
    desk.controller.catch_up()
    job = desk.job
    job.play(Cancelled("replaced"))
    desk.controller.catch_up()
    assert desk.job is not job
    desk.controller.outlooks.set_settings({"depth": 99})
    desk.job.play(Cancelled("replaced"))
    desk.controller.catch_up()
    assert "depth" in desk.view.outlook.text


def test_patches_are_planned_for_a_model_too(desk, tmp_path):
    path = tmp_path / "made.safetensors"
    image = np.zeros((32, 48), "u2")
    strokes = np.zeros((32, 48), np.uint8)
    strokes[:, :2] = [1, 2]
    config = FinetuneConfig(**QUICK, depth=1, width=4)
    list(iter_finetune([image], [strokes], None, path, config))
    ready(desk)
    desk.job.play(Cancelled())
    desk.open_model(str(path))
    desk.controller.catch_up()
    shown = plan(desk)
    assert shown.title == "Patches: 16 of 32 × 48 px"
    assert not shown.is_new


CHANGES = {
    "ndim": lambda field: field.native.setCurrentIndex(1),
    "depth": lambda field: field.native.setText("1"),
    "width": lambda field: field.native.setText("4"),
    "poolings": lambda field: field.native.setText("0, 1, 2"),
    "patch": lambda field: field.native.setText("8"),
    "batch": lambda field: field.native.setText("3"),
}
"""What a person does to a control, and below what the training then does."""
MADE = {
    "ndim": {"ndim": 2},
    "depth": {"strides": [[2, 2, 2]]},
    "width": {"widths": [4, 8, 16]},
    "poolings": {"strides": [[1, 2, 2], [1, 1, 2]]},
    "patch": {"drawn": (16, 1, 8, 8, 8)},
    "batch": {"drawn": (3, 1, 8, 32, 48)},
}


def trained(desk, page, monkeypatch):
    """Press the button, train one step for real, and say what was trained."""
    from napari_unet.training.sampling import PatchSampler

    drawn, draw = [], PatchSampler.draw

    def spy(self, *args, **more):
        drawn.append(draw(self, *args, **more))
        return drawn[-1]

    page.train.click()
    monkeypatch.setattr(PatchSampler, "draw", spy)
    config = desk.job.arguments["config"].model_copy(update=QUICK)
    *_, last = iter_finetune(**{**desk.job.arguments, "config": config})
    desk.job.play(Cancelled())
    spec = load(last.result.path).spec
    return {**spec.architecture, "ndim": spec.ndim, "drawn": drawn[0].images.shape}


@pytest.mark.gui
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_the_plan_changes_the_training(desk, qtbot, monkeypatch, name):
    desk.add_image((8, 32, 48), ("z", "y", "x"))
    painted(desk, 1, 2)
    page = TrainPanel(desk.controller)
    qtbot.addWidget(page)
    desk.controller.session.subscribe(page.show_view)
    CHANGES[name](page.outlook.form.fields[name])
    made = trained(desk, page, monkeypatch)
    assert {key: made[key] for key in MADE[name]} == MADE[name]
