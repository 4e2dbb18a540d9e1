"""Complete boxes: what is not painted inside them is known."""

import numpy as np
import pytest
from training_images import example, quick, two_tone

import napari_unet
from napari_unet.errors import StrokesError, UsageError
from napari_unet.images.stack import ImageStack
from napari_unet.training.annotations import Example
from napari_unet.training.boxes import Box
from napari_unet.training.finetune import finetune
from napari_unet.training.lesson import prepare
from napari_unet.training.scores import evaluate
from napari_unet.training.targets import boxed_target, instance_target


def boxed(image, strokes, *boxes, axes="YX"):
    plain = example(image, strokes, axes)
    return Example(plain.stack, plain.strokes, boxes)


def taught(lesson):
    (target,) = lesson.split.training
    return target


def test_unpainted_pixels_of_a_box_are_background():
    image, truth = two_tone()
    strokes = (truth * 2).astype(np.uint8)
    strokes[24:] = 0
    box = Box({"Y": (0, 20), "X": (4, 40)})
    lesson = prepare([boxed(image, strokes, box)], None, quick(strokes="classes"))
    wanted = strokes.copy()
    inside = wanted[:20, 4:40]
    inside[inside == 0] = 1
    np.testing.assert_array_equal(taught(lesson), wanted)


def test_a_box_of_another_class_needs_no_stroke():
    image, _ = two_tone()
    nothing = np.zeros(image.shape, np.uint8)
    examples = [boxed(image, nothing, Box(unpainted=k)) for k in (1, 2)]
    lesson = prepare(examples, None, quick())
    assert [set(np.unique(t)) for t in lesson.split.training] == [{1}, {2}]


def test_the_planes_of_a_stack_that_a_box_names():
    images, truths = zip(*(two_tone(n) for n in range(3)), strict=True)
    strokes = np.zeros((3, 48, 48), np.uint8)
    strokes[1] = 2 * truths[1]
    box = Box({"Z": (1, 2)})
    lesson = prepare(
        [boxed(np.stack(images), strokes, box, axes="ZYX")], None, quick(ndim=2)
    )
    assert [dict(p.index) for p in lesson.annotations.planes] == [{"Z": 1}]
    np.testing.assert_array_equal(taught(lesson), truths[1] + 1)


def test_objects_in_a_box_have_certain_borders():
    image, truth = two_tone()
    strokes = np.zeros(image.shape, np.uint16)
    strokes[:24, :24][truth[:24, :24]] = 1
    strokes[:24, 24:][truth[:24, 24:]] = 2
    box = Box({"Y": (0, 24)})
    config = quick(strokes="instances")
    lesson = prepare([boxed(image, strokes, box)], None, config)
    target = taught(lesson)
    np.testing.assert_array_equal(
        target[:22], instance_target(strokes, complete=True)[:22]
    )
    assert not target[24:].any()
    assert lesson.weights[0][12, 24] > 1
    assert set(lesson.annotations.ids) == {1, 2, 3}


def test_an_object_cut_by_a_box_has_no_border_there():
    ids = np.zeros((12, 12), int)
    ids[:, :6] = 1
    ids[2:10, 2:6] = 2
    target = boxed_target(ids)
    assert target[5, 2] == 3
    assert target[5, 5] == 4
    assert target[5, 0] == 1
    assert not target[:, 6:].any()


def test_part_of_a_box_is_held_out():
    image, truth = two_tone(size=48)
    wide = np.tile(image, (1, 6)), np.tile(truth, (1, 6))
    lesson = prepare(
        [boxed(wide[0], 2 * wide[1].astype(np.uint8), Box())],
        None,
        quick(validation=0.1),
    )
    assert lesson.validated
    (held,), (training,) = lesson.split.held_out, lesson.split.training
    assert set(np.unique(held)) == set(np.unique(training)) == {0, 1, 2}
    assert not ((held > 0) & (training > 0)).any()


def test_a_box_teaches(tmp_path):
    image, truth = two_tone()
    strokes = (truth * 2).astype(np.uint8)
    strokes[:, 24:] = 0
    path = tmp_path / "a.safetensors"
    events = finetune(
        [boxed(image, strokes, Box({"X": (0, 24)}))], None, quick(max_steps=60), path
    )
    list(events)
    found = np.asarray(napari_unet.predict(image, path, device="cpu"))
    assert evaluate(found.astype(int), truth.astype(int))["dice"] > 0.95


@pytest.mark.parametrize(
    ("box", "settings"),
    [
        (Box({"Z": (0, 1)}), {}),
        (Box({"Y": (3, 3)}), {}),
        (Box({"X": (-1, 9)}), {}),
        (Box({"X": (0, 49)}), {}),
        (Box(unpainted=0), {}),
        (Box(unpainted=2), {"strokes": "instances"}),
    ],
)
def test_a_box_outside_its_image_is_refused(box, settings):
    image, truth = two_tone()
    one = boxed(image, truth.astype(np.uint8), box)
    with pytest.raises(StrokesError, match="A complete box"):
        prepare([one], None, quick(**settings))


def test_complete_labels_and_boxes_are_refused():
    image, truth = two_tone()
    one = boxed(image, truth.astype(np.uint8), Box())
    with pytest.raises(UsageError, match="no complete boxes"):
        prepare([one], None, quick(complete=True))


def test_boxes_through_the_api(tmp_path):
    image, truth = two_tone()
    strokes = (truth * 2).astype(np.uint8)
    settings = dict(quick(max_seconds=0.1))
    del settings["strokes"]
    made = napari_unet.finetune(
        [ImageStack(image, "YX")], [ImageStack(strokes, "YX")],
        tmp_path / "a.safetensors", boxes=[[Box()]], **settings,
    )  # fmt: skip
    assert made.classes == (1, 2)
    with pytest.raises(UsageError, match="list of complete boxes"):
        napari_unet.finetune(
            [image], [strokes], tmp_path / "b.safetensors", boxes=[[], []]
        )
