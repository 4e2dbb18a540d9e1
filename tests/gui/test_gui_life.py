"""What happens to the dock and its jobs when things are closed, moved or killed."""

import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget
from safetensors.numpy import load_file

from napari_unet.events import Cancelled, Finished, Progress, Started, Written
from napari_unet.execution.child_process import Child
from napari_unet.execution.protocol import is_last
from napari_unet.gui.closing import Closing
from napari_unet.gui.dock import dock_for
from napari_unet.gui.unseen import Unseen

pytestmark = pytest.mark.gui


def wait(qtbot, dock):
    session = dock.controller.session
    qtbot.waitUntil(lambda: session.state.activity is None, timeout=120000)
    return session.state


def children():
    return set(psutil.Process().children(recursive=True))


def kill(processes):
    for process in processes:
        process.send_signal(signal.SIGKILL)


def test_killed_children_and_closed_docks(
    make_napari_viewer, qtbot, monkeypatch, tmp_path
):
    """A real child: what runs may die, and a job outlives its dock."""
    notes, before = [], children()
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data")
    monkeypatch.setattr(
        "napari_unet.gui.shared._notify", lambda *note: notes.append(note)
    )
    viewer = make_napari_viewer(show=True)
    dock = dock_for(viewer)
    session = dock.controller.session
    dock.try_sample()
    wait(qtbot, dock)
    dock.predict.options.fields["tta"].value = "rotations"  # takes a while
    dock.predict.predict.click()
    qtbot.waitUntil(lambda: is_under_way(session.state.activity), timeout=60000)
    kill(children() - before)
    assert wait(qtbot, dock).tone == "bad"

    dock.predict.predict.click()
    viewer.window.remove_dock_widget(dock)
    goes_on = "Predicting nuclei goes on. Open U-Net again to see it."
    qtbot.waitUntil(lambda: notes[-1] == ("info", goes_on), timeout=30000)
    state = wait(qtbot, dock)
    qtbot.waitUntil(lambda: not children() - before, timeout=20000)
    assert notes[-1] == ("info", state.message)
    assert state.message.startswith("Predicted nuclei")
    again = dock_for(viewer)
    assert again.footer.status.text() == state.message
    result = viewer.layers["nuclei · prediction"].data
    assert result.shape == viewer.layers["nuclei"].data.shape


def test_a_killed_round_goes_on_to_the_weights_of_one_that_was_not(
    make_napari_viewer, qtbot, monkeypatch, tmp_path
):
    notes, before, sent = [], children(), trainings(monkeypatch)
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: tmp_path / "data")
    monkeypatch.setattr(
        "napari_unet.gui.shared._notify", lambda *note: notes.append(note)
    )
    viewer = make_napari_viewer(show=True)
    rng = np.random.default_rng(0)
    viewer.add_image(rng.normal(size=(64, 64)).astype("f4"), name="cells")
    dock = dock_for(viewer)
    dock.controller.painting.new()
    strokes = viewer.layers["cells · strokes"].data
    strokes[8:56:8, :60], strokes[12:56:8, :60] = 1, 2
    dock.controller.painting.recount()
    painted = strokes.copy()
    count_steps(dock.train, 150)
    session = dock.controller.session
    plan = "New U-Net: 2D, 8–16 channels"
    qtbot.waitUntil(lambda: dock.train.outlook_fold.title == plan, timeout=90000)
    for number in range(1, 5):  # a training may be over before it is killed
        dock.train.train.click()
        qtbot.waitUntil(lambda n=number: len(sent) == n, timeout=90000)
        qtbot.waitUntil(lambda: is_kept(sent[-1]) or not is_busy(dock), timeout=90000)
        kill(children() - before)
        if wait(qtbot, dock).cut_short is not None:
            break
    first, state = sent[-1], session.state
    assert (state.tone, notes[-1][0]) == ("bad", "error")
    assert "process died" in state.message
    assert state.message.endswith(f"Go on continues round {state.cut_short.number}.")
    assert dock.train.train.isEnabled()
    assert 0 < state.cut_short.share < 1
    dock.train.go_on.click()
    state = wait(qtbot, dock)
    assert sent[-1]["go_on"]
    assert state.tone == "good", state.message
    np.testing.assert_array_equal(strokes, painted)
    whole = undisturbed(first, qtbot, tmp_path / "undisturbed.safetensors")
    resumed = load_file(first["output"])
    assert list(resumed) == list(whole)
    for name, weights in whole.items():
        np.testing.assert_array_equal(resumed[name], weights, err_msg=name)


def trainings(monkeypatch):
    """List what is sent to the child for each training."""
    sent, run = [], Child.run

    def noted(self, target, **more):
        if target.endswith("iter_finetune") and not more.get("only_plan"):
            sent.append(more)
        return run(self, target, **more)

    monkeypatch.setattr(Child, "run", noted)
    return sent


def count_steps(page, steps):
    """Let a training end by its steps, which are quick."""
    page.form.fields["max_seconds"].value = 900
    small = {"max_steps": steps, "device": "cpu"}
    small |= {"depth": 1, "width": 8, "patch": 32, "batch": 2}
    for name, value in small.items():
        form = page.outlook.form if name in page.outlook.form.fields else page.options
        form.fields[name].value = str(value)


def is_kept(arguments):
    """Whether a training has kept its state."""
    return Path(arguments["output"]).with_suffix(".training").exists()


def is_busy(dock):
    return dock.controller.session.state.activity is not None


def undisturbed(arguments, qtbot, path):
    """Do the same training in a child that nobody kills; return its weights."""
    events = []
    arguments = {**arguments, "output": str(path), "on_event": events.append}
    with Child() as child:
        child.run("napari_unet.api:iter_finetune", **arguments)
        qtbot.waitUntil(lambda: any(map(is_last, events)), timeout=120000)
    return load_file(path)


def is_under_way(activity):
    return activity is not None and bool(activity.fraction)


def disturb(viewer, rng):
    """Do what a person may do at any time, to the image or to any other layer."""
    if not viewer.layers:
        return
    layers = [viewer.layers[0], *viewer.layers]
    first = layers[rng.integers(len(layers))]

    def rename():
        first.name = f"other {rng.integers(99)}"

    def rescale():
        first.scale = [*first.scale[:-1], 2.5]
        first.translate = [*first.translate[:-1], 7]

    def edit():
        if first.data.flags.writeable:
            first.data[..., :4, :4] = 7

    def replace():
        first.data = np.zeros((3, 20, 30), first.data.dtype)

    def other_axes():
        first.axis_labels = ("z", "y", "x")

    def turn():
        viewer.dims.ndisplay = 5 - viewer.dims.ndisplay

    def remove():
        viewer.layers.remove(first)

    def clear():
        viewer.layers.clear()

    def hide():
        first.visible = not first.visible

    def reorder():
        viewer.layers.move(0, len(viewer.layers))

    def scroll():
        viewer.dims.set_point(0, int(rng.integers(6)))

    def add():
        viewer.add_image(np.zeros((9, 9)), name=first.name)

    acts = [
        *(rename, rescale, edit, replace, other_axes, turn, remove, clear, hide),
        *(reorder, scroll, add),
    ]
    acts[rng.integers(len(acts))]()


@pytest.mark.parametrize("kind", ["predict", "train", "preview", "batch"])
def test_layers_may_change_at_any_moment(desk, tmp_path, kind):
    """Two moments of twenty runs: no exception, and an end that blames nobody."""
    (tmp_path / "a.tif").write_bytes(b"x")
    desk.open_model()
    desk.viewer.scene.camera.center = (0, 16, 24)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        desk.viewer.layers.clear()
        desk.viewer.dims.ndisplay = 2
        desk.add_image((6, 32, 48), ("t", "y", "x"))
        desk.controller.painting.new()
        desk.viewer.layers["cells · strokes"].data[:, :2] = [[1], [2]]
        desk.controller.painting.recount()
        desk.controller.batch.choose([str(tmp_path / "a.tif")])
        start(desk, kind)
        job, moments = desk.job, rng.integers(6, size=2)
        for step, event in enumerate(events(job, kind)):
            for _ in range(int((moments == step).sum())):
                disturb(desk.viewer, rng)
            job.play(event)
        if kind == "train" and desk.job is not job:
            desk.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
        assert desk.state.activity is None
        assert desk.state.aside is None
        assert desk.state.tone != "bad", desk.state.message
    assert not desk.notes


def start(desk, kind):
    """Begin a job of a kind with the default settings."""
    page = desk.controller
    if kind == "predict":
        page.predicting.predict({})
    elif kind == "train":
        page.training.train({})
    elif kind == "batch":
        page.batch.run({})
    else:
        page.previews.ask({})


def events(job, kind):
    """Yield what a job tells while its result grows."""
    yield Started("")
    output = job.arguments["output"]
    if kind == "predict":
        np.save(output, np.zeros((6, 32, 48), np.uint8))
        for plane in (2, 4):
            yield Written((slice(plane, plane + 1), slice(0, 32), slice(0, 48)))
    yield Progress(1, 2)
    yield end(job, kind)


def end(job, kind):
    """Write what a job writes, and make its last event."""
    output = job.arguments["output"]
    if kind == "batch":
        (path,) = job.arguments["inputs"]
        done = {
            "input": path,
            "output": "",
            "probabilities": "",
            "status": "done",
            "reason": "",
        }
        return Finished({"items": [done]})
    if kind == "train":
        scores = {"score_before": 0.1, "score_after": 0.8, "stopped": False}
        return Finished({"path": output, **scores})
    region = job.arguments.get("region", {"T": slice(0, 6)})
    np.save(output, np.ones((region["T"].stop - region["T"].start, 32, 48), np.uint8))
    return Finished(output)


class Close:
    """The event of a window that its title bar closes, or a program."""

    def __init__(self, by_person=True):
        self.spontaneous = lambda: by_person
        self.ignored = False

    def type(self):
        return QEvent.Type.Close

    def ignore(self):
        self.ignored = True


@pytest.fixture
def window(qtbot):
    window = QWidget()
    qtbot.addWidget(window)
    window.show()
    return window


def test_closing_the_window_asks_stops_and_closes(desk, qtbot, window):
    asked = []
    closing = Closing(
        desk.controller.session, bool, lambda _, job: not asked.append(job)
    )
    closing.watch(window)
    assert not closing.eventFilter(window, Close())  # nothing runs
    desk.controller.models.open("a.pt")
    assert not closing.eventFilter(window, Close(by_person=False))
    for _ in range(2):
        assert closing.eventFilter(window, event := Close())
        assert event.ignored
    assert [job.title for job in asked] == ["Opening a.pt"]
    assert desk.job.cancelled
    assert window.isVisible()
    desk.job.play(Cancelled())
    qtbot.waitUntil(window.isHidden)


def test_closing_the_window_may_be_thought_better_of(desk, window):
    closing = Closing(desk.controller.session, bool, lambda *_: False)
    closing.watch(window)
    desk.controller.models.open("a.pt")
    assert closing.eventFilter(window, Close())
    assert not desk.job.cancelled


def test_a_window_that_is_gone_ends_everything(desk, qtbot):
    gone, window = [], QWidget()
    closing = Closing(desk.controller.session, lambda: gone.append(1))
    closing.watch(window)
    closing.watch(window)
    window.deleteLater()
    qtbot.waitUntil(lambda: gone == [1])


@pytest.mark.parametrize("visible", [True, False])
def test_only_what_no_dock_shows_is_told_outside(desk, visible):
    told, later = [], []
    session = desk.controller.session
    Unseen(session, lambda: visible, lambda *note: told.append(note), later.append)
    desk.open_model("a.pt")
    later.pop()()
    assert told == ([] if visible else [("info", desk.state.message)])
    assert not later
