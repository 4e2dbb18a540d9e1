"""Complete labels: 0 is background, and whole images are held out."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from training_images import example, quick, two_tone

import napari_unet
from napari_unet import checkpoints
from napari_unet.networks.spec import ModelSpec
from napari_unet.tasks.instances import Instances
from napari_unet.training.augmentation import Augmentation, points
from napari_unet.training.finetune import finetune
from napari_unet.training.lesson import prepare
from napari_unet.training.losses import cross_entropy, plain_cross_entropy
from napari_unet.training.recipe import learning_rate
from napari_unet.training.sampling import PatchSampler
from napari_unet.training.scores import evaluate
from napari_unet.training.targets import instance_target


def pairs(number, numbered):
    for seed in range(number):
        image, truth = two_tone(seed)
        labels = ndimage.label(truth)[0] if numbered else truth
        yield image, labels.astype(np.uint16)


@pytest.mark.parametrize("numbered", [False, True])
def test_complete_labels_are_learned(tmp_path, numbered):
    strokes = "instances" if numbered else "classes"
    config = quick(complete=True, strokes=strokes, patch=(48,), batch=2, max_steps=160)
    examples = [example(*pair) for pair in pairs(3, numbered)]
    path = tmp_path / "a.safetensors"
    list(finetune(examples, None, config, path))
    network = checkpoints.load(path)
    assert network.spec.task == ("instances" if numbered else "semantic")
    (image, _), (_, truth) = two_tone(9), next(pairs(1, numbered))
    kind = "instances" if numbered else "labels"
    found = np.asarray(napari_unet.predict(image, path, kind=kind, device="cpu"))
    scores = evaluate(found.astype(int), truth.astype(int), "instances")
    assert scores["ap"]["0.7"] == 1 if numbered else (found == truth).mean() > 0.97


def test_targets_are_those_of_complete_objects():
    (image, labels), *_ = pairs(1, True)
    labels[24:, 24:] = 0
    config = quick(complete=True, strokes="instances")
    lesson = prepare([example(image, labels)], None, config)
    # Half of the smallest of three discs of 145 pixels.
    assert lesson.network.spec.smallest == 72
    (target,) = lesson.split.training
    np.testing.assert_array_equal(target, instance_target(labels, complete=True))
    assert lesson.weights[0].shape == labels.shape


def test_the_three_classes_of_results_are_three_channels():
    image, truth = two_tone()
    labels = truth.astype(np.uint8)
    labels[30:][truth[30:]] = 2
    lesson = prepare(
        [example(image, labels)], None, quick(complete=True, strokes="classes")
    )
    assert lesson.network.spec.out_channels == 3
    np.testing.assert_array_equal(lesson.split.training[0], labels + 1)
    assert lesson.weights is None


def test_whole_images_are_held_out():
    config = quick(complete=True, strokes="instances", validation=0.25)
    lesson = prepare([example(*pair) for pair in pairs(4, True)], None, config)
    assert lesson.validated
    held = [bool(t.any()) for t in lesson.split.held_out]
    assert sum(held) == 1
    for out, training, is_held in zip(
        lesson.split.held_out, lesson.split.training, held, strict=True
    ):
        assert (out > 0).all() == is_held
        assert (training > 0).all() != is_held


def test_the_learning_rate_of_complete_labels_falls_to_nothing():
    assert learning_rate(0.5, falling=False) == 1
    assert learning_rate(0.5, falling=True) == pytest.approx(0.5)
    assert learning_rate(1.0, falling=True) == pytest.approx(0)


def test_a_common_class_does_not_count_more_when_classes_are_balanced():
    log = torch.log(torch.tensor([[0.9, 0.1]] * 9 + [[0.8, 0.2]]))
    wanted = torch.tensor([1] * 9 + [2])
    common, rare = -math.log(0.9), -math.log(0.2)
    assert cross_entropy(log, wanted) == pytest.approx((common + rare) / 2)
    plain = plain_cross_entropy(log, wanted)
    assert plain == pytest.approx((9 * common + rare) / 10)
    weights = torch.tensor([1.0] * 9 + [3.0])
    weighted = plain_cross_entropy(log, wanted, weights)
    assert weighted == pytest.approx((9 * common + 3 * rare) / 12)


def test_patches_of_complete_labels_come_from_all_images():
    crowded, sparse = np.zeros((2, 64, 64), int)
    crowded[::4, ::4], sparse[30, 30] = 1, 1
    images = [np.zeros((1, 64, 64), np.float32), np.ones((1, 64, 64), np.float32)]
    plain = Augmentation(geometry=False, light=False)
    sampler = PatchSampler(images, [crowded, sparse], (8, 8), plain, by_image=True)
    drawn = sampler.draw(200, torch.Generator().manual_seed(0))
    assert 0.4 < float(drawn.images.mean()) < 0.6


def test_upright_patches_are_hardly_turned():
    how = Augmentation(upright=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        where = points((33, 33), (0.0, 0.0), how, generator)
        down, right = where[28, 16] - where[4, 16], where[16, 28] - where[16, 4]
        assert down[0] > abs(down[1])
        assert right[1] > abs(right[0])


def test_objects_smaller_than_those_of_the_labels_are_left_out():
    spec = ModelSpec(ndim=2, in_channels=1, out_channels=3, task="instances")
    interior = np.zeros((12, 12), np.float32)
    interior[1:3, 1:3] = interior[5:9, 5:9] = 1
    evidence = np.stack([interior, np.zeros_like(interior)])
    every = Instances(spec).separate(evidence, 0.5)
    large = Instances(spec.model_copy(update={"smallest": 5})).separate(evidence, 0.5)
    assert every.max() == 2
    np.testing.assert_array_equal(large, interior * (every == every[6, 6]))
