"""Complete labels: 0 is background, and whole images are held out."""

import numpy as np
import pytest
from scipy import ndimage
from training_images import example, quick, two_tone

import napari_unet
from napari_unet import checkpoints
from napari_unet.training.finetune import finetune
from napari_unet.training.lesson import prepare
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
    config = quick(complete=True, strokes=strokes, patch=(48,))
    examples = [example(*pair) for pair in pairs(3, numbered)]
    path = tmp_path / "a.safetensors"
    list(finetune(examples, None, config, path, max_steps=160))
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
