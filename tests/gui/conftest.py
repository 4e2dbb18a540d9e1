"""A controller without Qt, on a viewer without a window."""

import contextlib

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet.gui.controller import Controller
from napari_unet.gui.layers import Layers

# Some tests train in this process. CUDA builds of PyTorch then load Triton, which
# crashes if Mesa's renderer has been loaded before it, and not after it.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

FACTS = {
    "ndim": 2,
    "in_channels": 1,
    "out_channels": 2,
    "classes": ["background", "nucleus"],
    "task": "semantic",
    "activation": "softmax",
    "family": "unet",
}


class FakeRunner:
    """Keeps jobs; the test plays their events."""

    def __init__(self):
        self.jobs = []
        self.closed = False

    def run(
        self,
        target,
        *,
        on_event,
        turn="usual",
        previews=True,
        stop_after=None,
        **arguments,
    ):
        self.jobs.append(FakeJob(target, arguments, on_event, turn, stop_after))
        return self.jobs[-1]

    def close(self):
        self.closed = True


class FakeJob:
    def __init__(self, target, arguments, on_event, turn, stop_after):
        self.name = target.partition(":")[2]
        self.arguments = arguments
        self.play = on_event
        self.turn = turn
        self.stop_after = stop_after
        self.done = self.cancelled = self.paused = False
        self.told = []

    def cancel(self):
        self.cancelled = True

    def tell(self, message):
        self.told.append(message)

    def pause(self, paused=True):
        self.paused = paused


class Desk:
    """A controller with everything around it that a test looks at."""

    def __init__(self, folder):
        self.viewer = ViewerModel()
        self.viewer.canvas.size = (100, 200)
        self.layers = Layers(self.viewer)
        self.runner = FakeRunner()
        self.notes = []
        self.views = []
        self.controller = Controller(
            self.layers,
            self.runner,
            folder / "private",
            folder / "rounds",
            folder / "recovery",
            post=lambda function: function(),
            background=lambda function: function(),
            notify=lambda severity, text: self.notes.append((severity, text)),
        )
        self.controller.session.subscribe(self.views.append)
        self.controller.strokes.connect(lambda: None)

    @property
    def state(self):
        return self.controller.session.state

    @property
    def view(self):
        return self.views[-1]

    @property
    def job(self):
        return self.runner.jobs[-1]

    def open_model(self, path="model.safetensors", **facts):
        from napari_unet.events import Finished

        self.controller.models.open(path)
        self.job.play(Finished({**FACTS, **facts}))

    def add_image(self, shape=(32, 48), labels=None, **more):
        data = np.arange(np.prod(shape), dtype="u2").reshape(shape)
        return self.viewer.add_image(data, name="cells", axis_labels=labels, **more)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    if desk.controller.projects.project is not None:
        desk.controller.projects.project.close()
