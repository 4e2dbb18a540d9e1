"""Agreement at unpainted pixels leaves the painted ones to the strokes."""

import pytest
import torch
from training_images import class_strokes, example, quick, two_tone

from napari_unet import checkpoints
from napari_unet.config import FinetuneConfig
from napari_unet.events import drain
from napari_unet.networks.spec import ModelSpec
from napari_unet.training.coding import Coding
from napari_unet.training.consistency import consistency_loss, weight
from napari_unet.training.finetune import finetune
from napari_unet.training.lesson import prepare
from napari_unet.training.setup import make_trainer


def coding_of(activation="", channels=3):
    spec = ModelSpec(
        name="", architecture={}, ndim=2, in_channels=1, out_channels=channels,
        task="semantic", **({"activation": activation} if activation else {}),
    )  # fmt: skip
    return Coding.of(spec, "classes")


def draws(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_only_unpainted_pixels_of_the_student_are_drawn_to_the_teacher():
    both = draws(2, 2, 3, 6, 6)
    logits, teacher = (part.clone().requires_grad_(True) for part in both)
    target = torch.zeros(2, 6, 6, dtype=torch.long)
    target[0, :3] = 2
    loss = consistency_loss(logits, teacher, target, coding_of())
    apart = ((both[0].softmax(1) - both[1].softmax(1)) ** 2).sum(1)
    torch.testing.assert_close(loss, apart[target == 0].sum() / target.numel())
    loss.backward()
    assert teacher.grad is None
    moved = (logits.grad != 0).any(1)
    torch.testing.assert_close(moved, target == 0)


def test_networks_that_agree_cost_nothing():
    logits = draws(1, 2, 4, 4)
    target = torch.zeros(1, 4, 4, dtype=torch.long)
    for activation in ("", "sigmoid"):
        loss = consistency_loss(logits, logits, target, coding_of(activation, 2))
        assert float(loss) == 0


def test_it_begins_when_the_teacher_knows_something():
    assert weight(0.1, 0) == 0
    assert 0 < weight(0.3, 0) < weight(0.4, 0) < 1
    assert weight(0.5, 0) == weight(2.0, 400) == 1
    assert 0 < weight(0.1, 100) < weight(0.1, 200) == 1  # a long training
    assert weight(1.0, 500) == 0.5
    assert weight(1.0, 600) == weight(0.2, 5000) == 0


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({}, True),
        ({"unpainted": False}, False),
        ({"complete": True}, False),
        ({"strokes": "classes"}, False),
    ],
)
def test_new_networks_of_objects_look_beyond_strokes_unless_asked_not_to(
    settings, counts
):
    config = quick(**({"strokes": "instances"} | settings))
    lesson = prepare([example(two_tone()[0], class_strokes())], None, config)
    assert bool(make_trainer(lesson, config)._recipe.consistency) == counts


def test_a_checkpoint_is_taught_by_its_strokes_alone(tmp_path):
    painted, path = (
        [example(two_tone()[0], class_strokes())],
        tmp_path / "a.safetensors",
    )
    drain(finetune(painted, None, quick(max_steps=1), path))
    config = FinetuneConfig.build(strokes="classes", device="cpu", patch=(32,))
    lesson = prepare(painted, checkpoints.load(path), config)
    assert make_trainer(lesson, config)._recipe.consistency == 0
