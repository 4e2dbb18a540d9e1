"""Every button, without Qt: what is sent to the computing process, what comes back."""

import time
from pathlib import Path

import numpy as np
import pytest

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.errors import DeviceError
from napari_unet.events import Cancelled, Finished, Metric, Progress, Warned
from napari_unet.execution.protocol import Failed, UnexpectedError


def painted(desk, *classes):
    desk.controller.painting.new()
    layer = desk.viewer.layers["cells · strokes"]
    for number in classes:
        layer.data[..., number] = number
    desk.controller.painting.recount()
    return layer


def finish_prediction(job, shape):
    np.save(job.arguments["output"], np.ones(shape, np.uint8))
    job.play(Finished(job.arguments["output"]))


def test_opening_a_model_shows_its_facts(desk):
    desk.controller.models.open("/models/nuclei.pt")
    assert desk.job.name == "iter_inspect"
    assert desk.view.status == "Opening nuclei.pt"
    desk.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    assert desk.view.model_name == "nuclei.pt"
    assert desk.view.model_line == "2D · 1 channel → 2 classes"


def test_refused_model_is_one_sentence_and_a_notification(desk):
    desk.open_model("good.pt")
    desk.controller.models.open("bad.pt")
    desk.job.play(Failed(DeviceError("No", hint="Do.")))
    assert desk.view.status == "No. Do."
    assert desk.view.tone == "bad"
    assert desk.notes == [("error", "No. Do.")]
    assert desk.view.model_name == "good.pt"


def test_details_are_logged_and_not_shown(desk, caplog):
    desk.controller.models.open("bad.pt")
    desk.job.play(Failed(UnexpectedError("Odd", details="Traceback ...")))
    assert desk.view.status == "Odd."
    assert "Traceback" in caplog.text


def test_first_image_is_chosen_by_itself_and_given_up_when_removed(desk):
    assert "sample" in desk.view.status
    layer = desk.add_image()
    assert desk.view.image == "cells"
    assert desk.view.image_line == "Image, 32 × 48 px, 1 channel"
    layer.name = "renamed"
    assert desk.view.image == "renamed"
    desk.viewer.layers.remove(layer)
    assert desk.view.image == ""


def test_axes_are_asked_in_words(desk):
    desk.add_image((4, 32, 48))
    assert desk.view.ask_axes
    assert "3 axes (4 × 32 × 48)" in desk.view.image_line
    desk.controller.set_axes("QY")
    assert desk.view.tone == "bad"
    desk.controller.set_axes("tyx")
    assert desk.view.image_line == "Time series, 4 time points, 32 × 48 px, 1 channel"
    assert desk.view.tone == "plain"


def test_predict_all_sends_the_image_and_shows_the_result(desk):
    image = desk.add_image((4, 32, 48), ("z", "y", "x"), scale=(3, 1, 1))
    desk.open_model()
    desk.controller.predicting.predict({"tile": (16,)})
    sent = desk.job.arguments
    assert sent["config"] == PredictConfig(tile=(16,))
    assert "region" not in sent
    assert sent["image"].axes == "ZYX"
    np.testing.assert_array_equal(np.load(sent["image"].path), image.data)
    desk.job.play(Progress(1, 4, "tile 1 of 4"))
    assert desk.view.fraction == 0.25
    assert desk.view.status == "Predicting cells · tile 1 of 4"
    desk.job.play(Warned("Halved the tile."))
    finish_prediction(desk.job, (4, 32, 48))
    result = desk.viewer.layers["cells · prediction"]
    np.testing.assert_array_equal(result.scale, image.scale)
    assert desk.view.status.startswith("Predicted cells (")
    assert desk.view.status.endswith("Halved the tile.")
    assert not desk.view.busy


def test_preview_sends_the_visible_region_and_lays_it_there(desk):
    desk.add_image((300, 400))
    desk.viewer.scene.camera.zoom = 2
    desk.viewer.scene.camera.center = (0, 150, 200)
    desk.open_model()
    desk.controller.previews.ask({})
    region = desk.job.arguments["region"]
    assert region == {"Y": slice(125, 176), "X": slice(150, 251)}
    finish_prediction(desk.job, (51, 101))
    layer = desk.viewer.layers["cells · preview"]
    np.testing.assert_array_equal(layer.translate, (125, 150))
    desk.controller.predicting.predict({})
    finish_prediction(desk.job, (300, 400))
    assert "cells · preview" not in desk.viewer.layers


def test_predict_all_begins_with_what_is_in_view(desk):
    desk.add_image((7, 300, 400), ("z", "y", "x"))
    desk.viewer.scene.camera.zoom = 2
    desk.viewer.scene.camera.center = (0, 150, 200)
    desk.viewer.dims.set_point(0, 5)
    desk.open_model()
    desk.controller.predicting.predict({})
    view = {"Z": slice(5, 6), "Y": slice(125, 176), "X": slice(150, 251)}
    assert desk.job.arguments["view"] == view
    finish_prediction(desk.job, (7, 300, 400))
    desk.viewer.dims.ndisplay = 3
    desk.controller.predicting.predict({})
    assert desk.job.arguments["view"] == {}  # all of the volume
    finish_prediction(desk.job, (7, 300, 400))
    desk.viewer.dims.ndisplay = 2
    desk.viewer.scene.camera.center = (0, 9000, 9000)  # nothing of it
    desk.controller.predicting.predict({})
    assert desk.job.arguments["view"] is None


def predict_all(desk, result=None):
    desk.controller.predicting.predict({})
    file = Path(desk.job.arguments["output"])
    np.save(file, np.ones((32, 48), np.uint8) if result is None else result)
    desk.job.play(Finished(str(file)))
    return file


def test_file_of_a_prediction_goes_when_it_is_replaced_or_removed(desk):
    desk.add_image()
    desk.open_model()
    first = predict_all(desk)
    assert first.exists()
    layer = desk.viewer.layers["cells · prediction"]
    layer.opacity, layer.visible = 0.3, False
    second = predict_all(desk, np.full((32, 48), 2, np.uint8))
    assert second.exists()
    assert not first.exists()
    assert desk.viewer.layers["cells · prediction"] is layer
    assert layer.data.max() == 2
    assert (layer.opacity, layer.visible) == (0.3, True)
    desk.viewer.layers.remove("cells · prediction")
    assert not second.exists()


def test_file_stays_while_a_layer_shows_a_part_of_it(desk):
    desk.add_image()
    desk.open_model()
    desk.controller.predicting.predict({"kind": "probabilities"})
    file = Path(desk.job.arguments["output"])
    np.save(file, np.ones((2, 32, 48), np.float32))
    desk.job.play(Finished(str(file)))
    desk.viewer.layers.remove("cells · prediction")
    assert file.exists()
    desk.viewer.layers.remove("cells · prediction 1")
    assert not file.exists()


def test_files_of_previews_and_dropped_results_go_at_once(desk):
    layer = desk.add_image()
    desk.viewer.scene.camera.center = (0, 16, 24)
    desk.open_model()
    desk.controller.previews.ask({})
    file = Path(desk.job.arguments["output"])
    finish_prediction(desk.job, (32, 48))
    assert "cells · preview" in desk.viewer.layers
    assert not file.exists()
    desk.controller.predicting.predict({})
    desk.viewer.layers.remove(layer)
    finish_prediction(desk.job, (32, 48))
    assert not Path(desk.job.arguments["output"]).exists()


def test_chosen_channels_are_sent(desk):
    desk.add_image((3, 32, 48), ("c", "y", "x"))
    desk.open_model()
    assert not desk.view.predict.enabled
    desk.controller.set_channels((1,))
    desk.controller.predicting.predict({})
    assert desk.job.arguments["config"].channels == (1,)


def test_wrong_setting_is_told_and_nothing_runs(desk):
    desk.add_image()
    desk.open_model()
    jobs = len(desk.runner.jobs)
    desk.controller.predicting.predict({"overlap": 7.0})
    assert "overlap" in desk.view.status
    assert desk.view.tone == "bad"
    assert len(desk.runner.jobs) == jobs


def test_layer_deleted_meanwhile_ends_in_words(desk):
    layer = desk.add_image()
    desk.open_model()
    desk.controller.predicting.predict({})
    desk.viewer.layers.remove(layer)
    finish_prediction(desk.job, (32, 48))
    expected = "The layer cells is not there any more; the result was dropped."
    assert desk.view.status == expected
    assert desk.notes == []


def test_stop_is_passed_on_and_shown(desk):
    desk.add_image()
    desk.open_model()
    desk.controller.predicting.predict({})
    desk.controller.stop()
    assert desk.job.cancelled
    assert desk.view.stop.text == "Stopping …"
    desk.job.play(Cancelled("after 3 tiles"))
    assert desk.view.status == "Stopped: after 3 tiles."
    assert desk.view.predict.enabled


def test_second_job_waits_for_the_first(desk):
    desk.add_image()
    desk.open_model()
    desk.controller.predicting.predict({})
    jobs = len(desk.runner.jobs)
    desk.controller.predicting.predict({})
    desk.controller.models.open("other.pt")
    assert len(desk.runner.jobs) == jobs


def test_strokes_teach_what_to_do(desk):
    desk.add_image()
    assert desk.view.train.text == "Make a stroke layer first"
    painted(desk, 1)
    assert desk.view.train.text == "Paint at least 2 classes"
    painted(desk, 2)
    assert desk.view.train.enabled
    assert [row.pixels for row in desk.view.annotation.rows] == [32, 32]


def test_classes_are_chosen_and_added(desk):
    desk.add_image()
    layer = painted(desk)
    desk.controller.painting.add_class()
    assert len(desk.view.annotation.rows) == 3
    assert layer.selected_label == 3
    desk.controller.painting.paint(2)
    assert layer.selected_label == 2
    assert [row.painting for row in desk.view.annotation.rows] == [False, True, False]


def test_new_strokes_go_on_with_the_layer_that_is_there(desk):
    desk.add_image()
    painted(desk, 1)
    desk.controller.painting.new()
    assert desk.controller.strokes.names() == ("cells · strokes",)


def train(desk, settings=None):
    desk.controller.training.train(settings or {})
    return desk.job


def finish_round(desk, job, before=0.5, after=0.9, stopped=False):
    scores = {"score_before": before, "score_after": after}
    path = job.arguments["output"]
    job.play(Finished({"path": path, "stopped": stopped, "notes": (), **scores}))
    assert desk.job.name == "iter_inspect"
    desk.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))


def test_training_sends_a_copy_of_the_strokes(desk):
    desk.add_image()
    layer = painted(desk, 1, 2)
    desk.open_model("nuclei.pt")
    job = train(desk, {"max_seconds": 5.0})
    layer.data[:] = 1
    assert job.arguments["config"] == FinetuneConfig(max_seconds=5.0)
    assert job.arguments["model"] == "nuclei.pt"
    strokes = np.load(job.arguments["strokes"][0].path)
    assert np.unique(strokes).tolist() == [0, 1, 2]
    job.play(Metric("train_loss", 0.5, 1))
    job.play(Metric("train_loss", 0.25, 2))
    assert desk.view.curves == {"train_loss": ((1.0, 0.5), (2.0, 0.25))}


def test_round_is_used_scored_and_undone(desk):
    desk.add_image()
    painted(desk, 1, 2)
    desk.open_model("nuclei.pt")
    finish_round(desk, train(desk))
    assert desk.view.model_name == "nuclei-round-1.safetensors"
    assert desk.view.score == "Dice 0.50 → 0.90 (+0.40) on held-out strokes"
    Path(desk.state.model.path).touch()
    job = train(desk)
    assert job.arguments["model"] == "nuclei.pt"
    assert job.arguments["earlier"] == [desk.state.model.path]
    finish_round(desk, job, 0.9, 0.95)
    assert desk.view.model_name == "nuclei-round-2.safetensors"
    desk.controller.versions.undo()
    assert desk.view.model_name == "nuclei-round-1.safetensors"
    desk.controller.versions.undo()
    assert desk.view.model_name == "nuclei.pt"
    assert not desk.view.undo.enabled


def test_what_a_training_warned_of_is_said_at_its_end(desk, monkeypatch):
    desk.add_image()
    painted(desk, 1, 2)
    desk.open_model("nuclei.pt")
    job = train(desk)
    job.play(Warned("Drawn back to 50%."))
    late = time.monotonic() + 40
    monkeypatch.setattr("napari_unet.gui.session.time.monotonic", lambda: late)
    finish_round(desk, job)
    assert "Drawn back to 50%." in desk.state.message
    assert "(40 s)" in desk.state.message


def test_worse_round_is_not_used_unless_asked_for(desk):
    desk.add_image()
    painted(desk, 1, 2)
    desk.open_model("nuclei.pt")
    finish_round(desk, train(desk), 0.5, 0.9)
    good = Path(desk.state.model.path)
    good.touch()
    job = train(desk)
    assert job.arguments["model"] == "nuclei.pt"
    scores = {"score_before": 0.95, "score_after": 0.9, "stopped": False}
    job.play(Finished({"path": job.arguments["output"], **scores}))
    assert desk.job is job
    assert desk.view.model_name == good.name
    assert desk.view.status.startswith(f"Kept {good.name}")
    assert desk.view.score == (
        "Round 2 is worse on held-out strokes (Dice 0.95 → 0.90); "
        "still using nuclei-round-1.safetensors"
    )
    desk.controller.versions.use_anyway()
    desk.job.play(Finished({"ndim": 2, "in_channels": 1, "out_channels": 2}))
    assert desk.view.model_name == "nuclei-round-2.safetensors"
    assert desk.view.use_anyway is None
    assert desk.view.score == "Dice 0.95 → 0.90 (-0.05) on held-out strokes"
    desk.controller.versions.undo()
    assert desk.view.model_name == good.name
    desk.controller.versions.undo()
    assert desk.view.model_name == "nuclei.pt"


def test_round_that_forgot_is_not_used_and_says_why(desk):
    desk.add_image()
    painted(desk, 1, 2)
    desk.open_model("nuclei.pt")
    job = train(desk)
    assert job.arguments["earlier"] == []
    finish_round(desk, job, None, None)
    good = Path(desk.state.model.path)
    good.touch()
    job = train(desk)
    assert job.arguments["earlier"] == [str(good)]
    why = "On what judged round 1 it scores 0.300, less than 0.900 before."
    result = {"score_before": None, "score_after": None, "stopped": False}
    result |= {"path": job.arguments["output"], "worse": (why,)}
    job.play(Finished(result))
    assert desk.view.model_name == good.name
    assert desk.view.score == (f"Round 2 is not used; still using {good.name}. {why}")
    assert desk.view.use_anyway.enabled


def test_next_round_starts_from_the_model_that_was_kept(desk):
    desk.add_image()
    painted(desk, 1, 2)
    desk.open_model("nuclei.pt")
    job = train(desk)
    scores = {"score_before": 0.95, "score_after": 0.9, "stopped": False}
    job.play(Finished({"path": job.arguments["output"], **scores}))
    assert not desk.view.undo.enabled
    again = train(desk)
    assert again.arguments["model"] == "nuclei.pt"
    assert desk.view.use_anyway is None
    finish_round(desk, again, None, None)
    assert desk.view.model_name == Path(again.arguments["output"]).name
    assert desk.view.score == "No validation yet."


def test_training_gets_longer_to_stop_than_a_prediction(desk):
    desk.add_image()
    painted(desk, 1, 2)
    desk.open_model()
    job = train(desk)
    desk.controller.stop()
    assert job.stop_after == 10
    assert desk.view.status == "Stopping, keeping the best so far …"
    job.play(Cancelled())
    desk.controller.predicting.predict({})
    assert desk.job.stop_after is None


def test_training_without_a_model_starts_from_scratch(desk):
    desk.add_image()
    painted(desk, 1, 2)
    job = train(desk)
    assert job.arguments["model"] is None
    finish_round(desk, job, None, 0.8, stopped=True)
    assert desk.view.model_name == "cells-round-1.safetensors"
    desk.controller.versions.undo()
    assert desk.view.model_name == ""


def test_batch_lists_runs_and_follows_files(desk, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.tif", "b.tif", "c.png"):
        (folder / name).write_bytes(b"x")
    desk.open_model("nuclei.pt")
    desk.controller.batch.choose([str(folder)])
    desk.controller.batch.set_pattern("*.tif")
    names = [Path(file.path).name for file in desk.view.files]
    assert names == ["a.tif", "b.tif"]
    assert desk.view.output == str(folder / "unet-results")
    desk.controller.batch.run({"suffix": ".ome.zarr"})
    config = desk.job.arguments["config"]
    assert (config.pattern, config.suffix) == ("*.tif", ".ome.zarr")
    desk.job.play(Progress(0.5, 2, "a.tif"))
    assert [f.status for f in desk.view.files] == ["working", "waiting"]
    desk.job.play(Warned("a.tif failed: it is text."))
    desk.job.play(Progress(1.25, 2, "b.tif"))
    assert [f.status for f in desk.view.files] == ["failed", "working"]
    items = [
        {"input": f.path, "output": "", "probabilities": "", "status": s, "reason": r}
        for f, s, r in zip(
            desk.view.files, ["failed", "done"], ["it is text.", ""], strict=True
        )
    ]
    desk.job.play(Finished({"output": "o", "items": items}))
    assert [f.status for f in desk.view.files] == ["failed", "done"]
    assert "1 done, 0 skipped, 1 failed" in desk.view.status


@pytest.fixture
def later(desk):
    """What was asked for in the background, done when the test says so."""
    calls = []
    desk.controller.session.tasks._background = calls.append
    return calls


def folder_of(path, *names):
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"x")
    return str(path)


def test_folder_is_listed_in_the_background(desk, later, tmp_path):
    desk.controller.batch.choose([folder_of(tmp_path / "in", "a.tif", "b.tif")])
    assert desk.view.files == ()
    assert desk.state.listing
    later.pop()()
    assert len(desk.view.files) == 2
    assert not desk.state.listing


def test_only_the_last_listing_counts(desk, later, tmp_path):
    desk.controller.batch.choose([folder_of(tmp_path / "one", "a.tif")])
    desk.controller.batch.choose([folder_of(tmp_path / "two", "b.tif")])
    first, second = later
    second()
    first()
    assert [Path(file.path).name for file in desk.view.files] == ["b.tif"]
    desk.controller.batch.set_pattern("*")
    assert len(later) == 2


def test_batch_into_its_own_folder_is_refused(desk, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"x")
    desk.controller.batch.set_output(str(tmp_path))
    desk.controller.batch.choose([str(tmp_path)])
    assert desk.view.files == ()
    assert "among the images" in desk.view.status


def test_closing_stops_everything_and_removes_private_files(desk, tmp_path):
    desk.add_image()
    desk.open_model()
    desk.controller.predicting.predict({})
    assert any((tmp_path / "private").iterdir())
    desk.controller.close()
    assert desk.runner.closed
    assert not (tmp_path / "private").exists()
    desk.job.play(Finished("late"))
    assert not desk.view.busy
    desk.controller.predicting.predict({})
    assert desk.job.name == "iter_shown"


@pytest.mark.parametrize(("share", "text"), [(0.0, "0%"), (0.5, "50%")])
def test_progress_without_a_note_is_a_share(desk, share, text):
    desk.controller.models.open("a.pt")
    desk.job.play(Progress(share, 1))
    assert desk.view.status.endswith(text)


def test_export_writes_the_model_in_use(desk):
    desk.controller.models.export("net.onnx", overwrite=False)
    assert desk.runner.jobs == []
    desk.open_model("nuclei.pt")
    desk.controller.models.export("/out/net.onnx", overwrite=False)
    assert desk.job.name == "iter_export"
    assert (desk.job.arguments["model"], desk.job.arguments["output"]) == (
        "nuclei.pt",
        "/out/net.onnx",
    )
    assert desk.view.status == "Exporting net.onnx"
    desk.job.play(Finished({"output": "/out/net.onnx"}))
    assert desk.view.status.startswith("Exported net.onnx, read again and compared")
    assert desk.view.model_name == "nuclei.pt"
