"""Plans of networks against cases worked out by hand, memory against a real step."""

import json
import math

import numpy as np
import pytest
import tifffile
import torch
from training_images import example, quick, two_tone

from napari_unet.cli import main
from napari_unet.errors import UsageError
from napari_unet.images.stack import ImageStack
from napari_unet.networks.unet import UNet, UNetSpec
from napari_unet.training.annotations import AnnotationSet, Example, complete
from napari_unet.training.lesson import prepare
from napari_unet.training.orientation import is_upright
from napari_unet.training.planning import Wishes, plan_network
from napari_unet.training.typical import (
    large_diameter,
    small_object,
    typical_size,
    typical_spacing,
)

MUCH = 1e12


def test_a_small_volume_of_cubes():
    plan = plan_network((35, 50, 35), (1, 1, 1), None, MUCH)
    # 35, 50, 35 is halved three times (5, 7, 5) and padded to 40, 56, 40; of 49152
    # pixels a patch it keeps the proportions: 32, 48, 32.
    assert plan.patch == (32, 48, 32)
    assert plan.batch == 2
    assert plan.strides == ((2, 2, 2),) * 3
    assert plan.kernels == ((3, 3, 3),) * 4
    assert plan.widths == (16, 32, 64, 128)


def test_a_stack_of_thick_planes_is_halved_in_the_plane_first():
    plan = plan_network((16, 512, 512), (5, 1, 1), None, MUCH)
    # Pixels 5, 1, 1 long become 5, 2, 2 and 5, 4, 4, which are about cubes; 10 planes
    # are then halved once, to 5, and 8 x 8 pixels alone once more, to 4 x 4.
    assert plan.patch == (10, 64, 64)
    assert plan.strides == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2))
    assert plan.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


def test_a_large_plane_has_five_poolings_of_a_quarter_of_half_a_thousand():
    plan = plan_network((30000, 30000), (0.5, 0.5), None, MUCH)
    assert (plan.patch, plan.batch) == ((256, 256), 2)
    assert plan.strides == ((2, 2),) * 5
    assert plan.widths == (24, 48, 96, 192, 256, 256)


@pytest.mark.parametrize(
    ("size", "patch", "depth"), [((5, 5), (5, 5), 0), ((20, 30), (20, 32), 2)]
)
def test_tiny_images_are_halved_as_long_as_four_pixels_stay(size, patch, depth):
    plan = plan_network(size, (1, 1), None, MUCH)
    assert (plan.patch, len(plan.strides), plan.batch) == (patch, depth, 16)


def test_objects_set_the_patch_and_the_depth():
    # Four times 35 is 140, 144 with three poolings, which see 44 pixels to each side.
    plan = plan_network((256, 256), (1, 1), 35.0, MUCH)
    assert (plan.patch, plan.batch, len(plan.strides)) == ((144, 144), 6, 3)
    assert len(plan_network((256, 256), (1, 1), 50.0, MUCH).strides) == 4
    assert len(plan_network((256, 256), (1, 1), 8.0, MUCH).strides) == 1


def test_little_memory_makes_small_patches():
    plan = plan_network((35, 50, 35), (1, 1, 1), None, 1e8)
    assert plan.memory <= 1e8
    assert math.prod(plan.patch) < 32 * 48 * 32


def test_what_is_asked_for_is_taken():
    wishes = Wishes(patch=(20, 64, 64), poolings=(1, 3, 3), width=8, batch=3)
    plan = plan_network((40, 512, 512), (4, 1, 1), 30.0, MUCH, wishes)
    assert (plan.patch, plan.batch) == ((20, 64, 64), 3)
    assert plan.strides == ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert plan.widths == (8, 16, 32, 64)
    assert len(plan_network((64, 64), (1, 1), 3.0, MUCH, Wishes(depth=5)).strides) == 5


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_memory_is_that_of_a_step(ndim):
    size = (96, 96) if ndim == 2 else (16, 24, 24)
    plan = plan_network(size, (1,) * ndim, None, MUCH, Wishes(batch=1, width=8))
    module = UNet(
        UNetSpec(
            ndim=ndim, widths=plan.widths, strides=plan.strides, kernels=plan.kernels
        )
    )
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        module(torch.zeros(1, 1, *plan.patch)).sum()
    weights = sum(4 * p.numel() for p in module.parameters())
    taken = sum(kept.values()) + 6 * weights  # the graph keeps the seventh copy
    assert 0.6 < taken / plan.memory < 1.4


def labelled(labels, axes="YX", scale=None):
    image = ImageStack(labels.astype(np.float32), axes, scale=scale or {})
    return complete(Example(image, ImageStack(labels, axes)))


def test_typical_sizes():
    labels = np.zeros((64, 64), np.uint16)
    for n in range(100):
        labels[6 * (n // 10) : 6 * (n // 10) + 4, 6 * (n % 10) : 6 * (n % 10) + 4] = (
            n + 1
        )
    labels[:2, :16] = 0  # three of a hundred have 8 pixels, the others 16
    examples = [labelled(labels, scale={"Y": 0.5, "X": 0.25}), labelled(labels[:60])]
    annotations = AnnotationSet.gather(examples)
    assert typical_size(examples, "YX") == (62, 64)
    assert typical_spacing(examples, "YX") == {"Y": 0.5, "X": 0.25}
    assert typical_spacing(examples[1:], "YX") == {}
    assert large_diameter(annotations) == pytest.approx(2 * (16 / math.pi) ** 0.5)
    assert small_object(annotations, "YX") == 4


def test_an_object_of_a_volume_counts_once():
    labels = np.zeros((4, 9, 9), np.uint16)
    labels[1, 2:4, 2:4] = 5
    labels[2, 2:6, 2:6] = 5
    annotations = AnnotationSet.gather([labelled(labels, "ZYX")])
    assert large_diameter(annotations) == pytest.approx(2 * (16 / math.pi) ** 0.5)
    assert small_object(annotations, "ZYX") == 10


def test_the_plan_is_the_network():
    image, truth = two_tone(size=96)
    config = quick(complete=True, depth=None, width=None, patch=None, batch=3)
    lesson = prepare([example(image, truth.astype(np.uint8))], None, config)
    plan = plan_network((96, 96), (1, 1), None, MUCH, Wishes(batch=3))
    assert lesson.batch.patch == plan.patch
    assert lesson.batch.size == 3
    assert lesson.notes[0].startswith(
        "New network: 2D, poolings Y 4, X 4, 24 to 256 channels; 3 patches of 96 x 96"
    )
    assert lesson.network.spec.architecture["widths"] == list(plan.widths)


def test_poolings_of_another_number_of_axes_are_refused():
    image, truth = two_tone()
    config = quick(complete=True, poolings=(1, 2, 2))
    with pytest.raises(UsageError, match="list of poolings"):
        prepare([example(image, truth.astype(np.uint8))], None, config)


def sided(random, flipped):
    target = np.ones((20, 30), np.uint8)
    top = random.integers(2, 5)
    target[top : top + 4, 10:20] = 2
    return target[::-1] if flipped else target


def test_images_that_look_the_same_way_up_are_known():
    random = np.random.default_rng(0)
    targets = [sided(random, False) for _ in range(10)]
    assert is_upright(targets)
    assert not is_upright(targets[:7])
    assert not is_upright([sided(random, n % 2) for n in range(10)])


def test_upright_images_are_told_and_can_be_turned_after_all():
    random = np.random.default_rng(0)
    labels = [sided(random, False) - 1 for _ in range(8)]
    examples = [example(a.astype(np.float32), a) for a in labels]
    config = quick(complete=True, strokes="classes")
    lesson = prepare(examples, None, config)
    assert lesson.upright
    assert "same way up" in lesson.notes[-1]
    any_way = config.model_copy(update={"orientation": "any"})
    assert not prepare(examples, None, any_way).upright


def test_the_command_tells_the_plan_and_follows_the_settings(tmp_path, capsys):
    image, truth = two_tone(size=96)
    tifffile.imwrite(tmp_path / "i.tif", image)
    tifffile.imwrite(tmp_path / "l.tif", truth.astype(np.uint8))
    command = ["finetune", "--plan", "--new", "--complete", "--json"]
    names = {"--image": "i.tif", "--strokes": "l.tif"}
    for option, name in names.items():
        command += [option, str(tmp_path / name)]
    assert main([*command, "--depth", "2", "--width", "8", "--batch", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["widths"], found["batch"]) == ([8, 16, 32], 3)
    assert found["patch"] == [96, 96]
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".tif"]
