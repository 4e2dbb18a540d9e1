"""Learning end to end on images of 48 x 48 pixels."""

import pickle

import numpy as np
import pytest
import torch
from scipy import ndimage
from training_images import class_strokes, example, quick, two_tone

from napari_unet import checkpoints, files
from napari_unet.errors import (
    DeviceError,
    ModelError,
    OutputError,
    StrokesError,
    UsageError,
)
from napari_unet.events import (
    Cancelled,
    CancelToken,
    Finished,
    Metric,
    Progress,
    Started,
    Warned,
)
from napari_unet.images import intensity
from napari_unet.images.stack import ImageStack
from napari_unet.training import course, judging, standing
from napari_unet.training.annotations import Example
from napari_unet.training.finetune import finetune
from napari_unet.training.trainer import Trainer


def painted():
    return example(two_tone()[0], class_strokes())


def learn(path, network=None, steps=40, examples=None, **settings):
    events = finetune(
        examples or [painted()], network, quick(**settings, max_steps=steps), path
    )
    return list(events)


def predict(path, image):
    network = checkpoints.load(path)
    scale = intensity.measure(ImageStack(image, "YX"), network.spec.normalization)
    logits = network(torch.from_numpy(scale.apply(image[None]))[None])
    return logits[0].argmax(0).numpy()


def test_a_new_network_learns_a_simple_image(tmp_path):
    events = learn(tmp_path / "new.safetensors", steps=60)
    image, truth = two_tone(seed=9)
    found = predict(tmp_path / "new.safetensors", image) == 1
    # No stroke tells where exactly the edge of a disc is.
    edge = ndimage.binary_dilation(truth, iterations=3) & ~truth
    assert (found == truth)[~edge].mean() > 0.95
    assert isinstance(events[0], Started)
    assert any(isinstance(e, Progress) for e in events)
    assert [e.name for e in events if isinstance(e, Metric)] == ["train_loss"] * 3
    made = events[-1].result
    assert (made.steps, made.score_after, made.validated) == (60, None, False)
    assert made.digest == files.digest(made.path)
    assert pickle.loads(pickle.dumps(events)) == events


def test_the_same_seed_gives_the_same_weights(tmp_path):
    paths = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        learn(path, steps=3, seed=seed)
    states = [checkpoints.load(p).module.state_dict() for p in paths]
    assert all(torch.equal(t, states[1][n]) for n, t in states[0].items())
    assert not all(torch.equal(t, states[2][n]) for n, t in states[0].items())


def test_fine_tuning_leaves_its_parent_alone(tmp_path):
    parent, child = tmp_path / "parent.safetensors", tmp_path / "child.safetensors"
    learn(parent, steps=5)
    before = parent.read_bytes()
    network = checkpoints.load(parent)
    weights = {n: t.clone() for n, t in network.module.state_dict().items()}
    made = learn(child, network, steps=5)[-1].result
    assert parent.read_bytes() == before
    assert all(
        torch.equal(t, weights[n]) for n, t in network.module.state_dict().items()
    )
    assert made.parent_digest == files.digest(parent)
    record = checkpoints.load(child).spec.provenance
    assert record["parent"] == made.parent_digest
    assert record["settings"]["seed"] == 0
    new = checkpoints.load(child).module.state_dict()
    same = [n for n, t in new.items() if torch.equal(t, weights[n])]
    # Running statistics stay those of the parent; weights do not.
    assert same
    assert all("running" in n or "num_batches" in n for n in same)


def test_held_out_strokes_give_a_score_before_and_after(tmp_path):
    size = 160
    image = np.zeros((size, size), np.float32)
    strokes = np.zeros((size, size), np.uint8)
    for n in range(4):
        image[20:140, 20 + 36 * n : 32 + 36 * n] = 1
        for row in (25, 75, 125):
            strokes[row : row + 8, 24 + 36 * n : 28 + 36 * n] = 2
            strokes[row : row + 8, 36 + 36 * n : 44 + 36 * n] = 1
    marked = [example(image, strokes)]
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    made = learn(first, steps=20, examples=marked, validation=0.2)[-1].result
    assert made.validated
    assert made.score_before is None
    network = checkpoints.load(first)
    events = learn(second, network, steps=20, examples=marked, validation=0.2)
    made = events[-1].result
    # The parent was scored on the same strokes, by the same seed.
    scores = [e for e in events if isinstance(e, Metric) and e.name == "val_dice"]
    assert scores[0].value == made.score_before
    assert scores[0].step == 0
    assert made.score_after == max(e.value for e in scores[1:])
    assert made.scores["classes"]["1"]["pixels"] > 0


def test_few_strokes_are_all_used_and_that_is_said(tmp_path):
    events = learn(tmp_path / "a.safetensors", steps=1, validation=0.2)
    assert any(
        "No validation yet" in e.message for e in events if isinstance(e, Warned)
    )


def test_painted_objects_make_a_network_for_instances(tmp_path):
    image, truth = two_tone()
    strokes = np.zeros(truth.shape, np.uint16)
    y, x = np.nonzero(truth)
    strokes[y, x] = 1 + 2 * (y > 24) + (x > 24)
    strokes[24:, 24:] = 0
    made = learn(
        tmp_path / "a.safetensors", examples=[example(image, strokes)], steps=60
    )
    assert "taken for objects" in next(e.message for e in made if isinstance(e, Warned))
    network = checkpoints.load(tmp_path / "a.safetensors")
    assert network.spec.task == "instances"
    background = predict(tmp_path / "a.safetensors", image) == 0
    assert truth[background].mean() < 0.1
    assert background[~truth].mean() > 0.9


def test_a_volume_is_learned_in_three_dimensions(tmp_path):
    image, _ = two_tone()
    volume = np.stack([image] * 6)
    strokes = np.stack([class_strokes()] * 6)
    strokes[:2] = 0
    marked = [example(volume, strokes, "ZYX")]
    learn(tmp_path / "a.safetensors", examples=marked, steps=1, patch=(4, 16, 16))
    assert checkpoints.load(tmp_path / "a.safetensors").spec.ndim == 3


def test_channels_are_picked(tmp_path):
    image, _ = two_tone()
    stack = np.stack([np.zeros_like(image), image, image])
    marked = [example(stack, class_strokes(), "CYX")]
    learn(tmp_path / "a.safetensors", examples=marked, steps=1, channels=(1, 2))
    network = checkpoints.load(tmp_path / "a.safetensors")
    assert network.spec.in_channels == 2
    with pytest.raises(ModelError, match="3 channels"):
        learn(tmp_path / "b.safetensors", network, examples=marked)
    with pytest.raises(UsageError, match="channels"):
        learn(tmp_path / "b.safetensors", network, examples=marked, channels=(0, 3))


def test_stop_before_the_first_look_saves_nothing(tmp_path):
    token = CancelToken()
    path = tmp_path / "a.safetensors"
    events = []
    for event in finetune([painted()], None, quick(), path, cancel=token):
        events.append(event)
        token.set()
    assert isinstance(events[-1], Cancelled)
    assert list(tmp_path.iterdir()) == []


def test_stop_after_a_look_keeps_the_best(tmp_path):
    token = CancelToken()
    path = tmp_path / "a.safetensors"
    for event in finetune([painted()], None, quick(), path, cancel=token):
        if isinstance(event, Metric):
            token.set()
        last = event
    assert isinstance(last, Finished)
    assert last.result.stopped
    assert last.result.steps == 20
    assert path.exists()


def test_a_loss_that_is_no_number_is_rolled_back(tmp_path, monkeypatch):
    step, calls = Trainer.step, []

    def failing(self, progress):
        calls.append(progress)
        if len(calls) == 30:
            for p in self._module.parameters():
                p.data.fill_(torch.nan)
        return step(self, progress)

    monkeypatch.setattr(Trainer, "step", failing)
    events = learn(tmp_path / "a.safetensors", steps=40)
    assert any("diverged" in e.message for e in events if isinstance(e, Warned))
    state = checkpoints.load(tmp_path / "a.safetensors").module.state_dict()
    assert all(torch.isfinite(t).all() for t in state.values())


def test_training_that_never_works_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "step", lambda *_: float("nan"))
    with pytest.raises(ModelError, match="does not converge"):
        learn(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_training_ends_when_the_score_stands_still(tmp_path, monkeypatch):
    monkeypatch.setattr(course, "_LOOK", 1)
    monkeypatch.setattr(standing, "_PATIENCE", 3)
    scores = {"dice": 0.5, "dice_interval": [0.4, 0.6]}
    monkeypatch.setattr(judging.Judge, "now", lambda *_: scores)
    monkeypatch.setattr(
        "napari_unet.training.lesson.hold_out", lambda t, *_: course_split(t)
    )
    told = {"steps": 50, "validation": 0.2}
    made = learn(tmp_path / "a.safetensors", unpainted=False, **told)[-1].result
    assert made.steps == 4
    made = learn(tmp_path / "b.safetensors", **told)[-1].result
    assert made.steps == 50


@pytest.mark.parametrize(("unpainted", "kept"), [(True, 0.5), (False, 0.9)])
def test_beside_a_first_teacher_the_last_state_is_kept(
    tmp_path, monkeypatch, unpainted, kept
):
    scores = iter([0.2, 0.9, *[0.5] * 100])
    monkeypatch.setattr(
        judging.Judge,
        "now",
        lambda *_: {"dice": next(scores), "dice_interval": None},
    )
    monkeypatch.setattr(judging.Judge, "try_own", lambda *_: None)
    monkeypatch.setattr(
        "napari_unet.training.lesson.hold_out", lambda t, *_: course_split(t)
    )
    seen = {}
    monkeypatch.setattr(
        "napari_unet.training.finetune._close",
        lambda course, *_: iter([seen.update(best=course.standing.best)]),
    )
    learn(tmp_path / "a.safetensors", steps=80, validation=0.2, unpainted=unpainted)
    assert seen["best"].score == kept


def test_the_longest_learned_of_equal_states_is_kept():
    stand = standing.Standing()

    def kept(look, dice, interval=(0.7, 0.9), rule="longest"):
        scores = {"dice": dice, "dice_interval": interval}
        stand.looks = look
        if better := stand.is_better(scores, rule):
            stand.best = standing.Best({}, dice, scores, look)
        return better

    assert kept(1, 0.80)
    assert kept(2, 0.76)  # within 0.2 / 3.92 of 0.80
    assert not kept(3, 0.70)
    assert not kept(4, 0.74)  # the top counts, not the state that is kept
    assert kept(5, 0.86)
    assert (stand.top, stand.risen) == (0.86, 5)
    assert not kept(6, 0.86, rule="best")
    assert kept(7, 0.82, interval=None)
    assert not kept(8, 0.80, interval=None)
    assert kept(9, 0.10, rule="last")
    assert stand.top == 0.86
    stand.looks = 1000
    stand.best = standing.Best({}, 0.9, {"dice_interval": None}, 5)
    assert not stand.is_stale
    stand.best = standing.Best({}, 0.9, {"dice_interval": (0.8, 1.0)}, 5)
    assert stand.is_stale


def course_split(targets):
    from napari_unet.training.validation import Split

    return Split(list(targets), [np.zeros_like(t) for t in targets])


def test_a_taken_name_is_refused_before_the_work(tmp_path):
    parent, taken = tmp_path / "parent.safetensors", tmp_path / "taken.safetensors"
    learn(parent, steps=1)
    taken.write_text("mine")
    network = checkpoints.load(parent)
    with pytest.raises(UsageError, match="replace the one it starts from"):
        next(finetune([painted()], network, quick(), parent))
    with pytest.raises(OutputError, match="there already"):
        next(finetune([painted()], network, quick(), taken))
    assert taken.read_text() == "mine"


def test_a_class_without_a_channel_is_refused(tmp_path):
    learn(tmp_path / "two.safetensors", steps=1)
    network = checkpoints.load(tmp_path / "two.safetensors")
    strokes = class_strokes()
    strokes[40:42, 5:40] = 3
    with pytest.raises(StrokesError, match=r"class 3.*1 to 2"):
        learn(
            tmp_path / "b.safetensors",
            network,
            examples=[example(two_tone()[0], strokes)],
            strokes="classes",
        )


@pytest.mark.parametrize(
    ("strokes", "words"),
    [
        (np.zeros((48, 48), np.uint8), "Nothing is painted"),
        ((class_strokes() == 2).astype(np.uint8), "single class"),
    ],
)
def test_strokes_that_teach_nothing_are_refused(tmp_path, strokes, words):
    with pytest.raises(StrokesError, match=words):
        learn(tmp_path / "a.safetensors", examples=[example(two_tone()[0], strokes)])


def test_an_image_smaller_than_the_patch_is_learned(tmp_path):
    image, _ = two_tone()
    small = Example(
        ImageStack(image[:9, :7], "YX"), ImageStack(class_strokes()[15:24, :7], "YX")
    )
    strokes = np.ones((9, 7), np.uint8)
    strokes[:4] = 2
    small = example(image[:9, :7], strokes)
    made = learn(tmp_path / "a.safetensors", examples=[small], steps=2, patch=None)
    assert made[-1].result.steps == 2


def test_float16_is_refused(tmp_path):
    with pytest.raises(DeviceError, match="float16"):
        learn(tmp_path / "a.safetensors", precision="float16")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_gpu_learns_what_the_processor_learns(tmp_path, precision):
    settings = {"device": "cuda", "precision": precision, "steps": 60}
    path, next_path = tmp_path / "new.safetensors", tmp_path / "next.safetensors"
    made = learn(path, **settings)[-1].result
    assert made.steps == 60
    image, truth = two_tone(seed=9)
    edge = ndimage.binary_dilation(truth, iterations=3) & ~truth
    assert ((predict(path, image) == 1) == truth)[~edge].mean() > 0.95
    learn(next_path, checkpoints.load(path), **settings)
    assert ((predict(next_path, image) == 1) == truth)[~edge].mean() > 0.95


@pytest.mark.gpu
def test_a_training_on_a_gpu_goes_on(tmp_path):
    path, cancel = tmp_path / "new.safetensors", CancelToken()
    config = quick(device="cuda", max_steps=60)
    for event in finetune([painted()], None, config, path, cancel=cancel):
        if isinstance(event, Metric):
            cancel.set()
    made = list(finetune([painted()], None, config, path, go_on=True))[-1].result
    assert made.steps == 60
