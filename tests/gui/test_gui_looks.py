"""Results shown anew out of kept probabilities, and results that grow; no window."""

from pathlib import Path

import numpy as np
import pytest

from napari_unet.events import Cancelled, Finished, Written
from napari_unet.gui import tally
from napari_unet.gui.derived import Classes, laid_out
from napari_unet.gui.state import Card, Look
from napari_unet.tasks.decisions import Decision

TWO = Decision("semantic", "softmax", 2)


def chances(*shape, seed=0):
    """Probabilities of two classes, classes before Y and X."""
    one = np.random.default_rng(seed).random(shape, np.float32)
    return np.stack([1 - one, one], axis=-3)


def finish(job, kept, threshold=0.5):
    """Play the end of a run that keeps its probabilities."""
    np.save(job.arguments["keep"], kept)
    labels = TWO.labels(np.moveaxis(kept, -3, 0), threshold)
    np.save(job.arguments["output"], labels)
    job.play(Finished(job.arguments["output"]))
    return labels


@pytest.fixture
def predicted(desk):
    """An image and its prediction, of which the probabilities are kept."""
    desk.add_image((4, 32, 48), ("z", "y", "x"), scale=(3, 1, 1))
    desk.open_model()
    desk.controller.predicting.predict({})
    desk.kept = chances(4, 32, 48)
    finish(desk.job, desk.kept)
    desk.file = Path(desk.job.arguments["keep"])
    return desk


def shown(desk, suffix="prediction"):
    return [layer for layer in desk.viewer.layers if suffix in layer.name]


def test_threshold_acts_at_once_and_runs_nothing(predicted):
    jobs = len(predicted.runner.jobs)
    for threshold in (0.3, 0.72, 0.5):
        predicted.controller.looks.choose(Look("labels", threshold))
        (layer,) = shown(predicted)
        expected = TWO.labels(predicted.kept.swapaxes(0, 1), threshold)
        np.testing.assert_array_equal(np.asarray(layer.data), expected)
        seen = round(predicted.viewer.dims.point[0] / 3)
        np.testing.assert_array_equal(layer._slice.image.raw, expected[seen])
        np.testing.assert_array_equal(layer.scale, (3, 1, 1))
    assert len(predicted.runner.jobs) == jobs


def test_one_result_is_shown_in_every_way(predicted):
    jobs = len(predicted.runner.jobs)
    looks = predicted.controller.looks
    looks.choose(Look("probabilities"))
    for number, layer in enumerate(shown(predicted)):
        np.testing.assert_array_equal(layer.data, predicted.kept[:, number])
    assert len(shown(predicted)) == 2
    looks.choose(Look("doubt"))
    (layer,) = shown(predicted)
    margin = np.abs(predicted.kept[:, 1] - predicted.kept[:, 0])
    np.testing.assert_allclose(np.asarray(layer.data), 1 - margin, atol=1e-6)
    looks.choose(Look("labels"))
    (layer,) = shown(predicted)
    np.testing.assert_array_equal(layer.data[1], predicted.kept[1, 1] >= 0.5)
    assert len(predicted.runner.jobs) == jobs


def test_objects_are_found_by_the_computing_process(predicted):
    looks = predicted.controller.looks
    predicted.controller.catch_up()
    counted = predicted.view.tally
    looks.choose(Look("instances", 0.4, split=True))
    assert predicted.job.name == "iter_shown"
    predicted.controller.catch_up()
    predicted.controller.catch_up()
    assert predicted.view.tally == counted
    job = predicted.job
    assert job.name == "iter_regroup"
    assert job.arguments["probabilities"] == str(predicted.file)
    assert (job.arguments["threshold"], job.arguments["split"]) == (0.4, True)
    looks.choose(Look("instances", 0.6))
    predicted.controller.catch_up()
    assert job.cancelled
    objects = np.arange(4 * 32 * 48, dtype=np.uint32).reshape(4, 32, 48)
    np.save(predicted.job.arguments["output"], objects)
    predicted.job.play(Finished(1))
    np.save(job.arguments["output"], 0 * objects)
    job.play(Finished(0))
    (layer,) = shown(predicted)
    np.testing.assert_array_equal(layer.data, objects)
    assert predicted.view.tally == "6 143 objects · 100 % foreground"
    assert not Path(job.arguments["output"]).exists()


def test_objects_that_are_not_wanted_any_more_are_not_shown(predicted):
    looks = predicted.controller.looks
    looks.choose(Look("instances"))
    predicted.controller.catch_up()
    job = predicted.job
    looks.choose(Look("doubt"))
    assert job.cancelled
    np.save(job.arguments["output"], np.zeros((4, 32, 48), np.uint32))
    job.play(Finished(0))
    assert shown(predicted)[0].dtype == np.float32
    looks.choose(Look("instances"))
    predicted.controller.catch_up()
    assert predicted.job is not job


def test_file_of_probabilities_goes_with_its_result(predicted):
    assert predicted.file.exists()
    predicted.viewer.layers.remove("cells · prediction")
    predicted.controller.catch_up()
    assert not predicted.file.exists()


def test_objects_and_foreground_are_counted(predicted):
    predicted.controller.catch_up()
    before = predicted.view.tally
    predicted.controller.looks.choose(Look("labels", 0.9))
    predicted.controller.catch_up()
    share = 100 * (predicted.kept[:, 1] >= 0.9).mean()
    assert predicted.view.tally.endswith(f"· {share:.0f} % foreground")
    assert predicted.view.tally != before


def test_live_preview_is_not_computed_again_for_a_threshold(desk):
    desk.add_image((300, 400))
    desk.viewer.scene.camera.zoom = 2
    desk.viewer.scene.camera.center = (0, 150, 200)
    desk.open_model()
    desk.controller.predicting.set_settings({"threshold": 0.5})
    desk.controller.previews.set_live(True)
    kept = chances(51, 101)
    finish(desk.job, kept)
    jobs = len(desk.runner.jobs)
    desk.controller.predicting.set_settings({"threshold": 0.8})
    desk.controller.looks.choose(Look("labels", 0.8))
    desk.controller.previews.catch_up()
    assert len(desk.runner.jobs) == jobs
    (layer,) = shown(desk, "preview")
    np.testing.assert_array_equal(np.asarray(layer.data), kept[1] >= 0.8)
    np.testing.assert_array_equal(layer.translate, (125, 150))
    desk.controller.predicting.set_settings({"threshold": 0.8, "tile": (16,)})
    desk.controller.previews.catch_up()
    assert len(desk.runner.jobs) == jobs + 1


def test_result_grows_while_it_is_computed(desk):
    desk.add_image((4, 32, 48), ("z", "y", "x"))
    desk.open_model()
    desk.controller.predicting.predict({})
    job, output = desk.job, desk.job.arguments["output"]
    file = np.lib.format.open_memmap(output, "w+", np.uint8, (4, 32, 48))
    seen = int(desk.viewer.dims.point[0])
    for plane in (seen, (seen + 1) % 4):
        file[plane] = 1
        job.play(Written((slice(plane, plane + 1), slice(0, 32), slice(0, 48))))
    (layer,) = shown(desk)
    assert layer.data[seen].all()
    assert layer._slice.image.raw.all()
    assert desk.view.busy
    job.play(Cancelled("what was done until then is shown"))
    assert shown(desk) == [layer]
    assert desk.view.status == "Stopped: what was done until then is shown."
    desk.viewer.layers.remove(layer)
    assert not Path(output).exists()


def test_growing_layer_that_is_removed_does_not_come_back(desk):
    desk.add_image()
    desk.open_model()
    desk.controller.predicting.predict({})
    part = Written((slice(0, 8), slice(0, 48)))
    np.save(desk.job.arguments["output"], np.ones((32, 48), np.uint8))
    desk.job.play(part)
    desk.viewer.layers.remove("cells · prediction")
    desk.job.play(part)
    desk.job.play(Finished(""))
    assert shown(desk) == []
    assert desk.view.status.endswith("the result was dropped.")
    assert desk.notes == []


@pytest.mark.parametrize(
    ("axes", "shape", "kept", "ndim"),
    [
        ("YXT", (5, 6, 4), (4, 2, 5, 6), 3),
        ("TCYX", (4, 3, 5, 6), (4, 2, 5, 6), 4),
        ("CZYX", (3, 4, 5, 6), (4, 2, 5, 6), 4),
        ("YXC", (5, 6, 3), (2, 5, 6), 2),
    ],
)
def test_classes_lie_as_their_image_does(axes, shape, kept, ndim):
    values = np.random.default_rng(0).random(kept).astype("f4")
    classes = Classes(laid_out(values, axes, ndim), TWO, 0.6)
    labels = (np.moveaxis(values, -3, 0)[1] >= 0.6).astype("u1")
    if axes == "YXT":
        labels = labels.transpose(1, 2, 0)
    elif axes != "YXC":
        labels = np.expand_dims(labels, axes.index("C"))
    assert (classes.shape, classes.ndim) == (labels.shape, labels.ndim)
    np.testing.assert_array_equal(np.asarray(classes), labels)
    index = (0, slice(1, 4), *(slice(None),) * (ndim - 2))
    np.testing.assert_array_equal(classes[index], labels[index])
    assert classes[(1,) * ndim if axes == "YXT" else (0,) * ndim] in (0, 1)


def test_components_of_frames_are_not_joined():
    labels = np.zeros((2, 9, 9), "u1")
    labels[:, 2:4, 2:4] = 1
    labels[:, 4, 4] = 1
    labels[:, 4:6, 2:4] = 2
    said = tally.sentence(labels, None, (1, 2), ids=False)
    assert said == "4 objects · 11 % foreground"
    assert tally.sentence(labels, None, (0, 1, 2), ids=False).startswith("2 objects")
    plane = (slice(0, 1), slice(None), slice(None))
    said = tally.sentence(labels, plane, (1, 2), ids=True)
    assert said == "2 objects · 11 % foreground in this plane"


def test_long_and_large_runs_are_asked_about(desk, monkeypatch):
    desk.add_image()
    desk.open_model()
    concern = desk.controller.predicting.concern
    assert concern() == ""
    desk.controller.session.update(plan=Card("short", seconds=300, output_bytes=9))
    assert concern() == ""
    desk.controller.session.update(plan=Card("long", seconds=3600, output_bytes=9))
    assert concern().startswith("This will take about 60 min.")
    desk.controller.session.update(plan=Card("large", output_bytes=10**18))
    assert "It will not fit" in concern()


@pytest.mark.parametrize(("size", "ahead"), [(64, False), (4200, True)])
def test_what_is_in_view_of_a_large_image_comes_first(desk, size, ahead):
    desk.viewer.add_image(np.zeros((size, size), "u1"), name="cells")
    desk.viewer.scene.camera.zoom = 2
    desk.viewer.scene.camera.center = (0, size / 2, size / 2)
    desk.open_model()
    desk.controller.predict_all({})
    turns = [job.turn for job in desk.runner.jobs if job.name == "iter_shown"]
    assert turns == ["usual", "first"][: 1 + ahead]
