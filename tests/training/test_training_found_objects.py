"""Held-out objects are scored; the best of averaged and own weights is kept in time."""

import time

import pytest
import torch
from test_training_complete import pairs
from training_images import example, quick

from napari_unet.events import drain
from napari_unet.training.clock import Clock
from napari_unet.training.course import Course
from napari_unet.training.finetune import finetune
from napari_unet.training.found_objects import HeldOutObjects
from napari_unet.training.lesson import prepare


@pytest.fixture(scope="module")
def lesson():
    config = quick(complete=True, strokes="instances", validation=0.25)
    return prepare([example(*pair) for pair in pairs(4, True)], None, config)


def told(seen):
    """Logits that say interior where something is seen, else background."""
    return torch.cat([-seen, seen, torch.full_like(seen, -30)], 1)


def bright(images):
    return torch.where(images > 0.5, 20.0, -20.0)


def test_every_object_found(lesson):
    assert HeldOutObjects.is_judged(lesson)
    scores = HeldOutObjects(lesson).score(lambda images: told(bright(images)))
    assert scores["true"] == scores["predicted"] == 4
    assert scores["ap"]["0.5"] == 1
    low, high = scores["ap_interval"]["0.5"]
    assert low < 1
    assert high == 1


def test_half_of_the_objects_found(lesson):
    def upper(images):
        seen = bright(images)
        seen[:, :, 24:] = -20.0
        return told(seen)

    scores = HeldOutObjects(lesson).score(upper)
    assert scores["ap"]["0.5"] == 0.5
    assert (scores["tp"], scores["fp"], scores["fn"]) == (2, 0, 2)


def test_objects_that_are_one(lesson):
    judge = HeldOutObjects(lesson)
    scores = judge.score(lambda images: told(torch.full_like(images, 20.0)))
    assert scores["ap"]["0.5"] == 0
    assert scores["predicted"] == 1


def test_classes_have_no_objects():
    config = quick(complete=True, strokes="classes", validation=0.25)
    examples = [example(*pair) for pair in pairs(4, False)]
    assert not HeldOutObjects.is_judged(prepare(examples, None, config))


def test_a_round_tells_its_objects(tmp_path):
    config = quick(complete=True, strokes="instances", validation=0.25, max_steps=2)
    examples = [example(*pair) for pair in pairs(4, True)]
    events = []
    made = drain(
        finetune(examples, None, config, tmp_path / "a.safetensors"),
        events.append,
    )
    assert made.scores["objects"]["true"] == 4
    assert "dice_interval" in made.scores
    assert "val_ap" in {getattr(event, "name", "") for event in events}


@pytest.mark.parametrize("better", [True, False])
def test_the_weights_in_training_are_taken_where_they_are_better(
    tmp_path, lesson, monkeypatch, better
):
    config = quick(complete=True, strokes="instances", validation=0.25, max_steps=3)
    clock = Clock(time.monotonic(), 600)
    course = Course(lesson, config, clock, output=tmp_path / "a.safetensors")
    judged = []

    def score(forward):
        judged.append(forward)
        own = bool(getattr(forward, "keywords", {}))
        return {"dice": 0.5 + (0.1 if better else -0.1) * own}

    monkeypatch.setattr(course.judge, "score", score)
    list(course.run(None))
    assert len(judged) == 2
    trainer = course._trainer
    wanted = trainer.state(averaged=not better)
    for name, tensor in course.tuned.items():
        assert torch.equal(tensor, wanted[name])


def test_what_comes_after_the_last_step_has_its_time():
    clock = Clock(time.monotonic(), 100)
    clock.add(30)
    assert clock.share == pytest.approx(0.3, abs=0.02)
    clock.after = 40
    assert clock.share == pytest.approx(0.5, abs=0.02)
    clock.after = 90  # the steps keep half
    assert clock.share == pytest.approx(0.6, abs=0.02)
