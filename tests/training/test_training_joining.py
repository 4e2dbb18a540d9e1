"""Strokes that are painted while a training runs."""

import numpy as np
import pytest
import torch
from test_training_resume import Killed, kill_at, same, state
from training_images import class_strokes, example, quick, two_tone

from napari_unet.events import CancelToken, Finished, Metric, Warned
from napari_unet.images.stack import ImageStack
from napari_unet.training import course, kept, live, recorded, resume
from napari_unet.training.annotations import AnnotationSet
from napari_unet.training.finetune import finetune
from napari_unet.training.joining import join
from napari_unet.training.lesson import prepare

STEPS = 18
SMALL = {"width": 4, "patch": (16,), "seed": 3}
IMAGE = two_tone()[0]


def more_strokes():
    strokes = class_strokes()
    strokes[10:14, 33:39] = 2
    strokes[30:32, 2:20] = 1
    return strokes


def run(path, strokes=None, told=None, steps=STEPS, **more):
    """Train; `told` are strokes by the look after which they come."""
    looks = iter(range(100))
    asked = {} if told is None else told

    def news():
        strokes = asked.get(next(looks))
        return None if strokes is None else [example(IMAGE, strokes)]

    go_on = more.pop("go_on", False)
    marked = example(IMAGE, class_strokes() if strokes is None else strokes)
    config = quick(**{**SMALL, **more}, max_steps=steps)
    return finetune([marked], None, config, path, go_on=go_on, news=news)


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(course, "_LOOK", 3)
    monkeypatch.setattr(kept, "_PAUSE", 0.0)


@pytest.mark.usefixtures("often")
def test_the_same_strokes_at_the_same_step_give_the_same_weights(tmp_path):
    paths = [tmp_path / f"{n}.safetensors" for n in range(4)]
    tellings = [{1: more_strokes()}, {1: more_strokes()}, {2: more_strokes()}, {}]
    for path, told in zip(paths, tellings, strict=True):
        events = list(run(path, told=told))
        joined = [e for e in events if isinstance(e, Metric) and e.name == "strokes"]
        assert [(e.value, e.step) for e in joined] == [
            (6, 3 * (look + 1)) for look in told
        ]
    made = [state(path) for path in paths]
    assert same(made[0], made[1])
    assert not same(made[0], made[2])
    assert not same(made[0], made[3])
    assert events[-1].result.strokes == 4


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("step", [7, 13])
def test_killed_after_strokes_joined_it_goes_on_bit_equal(tmp_path, monkeypatch, step):
    """From the strokes in its state, whichever of them are still on the layer."""
    whole, path = tmp_path / "whole.safetensors", tmp_path / "a.safetensors"
    list(run(whole, told={1: more_strokes()}))
    undo = kill_at(monkeypatch, step)
    with pytest.raises(Killed):
        list(run(path, told={1: more_strokes()}))
    undo()
    assert resume.strokes_of(resume.load(path)) == "joined"
    made = list(run(path, strokes=more_strokes(), go_on=True))[-1].result
    assert made.steps == STEPS
    assert same(state(path), state(whole))


@pytest.mark.usefixtures("often")
def test_what_was_painted_since_a_kill_joins_when_it_goes_on(tmp_path, monkeypatch):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "a.safetensors"
    list(run(whole, told={1: more_strokes()}))
    undo = kill_at(monkeypatch, 7)
    with pytest.raises(Killed):
        list(run(path))
    undo()
    list(run(path, strokes=more_strokes(), go_on=True))
    assert same(state(path), state(whole))


@pytest.mark.usefixtures("often")
def test_strokes_that_do_not_fit_are_told_and_change_nothing(tmp_path):
    wrong = more_strokes()
    wrong[2:4, 20:30] = 3
    paths = [tmp_path / f"{n}.safetensors" for n in range(2)]
    list(run(paths[0]))
    events = list(
        run(paths[1], told={1: wrong, 2: np.zeros_like(wrong), 3: class_strokes()})
    )
    told = [e.message for e in events if isinstance(e, Warned)]
    assert sum("wait for the next round" in message for message in told) == 1
    assert same(state(paths[0]), state(paths[1]))


def test_held_out_strokes_stay_and_their_surroundings_are_not_learned():
    image = np.random.default_rng(0).normal(size=(96, 96)).astype(np.float32)
    strokes = np.zeros((96, 96), np.uint16)
    for row, kind in ((4, 1), (30, 2), (56, 1), (82, 2)):
        strokes[row, 4:20] = kind
        strokes[row, 70:86] = kind
    config = quick(width=4, validation=0.2)
    lesson = prepare([example(image, strokes)], None, config)
    assert lesson.validated
    before = lesson.split.held_out[0].copy()
    assert lesson.blocks[0].origin == (0, 0)
    row, column = np.argwhere(before)[0]
    more = strokes.copy()
    more[row + 2, column : column + 8] = strokes[row, column]
    more[40, 40:60] = 2
    after = join(lesson, [example(image, more)], config)
    assert after.blocks[0].image.shape == lesson.blocks[0].image.shape
    np.testing.assert_array_equal(after.split.held_out[0], before)
    learned = after.split.training[0]
    assert (learned[40, 40:60] == 2).all()
    assert not learned[row + 2, column : column + 8].any()
    assert not (learned * (before > 0)).any()


def test_recorded_strokes_are_the_same_annotations():
    strokes = np.zeros((3, 5, 20, 30), np.uint8)
    strokes[0, 4, 3, 5:9] = 1
    strokes[2, 1, 10:12, 20:25] = 7
    for axes in ("TZYX", "YXTZ"):
        stack = ImageStack(np.zeros(strokes.shape), axes)
        whole = ImageStack(strokes, axes, name="strokes")
        gathered = AnnotationSet.gather([type(example(IMAGE, IMAGE))(stack, whole)])
        tensors = recorded.record(gathered.examples, "begun")
        (again,) = recorded.restore(gathered.examples, tensors, "begun")
        assert AnnotationSet.gather([again]).digest == gathered.digest
        np.testing.assert_array_equal(again.strokes.read({}, axes), strokes)


@pytest.mark.usefixtures("often")
def test_the_network_can_be_looked_at_while_it_learns(tmp_path):
    path = tmp_path / "a.safetensors"
    seen = []
    for event in run(path):
        if isinstance(event, Metric) and event.name == "train_loss":
            seen.append(live.network_of(path).module.state_dict())
    assert isinstance(event, Finished)
    assert not same(seen[0], seen[-1])
    assert same(seen[-1], state(path))
    with pytest.raises(Exception, match="No training of a"):
        live.network_of(path)


def test_time_of_others_is_not_the_training_s(monkeypatch, tmp_path):
    from napari_unet.training import clock

    now = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    watch = clock.Clock(-10.0, 40.0)
    now[0] = 6.0
    with watch.resting():
        now[0] = 100.0
    assert (watch.training, watch.seconds, watch.share) == (6.0, 16.0, 0.2)
    late = clock.Clock(0.0, 40.0)
    now[0] = 105.0
    assert late.share == 0.5


def test_api_hears_strokes_from_files(tmp_path, monkeypatch):
    from napari_unet import api

    monkeypatch.setattr(course, "_LOOK", 3)
    np.save(tmp_path / "image.npy", IMAGE)
    np.save(tmp_path / "strokes.npy", class_strokes())
    np.save(tmp_path / "more.npy", more_strokes())
    token, path = CancelToken(), tmp_path / "a.safetensors"
    config = quick(**SMALL)
    events = api.iter_finetune(
        [tmp_path / "image.npy"], [tmp_path / "strokes.npy"], None, path, config,
        listen=True, cancel=token,
    )  # fmt: skip
    for event in events:
        if isinstance(event, Metric) and event.name == "strokes":
            token.set()
            assert event.value == 6
        elif isinstance(event, Metric) and event.step == 3:
            token.tell([tmp_path / "more.npy"])
    assert event.result.stopped
    assert torch.is_tensor(next(iter(state(path).values())))
