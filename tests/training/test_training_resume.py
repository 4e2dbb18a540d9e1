"""A training goes on after a kill to the same weights, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from training_images import class_strokes, example, quick, two_tone

from napari_unet import checkpoints, disk
from napari_unet.errors import ModelError, UsageError
from napari_unet.events import CancelToken, Metric, Warned
from napari_unet.training import course, judging, kept, references, resume
from napari_unet.training.finetune import finetune
from napari_unet.training.trainer import Trainer

STEPS = 24
SMALL = {"width": 4, "patch": (16,), "seed": 3}


class Killed(BaseException):
    """What a kill is to code that cannot catch it."""


def run(path, network=None, strokes=None, cancel=None, steps=STEPS, **more):
    go_on = more.pop("go_on", False)
    marked = example(two_tone()[0], class_strokes() if strokes is None else strokes)
    config = quick(**{**SMALL, **more}, max_steps=steps)
    return finetune([marked], network, config, path, go_on=go_on, cancel=cancel)


def state(path):
    return checkpoints.load(path).module.state_dict()


def same(a, b):
    return all(torch.equal(t, b[n]) for n, t in a.items())


@pytest.fixture
def often(monkeypatch):
    """Look every third step and keep the state at every look."""
    monkeypatch.setattr(course, "_LOOK", 3)
    monkeypatch.setattr(kept, "_PAUSE", 0.0)


def kill_at(monkeypatch, number):
    """Kill the training in its step `number`."""
    step, taken = Trainer.step, []

    def killed(self, progress):
        taken.append(progress)
        if len(taken) == number:
            raise Killed
        return step(self, progress)

    monkeypatch.setattr(Trainer, "step", killed)
    return lambda: monkeypatch.setattr(Trainer, "step", step)


@pytest.mark.usefixtures("often")
def test_killed_at_random_steps_the_weights_are_bit_equal(tmp_path, monkeypatch):
    """At five steps; UNET_KILLS=20 takes as many."""
    whole = tmp_path / "whole.safetensors"
    list(run(whole))
    want = state(whole)
    count = int(os.environ.get("UNET_KILLS", "5"))
    kills = np.random.default_rng(0).permutation(np.arange(4, STEPS + 1))[:count]
    for number in kills:
        path = tmp_path / f"{number}.safetensors"
        undo = kill_at(monkeypatch, int(number))
        with pytest.raises(Killed):
            list(run(path))
        undo()
        assert not path.exists()
        made = list(run(path, go_on=True))[-1].result
        assert made.steps == STEPS
        assert same(state(path), want), number
        assert not resume.beside(path).exists()


@pytest.mark.usefixtures("often")
def test_best_scores_and_the_network_it_starts_from_survive_too(tmp_path, monkeypatch):
    parent, whole = tmp_path / "parent.safetensors", tmp_path / "whole.safetensors"
    list(run(parent, steps=2))
    network = checkpoints.load(parent)
    scores = iter([0.2, 0.3, 0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    monkeypatch.setattr(judging.Judge, "now", lambda *_: {"dice": next(scores)})
    monkeypatch.setattr(
        "napari_unet.training.lesson.hold_out", lambda targets, *_: _nothing(targets)
    )
    list(run(whole, network, validation=0.2))
    scores = iter([0.2, 0.3, 0.9, 0.5])
    path = tmp_path / "killed.safetensors"
    undo = kill_at(monkeypatch, 11)
    with pytest.raises(Killed):
        list(run(path, network, validation=0.2))
    undo()
    scores = iter([0.4, 0.3, 0.2, 0.1, 0.1])
    made = list(run(path, network, validation=0.2, go_on=True))[-1].result
    assert (made.score_before, made.score_after) == (0.2, 0.9)
    assert same(state(path), state(whole))


def widely(path, **more):
    """Teach a new network strokes of which some are held out."""
    image, strokes = (np.tile(a, (1, 8)) for a in (two_tone()[0], class_strokes()))
    strokes[:, ::48] = 0  # strokes of one picture each
    config = quick(**SMALL, validation=0.2, max_steps=STEPS)
    return list(finetune([example(image, strokes)], None, config, path, **more))


@pytest.mark.usefixtures("often")
def test_what_scored_a_new_network_is_learned_in_its_second_half(tmp_path, monkeypatch):
    taught, learn_from = [], Trainer.learn_from

    def noted(self, sampler):
        taught.append((self.steps, len(sampler.strokes)))
        learn_from(self, sampler)

    monkeypatch.setattr(Trainer, "learn_from", noted)
    whole = tmp_path / "whole.safetensors"
    events = widely(whole)
    strokes = sum(class_strokes()[:, 1:].any(1)[[1, 12, 23, 35]]) * 8
    assert taught == [(STEPS // 2, strokes)]
    made = events[-1].result
    scores = [e for e in events if isinstance(e, Metric) and e.name == "val_dice"]
    assert scores[-1].step == STEPS // 2
    assert made.score_after == scores[-1].value
    assert any("learned too" in note for note in made.notes)
    marks = references.load(whole).marks
    assert not any(rows[:, 0].any() for rows in marks.values())

    for number in (8, 18):
        path = tmp_path / f"{number}.safetensors"
        undo = kill_at(monkeypatch, number)
        with pytest.raises(Killed):
            widely(path)
        undo()
        again = widely(path, go_on=True)[-1].result
        assert again.score_after == made.score_after
        assert same(state(path), state(whole)), number


@pytest.mark.usefixtures("often")
def test_a_checkpoint_does_not_learn_what_scores_it(tmp_path, monkeypatch):
    parent, path = tmp_path / "parent.safetensors", tmp_path / "a.safetensors"
    widely(parent)
    monkeypatch.setattr(Trainer, "learn_from", None)
    image, strokes = (np.tile(a, (1, 8)) for a in (two_tone()[0], class_strokes()))
    config = quick(patch=(16,), validation=0.2, max_steps=4)
    network = checkpoints.load(parent)
    made = list(finetune([example(image, strokes)], network, config, path))[-1].result
    assert made.validated
    marks = references.load(path).marks
    assert any(rows[:, 0].any() for rows in marks.values())


def _nothing(targets):
    from napari_unet.training.validation import Split

    return Split(list(targets), [np.zeros_like(t) for t in targets])


@pytest.mark.usefixtures("often")
def test_a_stopped_training_goes_on_from_where_it_was(tmp_path):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "a.safetensors"
    list(run(whole))
    token = CancelToken()
    for event in run(path, cancel=token):
        if isinstance(event, Metric) and event.step >= 9:
            token.set()
    assert event.result.stopped
    assert event.result.steps < STEPS
    list(run(path, go_on=True))
    assert same(state(path), state(whole))


@pytest.mark.usefixtures("often")
def test_a_volume_with_its_first_teacher_goes_on_bit_equal(tmp_path, monkeypatch):
    image, strokes = (np.stack([a] * 4) for a in (two_tone()[0], class_strokes()))
    config = quick(**(SMALL | {"patch": (4, 16, 16)}), ndim=3, max_steps=6)
    painted = [example(image, strokes, "ZYX")]
    whole, path = tmp_path / "whole.safetensors", tmp_path / "a.safetensors"
    list(finetune(painted, None, config, whole))
    undo = kill_at(monkeypatch, 5)
    with pytest.raises(Killed):
        list(finetune(painted, None, config, path))
    undo()
    torch.rand(3)  # the generator of all others has moved on
    list(finetune(painted, None, config, path, go_on=True))
    assert same(state(path), state(whole))


def test_dropout_follows_the_seed(tmp_path, monkeypatch):
    from napari_unet.networks import unet

    built = unet.UNet.__init__

    def dropping(self, spec):
        built(self, spec)
        self.register_forward_pre_hook(
            lambda module, args: (
                torch.nn.functional.dropout(args[0], 0.3, module.training),
            )
        )

    monkeypatch.setattr(unet.UNet, "__init__", dropping)
    paths = [tmp_path / f"{n}.safetensors" for n in range(2)]
    for path in paths:
        torch.manual_seed(time.monotonic_ns())
        list(run(path, steps=3))
    assert same(state(paths[0]), state(paths[1]))


@pytest.mark.usefixtures("often")
def test_another_training_does_not_go_on(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    undo = kill_at(monkeypatch, 10)
    with pytest.raises(Killed):
        list(run(path))
    undo()
    moved = np.roll(class_strokes(), 1)
    with pytest.raises(UsageError, match="other strokes"):
        list(run(path, strokes=moved, go_on=True))
    with pytest.raises(UsageError, match="other settings"):
        list(run(path, seed=4, go_on=True))
    with pytest.raises(UsageError, match="no training of b"):
        list(run(tmp_path / "b.safetensors", go_on=True))
    kept = resume.beside(path)
    kept.write_bytes(kept.read_bytes()[:-50])
    with pytest.raises(ModelError, match="damaged"):
        list(run(path, go_on=True))


@pytest.mark.usefixtures("often")
def test_a_full_disk_leaves_the_state_before_and_does_not_end_the_training(tmp_path):
    path = tmp_path / "a.safetensors"
    begun = []

    def full(call, part):
        if call == "open" and part.endswith(resume.beside(path).suffix):
            begun.append(part)
            if len(begun) == 3:
                raise OSError(28, "No space left on device")

    told = []
    with disk.observed(full):
        for event in run(path):
            if isinstance(event, Warned) and "could not be kept" in event.message:
                told.append(resume.load(path).facts["steps"])
    assert told == [6]
    assert event.result.steps == STEPS
    whole = tmp_path / "whole.safetensors"
    list(run(whole))
    assert same(state(path), state(whole))


CHILD = """
import pathlib, sys, time
sys.path[:0] = {paths}
import torch
torch.set_num_threads(1)
from test_training_resume import run
from napari_unet.training import course, kept
from napari_unet.training.trainer import Trainer
course._LOOK, kept._PAUSE = 3, 0.0
step = Trainer.step
Trainer.step = lambda self, p: (time.sleep(0.05), step(self, p))[1]
for event in run(pathlib.Path({path!r})):
    pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_leaves_a_state_to_go_on_from(tmp_path):
    path = tmp_path / "a.safetensors"
    code = CHILD.format(paths=json.dumps(sys.path), path=str(path))
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    end = time.monotonic() + 120
    while not resume.beside(path).exists() and time.monotonic() < end:
        assert child.poll() is None, child.stderr.read().decode()
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert not path.exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        list(run(path, go_on=True))
        whole = tmp_path / "whole.safetensors"
        list(run(whole))
    finally:
        torch.set_num_threads(threads)
    assert same(state(path), state(whole))
