"""A round on strokes that contradict the earlier ones, computed for real."""

import numpy as np
import pytest

from napari_unet.events import CancelToken
from napari_unet.execution.protocol import events_of
from napari_unet.gui.train_panel import TrainPanel

pytestmark = pytest.mark.gui
QUICK = {
    "max_steps": 20, "depth": 1, "width": 8, "patch": (32,), "batch": 4,
    "unpainted": False, "device": "cpu", "max_seconds": 900.0, "normalize": "minmax",
}  # fmt: skip


def compute(desk):
    """Do the job that was asked for last, and all that follow from it."""
    job = None
    while job is not desk.job:
        job = desk.job
        target = f"napari_unet.api:{job.name}"
        for event in events_of(target, (), job.arguments, CancelToken(), "napari_unet"):
            job.play(event)


def bars():
    """Bright bars, and strokes on them and between them: enough to hold some out."""
    image, strokes = np.zeros((160, 160), np.float32), np.zeros((160, 160), np.uint8)
    for left in range(20, 160, 36):
        image[20:140, left : left + 12] = 1
        for row in (25, 75, 125):
            strokes[row : row + 8, left + 4 : left + 8] = 2
            strokes[row : row + 8, left + 16 : left + 24] = 1
    return image, strokes


def output(desk):
    """Pixels of a preview of the whole image by the model in use."""
    desk.controller.previews.ask({"kind": "probabilities"})
    compute(desk)
    shown = [layer for layer in desk.viewer.layers if "preview" in layer.name]
    return [np.array(layer.data) for layer in shown]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_flipped_labels_trip_the_guard_and_undo_restores_every_bit(desk, qtbot):
    image, strokes = bars()
    desk.viewer.add_image(image, name="cells", axis_labels=("y", "x"))
    desk.viewer.scene.camera.center = (0, 80, 80)
    desk.viewer.scene.camera.zoom = 0.5
    page = TrainPanel(desk.controller)
    qtbot.addWidget(page)
    desk.controller.session.subscribe(page.show_view)
    desk.controller.painting.new()
    layer = desk.viewer.layers["cells · strokes"]
    layer.data[:] = strokes
    desk.controller.painting.recount()
    desk.controller.training.train(QUICK)
    compute(desk)
    good = desk.state.model
    assert good.name == "cells-round-1.safetensors"
    before = output(desk)
    assert before[0].shape == image.shape

    layer.data[:] = np.where(strokes > 0, 3 - strokes, 0)
    desk.controller.painting.recount()
    desk.controller.training.train(QUICK)
    compute(desk)
    assert desk.state.model == good
    assert desk.view.status.startswith(f"Kept {good.name}: round 2 is worse")
    said = page.score.text()
    assert said.startswith(f"Round 2 is not used; still using {good.name}.")
    assert "the new strokes contradict the old ones" in said
    assert same(output(desk), before)

    page.use_anyway.click()
    compute(desk)
    assert desk.state.model.name == "cells-round-2.safetensors"
    assert not same(output(desk), before)
    page.rounds.undo.click()
    assert desk.state.model == good
    assert same(output(desk), before)
