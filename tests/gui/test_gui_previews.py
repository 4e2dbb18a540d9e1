"""Previews ahead of a running prediction, live previews, and the plan; without Qt."""

import threading
from pathlib import Path

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.errors import DeviceError
from napari_unet.events import Cancelled, CancelToken, Finished, Progress, Started
from napari_unet.execution.protocol import Failed
from napari_unet.gui.results import warm_up
from napari_unet.gui.staging import Staging, StagingStopped
from napari_unet.gui.state import Card

FORECAST = {
    "way": "stream",
    "plan": "streamed",
    "pieces": 64,
    "device": "CPU",
    "device_bytes": 10**9,
    "host_bytes": 2 * 10**8,
    "output_shape": (32, 48),
    "output_bytes": 1536,
    "seconds": 180.0,
}


@pytest.fixture
def ready(desk):
    """An image of which the canvas shows a part, and a model."""
    desk.add_image((300, 400))
    look_at(desk, 150, 200)
    desk.open_model()
    return desk


def look_at(desk, y, x, zoom=2):
    desk.viewer.scene.camera.zoom = zoom
    desk.viewer.scene.camera.center = (0, y, x)


def jobs(desk, turn):
    return [job for job in desk.runner.jobs if job.turn == turn]


def answer(job, value=1):
    """Play the end of a preview."""
    region = job.arguments["region"]
    shape = [part.stop - part.start for part in region.values()]
    np.save(job.arguments["output"], np.full(shape, value, np.uint8))
    job.play(Finished(job.arguments["output"]))


def preview_layers(desk):
    return [layer for layer in desk.viewer.layers if "preview" in layer.name]


def test_preview_goes_ahead_of_a_running_prediction(ready):
    ready.controller.predicting.predict({})
    main = ready.job
    main.play(Progress(1, 4, "1 of 4"))
    assert ready.view.preview.enabled
    ready.controller.previews.ask({"threshold": 0.3})
    (job,) = jobs(ready, "first")
    assert job.arguments["config"] == PredictConfig(threshold=0.3)
    assert job.arguments["region"] == {"Y": slice(125, 176), "X": slice(150, 251)}
    assert job.arguments["image"] == main.arguments["image"]
    main.play(Progress(2, 4, "2 of 4"))
    assert ready.view.status == "Predicting cells · 2 of 4"
    answer(job)
    assert [layer.name for layer in preview_layers(ready)] == ["cells · preview"]
    assert ready.view.status == "Predicting cells · 2 of 4"
    assert ready.view.fraction == 0.5


@pytest.mark.parametrize("kind", ["train", "batch", "inspect"])
def test_preview_waits_for_other_jobs(ready, kind):
    if kind == "inspect":
        ready.controller.models.open("more.pt")
    else:
        ready.controller.predicting.predict({})
        activity = ready.state.activity
        object.__setattr__(activity, "kind", kind)
        ready.controller.session.update(message="x")
    assert not ready.view.preview.enabled
    ready.controller.previews.ask({})
    assert jobs(ready, "first") == []
    assert "Another job runs" in ready.state.message


def test_the_newest_click_wins(ready):
    ready.controller.previews.ask({})
    look_at(ready, 100, 100)
    ready.controller.previews.ask({})
    old, new = jobs(ready, "first")
    answer(old, 1)
    assert preview_layers(ready) == []
    assert not Path(old.arguments["output"]).parent.exists()
    answer(new, 2)
    (layer,) = preview_layers(ready)
    assert layer.data.max() == 2
    np.testing.assert_array_equal(layer.translate, (75, 50))
    assert ready.view.status.startswith("Previewed the view (")


def test_a_preview_alone_is_shown_and_stopped(ready):
    ready.controller.previews.ask({})
    assert ready.view.status == "Predicting the view · preparing the image 100%"
    ready.job.play(Started("streamed"))
    assert ready.view.status == "Predicting the view"
    assert ready.view.busy
    assert ready.view.predict.enabled
    ready.job.play(Progress(1, 4))
    assert ready.view.status == "Predicting the view · 25%"
    ready.controller.stop()
    assert ready.job.cancelled
    assert ready.view.stop.text == "Stopping …"
    ready.job.play(Cancelled())
    assert ready.view.status == "Stopped."
    assert not ready.view.busy
    assert not Path(ready.job.arguments["output"]).parent.exists()


def test_stop_stops_the_prediction_and_its_preview(ready):
    ready.controller.predicting.predict({})
    main = ready.job
    ready.controller.previews.ask({})
    ready.controller.stop()
    assert main.cancelled
    assert ready.job.cancelled
    assert main is not ready.job


def test_prediction_starts_while_a_preview_runs(ready):
    ready.controller.previews.ask({})
    preview = ready.job
    ready.controller.predicting.predict({})
    assert ready.job.turn == "usual"
    answer(preview)
    assert preview_layers(ready)
    assert ready.view.status == "Predicting cells"


def test_an_error_of_a_click_is_told(ready):
    ready.controller.previews.ask({})
    ready.job.play(Failed(DeviceError("No", hint="Do.")))
    assert ready.view.status == "No. Do."
    assert ready.notes == [("error", "No. Do.")]


def test_nothing_in_view_is_told(ready):
    look_at(ready, 9000, 9000)
    ready.controller.previews.ask({})
    assert jobs(ready, "first") == []
    assert "Nothing of cells is in view" in ready.view.status
    assert ready.state.aside is None


def live(desk, settings=None):
    desk.controller.predicting.set_settings(settings or {})
    desk.controller.previews.set_live(True)


def test_live_predicts_again_when_the_view_or_the_settings_change(ready):
    ready.controller.catch_up()
    assert jobs(ready, "first") == []
    live(ready)
    assert len(jobs(ready, "first")) == 1
    ready.controller.catch_up()
    assert len(jobs(ready, "first")) == 1
    look_at(ready, 100, 100)
    ready.controller.catch_up()
    assert ready.job.arguments["region"]["Y"] == slice(75, 126)
    ready.controller.predicting.set_settings({"threshold": 0.2})
    ready.controller.catch_up()
    assert jobs(ready, "first")[-1].arguments["config"].threshold == 0.2
    assert len(jobs(ready, "first")) == 3
    ready.controller.predicting.set_settings(None)
    look_at(ready, 120, 100)
    ready.controller.catch_up()
    assert len(jobs(ready, "first")) == 3


def test_live_follows_the_planes_and_the_model(desk):
    desk.add_image((4, 32, 48), ("z", "y", "x"))
    desk.viewer.scene.camera.center = (0, 16, 24)
    desk.open_model()
    desk.viewer.dims.set_point(0, 0)
    live(desk)
    assert desk.job.arguments["region"]["Z"] == slice(0, 1)
    desk.viewer.dims.set_point(0, 3)
    desk.controller.catch_up()
    assert jobs(desk, "first")[-1].arguments["region"]["Z"] == slice(3, 4)
    desk.open_model("other.safetensors")
    desk.controller.catch_up()
    assert jobs(desk, "first")[-1].arguments["model"] == "other.safetensors"


def test_live_results_stay_in_one_layer_as_the_user_set_it(ready):
    live(ready)
    answer(jobs(ready, "first")[-1], 1)
    (layer,) = preview_layers(ready)
    layer.opacity = 0.2
    for y in (100, 120, 140):
        look_at(ready, y, 100)
        ready.controller.catch_up()
        answer(jobs(ready, "first")[-1], y)
    assert preview_layers(ready) == [layer]
    assert layer.opacity == 0.2
    assert not layer.editable
    assert layer.data.max() == 140
    np.testing.assert_array_equal(layer.translate, (115, 50))
    assert not any((ready.layers, layer) is None for layer in preview_layers(ready))


@pytest.mark.parametrize("kind", ["instances", "probabilities"])
def test_another_kind_of_result_gets_other_layers(ready, kind):
    live(ready)
    answer(jobs(ready, "first")[-1])
    (first,) = preview_layers(ready)
    ready.controller.predicting.set_settings({"kind": kind})
    ready.controller.catch_up()
    job = jobs(ready, "first")[-1]
    shape = (51, 101) if kind == "instances" else (2, 51, 101)
    np.save(job.arguments["output"], np.ones(shape, np.float32).astype("u4"))
    job.play(Finished(job.arguments["output"]))
    assert first not in preview_layers(ready)
    assert len(preview_layers(ready)) == (1 if kind == "instances" else 2)


def test_live_asks_again_where_another_request_took_its_place(ready):
    live(ready)
    number = len(ready.runner.jobs)
    ready.job.play(Cancelled())
    assert len(ready.runner.jobs) == number + 1
    ready.controller.stop()
    ready.job.play(Cancelled("stopped"))
    assert len(ready.runner.jobs) == number + 1


def test_live_is_silent_but_for_errors_in_the_footer(ready):
    live(ready)
    before = ready.view.status
    assert not ready.view.busy
    answer(ready.job)
    assert ready.view.status == before
    look_at(ready, 100, 100)
    ready.controller.catch_up()
    jobs(ready, "first")[-1].play(Failed(DeviceError("No", hint="Do.")))
    assert (ready.view.status, ready.view.tone) == ("No. Do.", "bad")
    look_at(ready, 9000, 9000)
    ready.controller.catch_up()
    assert "Nothing of cells is in view" in ready.view.status
    assert ready.notes == []


def test_live_goes_on_during_a_prediction_and_waits_for_training(ready):
    live(ready)
    ready.controller.predicting.predict({})
    main = ready.job
    look_at(ready, 100, 100)
    ready.controller.catch_up()
    assert len(jobs(ready, "first")) == 2
    main.play(Cancelled())
    ready.controller.models.open("more.pt")
    look_at(ready, 120, 100)
    ready.controller.catch_up()
    assert len(jobs(ready, "first")) == 2
    ready.job.play(Failed(DeviceError("No")))
    ready.controller.catch_up()
    assert len(jobs(ready, "first")) == 3


def test_switching_live_off_stops_it(ready):
    live(ready)
    job = ready.job
    ready.controller.previews.set_live(False)
    assert job.cancelled
    look_at(ready, 100, 100)
    ready.controller.catch_up()
    assert len(jobs(ready, "first")) == 1
    ready.controller.previews.set_live(True)
    assert len(jobs(ready, "first")) == 2


def test_live_needs_planes(ready):
    ready.viewer.dims.ndisplay = 3
    live(ready)
    assert jobs(ready, "first") == []
    ready.viewer.dims.ndisplay = 2
    ready.controller.catch_up()
    assert len(jobs(ready, "first")) == 1


def test_pixels_are_copied_once_and_the_view_is_taken_when_they_are_ready(ready):
    waiting = []
    ready.controller.session.tasks._background = waiting.append
    live(ready)
    for y in (100, 110, 120):
        look_at(ready, y, 200)
        ready.controller.previews.catch_up()
    assert len(waiting) == 1
    waiting.pop()()
    (job,) = jobs(ready, "first")
    assert job.arguments["region"]["Y"] == slice(95, 146)
    ready.controller.previews.catch_up()
    assert len(jobs(ready, "first")) == 1
    look_at(ready, 130, 200)
    ready.controller.previews.catch_up()
    waiting.pop()()
    first, second = jobs(ready, "first")
    assert first.arguments["image"].path == second.arguments["image"].path


def test_a_click_while_pixels_are_copied_is_answered_once(ready):
    waiting = []
    ready.controller.session.tasks._background = waiting.append
    live(ready)
    ready.controller.previews.ask({})
    assert len(waiting) == 1
    assert ready.view.status == "Predicting the view"
    waiting.pop()()
    answer(ready.job)
    assert ready.view.status.startswith("Previewed the view")


def test_closing_and_reopening_starts_afresh(ready):
    live(ready)
    ready.controller.close()
    assert not ready.view.live
    live(ready)
    assert len(jobs(ready, "first")) == 2


def test_one_thread_copies_and_the_others_wait(tmp_path):
    staging, data = Staging(tmp_path), np.arange(12, dtype="u2").reshape(3, 4)
    going, go_on, paths = threading.Event(), threading.Event(), []

    def slow(_):
        going.set()
        assert go_on.wait(20)

    def fetch(progress):
        paths.append(staging.path_of(data, CancelToken(), progress))

    threads = [threading.Thread(target=fetch, args=(slow,))]
    threads[0].start()
    assert going.wait(20)
    threads += [threading.Thread(target=fetch, args=(None,)) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    stopped = CancelToken()
    stopped.set()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(set(paths)) == 1
    assert len(paths) == 4
    with pytest.raises(StagingStopped):
        staging.path_of(data + 1, stopped, lambda _: None)


def test_a_plan_is_made_in_spare_time(ready):
    ready.controller.catch_up()
    assert jobs(ready, "last") == []
    ready.controller.predicting.set_settings({"kind": "probabilities"})
    ready.controller.catch_up()
    (job,) = jobs(ready, "last")
    assert job.name == "iter_forecast"
    assert job.arguments["config"] == PredictConfig(kind="probabilities")
    stack = job.arguments["image"]
    assert (stack.axes, stack.shape, stack.dtype) == ("YX", (300, 400), np.uint16)
    assert not ready.view.busy
    job.play(Started("Planning"))
    job.play(Finished(FORECAST))
    plan = ready.view.plan
    assert plan.summary == "streamed · 64 pieces · about 3 min · 1.2 GB of memory"
    assert dict(plan.lines)["pieces"] == "64"
    ready.controller.catch_up()
    assert len(jobs(ready, "last")) == 1


def test_a_plan_reads_no_pixel_and_writes_no_file(ready, tmp_path):
    ready.controller.predicting.set_settings({})
    ready.controller.catch_up()
    assert len(jobs(ready, "last")) == 1
    assert not (tmp_path / "private").exists()


def test_a_changed_setting_is_planned_anew_and_old_plans_are_dropped(ready):
    ready.controller.predicting.set_settings({})
    ready.controller.catch_up()
    ready.controller.predicting.set_settings({"overlap": 0.5})
    ready.controller.catch_up()
    old, new = jobs(ready, "last")
    old.play(Finished(FORECAST))
    assert ready.view.plan is None
    new.play(Finished(FORECAST | {"pieces": 2}))
    assert "2 pieces" in ready.view.plan.summary
    ready.viewer.layers.clear()
    ready.controller.catch_up()
    assert ready.view.plan is None


def test_no_plan_is_made_while_a_job_runs(ready):
    ready.controller.predicting.predict({})
    ready.controller.predicting.set_settings({})
    ready.controller.catch_up()
    assert jobs(ready, "last") == []
    ready.job.play(Cancelled())
    ready.controller.catch_up()
    assert len(jobs(ready, "last")) == 1


def test_why_there_is_no_plan_is_said_in_its_place(ready):
    ready.controller.predicting.set_settings({})
    ready.controller.catch_up()
    ready.job.play(Failed(DeviceError("There is no plan to show", found="x")))
    assert ready.view.plan == Card("There is no plan to show: found x.")
    assert ready.notes == []
    ready.controller.predicting.set_settings({"overlap": 7.0})
    ready.controller.catch_up()
    assert "overlap" in ready.view.plan.summary
    assert ready.view.tone != "bad"


def test_a_plan_whose_process_was_ended_is_made_again(ready):
    ready.controller.predicting.set_settings({})
    ready.controller.catch_up()
    ready.job.play(Cancelled("stopped"))
    ready.controller.catch_up()
    assert len(jobs(ready, "last")) == 2


def test_stop_leaves_the_plan_alone(ready):
    ready.controller.predicting.set_settings({})
    ready.controller.catch_up()
    ready.controller.stop()
    assert not jobs(ready, "last")[0].cancelled


def test_every_way_to_another_view_is_noticed(desk):
    desk.add_image((4, 32, 48), ("z", "y", "x"))
    viewer, seen = desk.viewer, []
    desk.layers.watch_view(lambda: seen.append(1))

    def notices(change):
        before = len(seen)
        change()
        return len(seen) > before

    assert notices(lambda: setattr(viewer.scene.camera, "center", (0, 3, 4)))
    assert notices(lambda: setattr(viewer.scene.camera, "zoom", 3))
    assert notices(lambda: setattr(viewer.canvas, "size", (50, 60)))
    assert notices(lambda: viewer.dims.set_point(0, 2))
    assert notices(lambda: setattr(viewer.dims, "order", (1, 0, 2)))
    assert not notices(lambda: viewer.layers["cells"].refresh())


def test_labels_are_made_ready_once_there_is_a_model(desk, monkeypatch):
    calls = []
    monkeypatch.setattr("napari_unet.gui.controller.warm_up", lambda: calls.append(1))
    desk.controller.catch_up()
    assert calls == []
    desk.open_model()
    for _ in range(2):
        desk.controller.catch_up()
    assert calls == [1]


def test_making_labels_ready_touches_no_viewer(desk):
    desk.add_image()
    warm_up()
    assert [layer.name for layer in desk.viewer.layers] == ["cells"]
