"""The first teacher of a new network: a classifier of single pixels."""

import numpy as np
import pytest
import torch
from skimage.feature import multiscale_basic_features
from training_images import class_strokes, example, quick, two_tone

from napari_unet import checkpoints
from napari_unet.config import FinetuneConfig
from napari_unet.events import drain
from napari_unet.images.stack import ImageStack
from napari_unet.networks.spec import ModelSpec
from napari_unet.training import pixels
from napari_unet.training.annotations import Example
from napari_unet.training.coding import Coding
from napari_unet.training.features import eigenvalues, features_of
from napari_unet.training.finetune import finetune
from napari_unet.training.lesson import prepare
from napari_unet.training.pixels import soft_loss, soft_targets
from napari_unet.training.setup import kept_by, make_trainer, soft_of


def solid():
    """Bright rods on dark, their truth, and strokes on two planes."""
    image, truth = two_tone()
    strokes = np.zeros((8, *image.shape), np.uint16)
    strokes[2], strokes[6] = class_strokes(), class_strokes()
    return np.stack([image] * 8) / 100, np.stack([truth] * 8), strokes


def test_features_are_those_of_a_slope():
    y, _ = np.mgrid[:80, :70].astype(np.float32)
    features = features_of(np.stack([3 * y, 0 * y]))
    assert features.dtype == np.float32
    features = features.reshape(80, 70, 4, 2, 4)
    smooth, edge, *texture = features[40, 35, :4, 0].T  # sigma 1 to 8
    np.testing.assert_allclose(smooth, 120, rtol=1e-3)
    # Sobel: root of the mean square over the axes, of differences over two pixels.
    np.testing.assert_allclose(edge, 2 * 3 / 2**0.5, rtol=0.02)
    np.testing.assert_allclose(texture, 0, atol=1e-3)
    assert not features[..., 1, :].any()


@pytest.mark.parametrize("shape", [(40, 60), (12, 20, 24)])
def test_features_are_those_of_scikit_image(shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = multiscale_basic_features(image, sigma_min=1, sigma_max=8)
    found = features_of(image[None])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_eigenvalues_are_those_of_lapack():
    random = np.random.default_rng(0)
    matrices = random.normal(size=(500, 3, 3)) * 10.0 ** random.integers(
        -6, 6, (500, 1, 1)
    )
    matrices += matrices.transpose(0, 2, 1)
    matrices[:3] = np.zeros((3, 3)), np.eye(3), np.diag([2.0, 2.0, 5.0])
    upper = [matrices[:, i, j] for i in range(3) for j in range(i, 3)]
    expected = np.linalg.eigvalsh(matrices)[:, ::-1]
    off = np.stack(eigenvalues(upper), -1) - expected
    assert (np.abs(off).max(1) <= 1e-7 * np.abs(expected).max(1)).all()


def test_features_turn_with_the_image():
    image = np.random.default_rng(0).normal(size=(1, 9, 12, 12)).astype(np.float32)
    turned = np.rot90(image, axes=(2, 3)).copy()
    expected = np.rot90(features_of(image), axes=(1, 2))
    np.testing.assert_allclose(features_of(turned), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 1, 1), (2, 1, 5)])
def test_single_planes_and_pixels_have_features(shape):
    features = features_of(np.ones(shape, np.float32))
    assert features.shape[:-1] == shape[1:]
    assert np.isfinite(features).all()


def test_few_strokes_tell_all_other_pixels():
    image, truth, strokes = solid()
    (soft,) = soft_targets([image[None].astype(np.float32)], [strokes], 2, 0)
    told = soft.any(0)
    np.testing.assert_allclose(soft.sum(0)[told], 1, atol=1e-5)
    assert told[strokes == 0].mean() > 0.5
    right = (soft.argmax(0) == truth)[told & (strokes == 0)]
    assert right.mean() > 0.9


def test_what_trees_say_in_volumes_is_smooth_in_units_of_length(monkeypatch):
    image, _, strokes = solid()
    stack = ImageStack(image.astype(np.float32), "ZYX", scale={"Z": 3, "Y": 1, "X": 1})
    painted = Example(stack, ImageStack(strokes, "ZYX", name="strokes"))
    config = quick(ndim=3, patch=(8, 32, 32))
    lesson = prepare([painted], None, config)
    speck = np.zeros((2, *image.shape), np.float32)
    speck[1, 4, 24, 24] = 1
    speck[0] = 1 - speck[1]
    monkeypatch.setattr(pixels, "_judged", lambda *_: speck)
    (soft,) = soft_of(lesson, config)
    np.testing.assert_allclose(soft.sum(0), 1, atol=1e-5)
    for axis, sigma in enumerate((5 / 6, 2.5, 2.5)):
        share = soft[1].sum(tuple({0, 1, 2} - {axis}))
        at = np.arange(len(share)) - np.average(np.arange(len(share)), weights=share)
        assert np.average(at**2, weights=share) ** 0.5 == pytest.approx(sigma, abs=0.1)


def test_pixels_unlike_the_painted_ones_are_left_to_the_strokes():
    image = np.zeros((48, 96), np.float32)
    image[:, 32:64], image[:, 64:] = 0.5, 1.0
    image += np.random.default_rng(0).normal(0, 0.02, image.shape)
    strokes = np.zeros(image.shape, np.uint8)
    strokes[10:40, 10:14], strokes[10:40, 82:86] = 1, 2
    (soft,) = soft_targets([image[None]], [strokes], 2, 0)
    told = soft.any(0)
    assert told[:, 5:20].mean() > 0.6
    assert told[:, 76:91].mean() > 0.6
    assert told[:, 44:52].mean() < 0.1


def test_a_single_painted_pixel_is_no_error():
    strokes = np.zeros((8, 8), np.uint8)
    strokes[4, 4] = 2
    (soft,) = soft_targets([np.ones((1, 8, 8), np.float32)], [strokes], 2, 0)
    assert not soft[0].any()


def test_the_seed_alone_decides():
    image, _, strokes = solid()
    given = [image[None].astype(np.float32)], [strokes], 2
    first = soft_targets(*given, 3)[0]
    torch.rand(7)
    before = torch.get_rng_state()
    np.testing.assert_array_equal(soft_targets(*given, 3)[0], first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not np.array_equal(soft_targets(*given, 4)[0], first)


def test_blocks_beyond_the_limit_are_left_to_their_strokes(monkeypatch):
    image, _, strokes = solid()
    small, paint = image[None, :, :, :24].astype(np.float32), strokes[:, :, :24]
    monkeypatch.setattr(pixels, "_MOST_PIXELS", strokes.size + 1)
    images = [image[None].astype(np.float32), small]
    left, told = soft_targets(images, [strokes, paint], 2, 0)
    assert not left.any()
    assert told.any(0).mean() > 0.5


def test_strokes_without_a_block_within_the_limit_are_no_error(monkeypatch):
    image, _, strokes = solid()
    monkeypatch.setattr(pixels, "_MOST_PIXELS", 1)
    (soft,) = soft_targets([image[None]], [strokes], 2, 0)
    assert not soft.any()


@pytest.mark.parametrize("activation", ["", "sigmoid"])
def test_only_unpainted_pixels_that_it_knows_are_drawn_to_it(activation):
    spec = ModelSpec(
        name="", architecture={}, ndim=2, in_channels=1,
        out_channels=2 if activation else 3, task="semantic",
        **({"activation": activation} if activation else {}),
    )  # fmt: skip
    coding = Coding.of(spec, "classes")
    random = torch.Generator().manual_seed(0)
    logits = torch.randn((1, spec.out_channels, 4, 4), generator=random)
    soft = torch.rand((1, 3, 4, 4), generator=random).softmax(1)
    soft[..., 3] = 0
    target = torch.zeros((1, 4, 4), dtype=torch.long)
    target[0, :2] = 2
    logits.requires_grad_(True)
    loss = soft_loss(logits, soft, target, coding)
    expected = 0.0
    for y in (2, 3):
        for x in (0, 1, 2):
            log = coding.log_probability(logits[:, :, y, x].detach())[0]
            expected -= float((soft[0, :, y, x] * log).sum()) / 16
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    moved = (logits.grad != 0).any(1)[0]
    assert moved[2:, :3].all()
    assert moved.sum() == 6


def lesson_of(config, network=None, flat=False):
    image, _, strokes = solid()
    image, strokes, axes = (
        (image[2], strokes[2], "YX") if flat else (image, strokes, "ZYX")
    )
    return prepare([example(image, strokes, axes)], network, config)


SMALL = {"strokes": "classes", "patch": (8, 16, 16), "width": 4}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("settings", "has"),
    [({}, True), ({"unpainted": False}, False), ({"complete": True}, False)],
)
def test_new_networks_have_a_first_teacher_unless_asked_not_to(ndim, settings, has):
    small = SMALL | {"patch": SMALL["patch"][-ndim:]}
    config = quick(**small, **settings, ndim=ndim)
    lesson = lesson_of(config, flat=ndim == 2)
    assert (soft_of(lesson, config) is not None) == has
    trainer = make_trainer(lesson, config)
    assert (trainer._draw().soft is not None) == has
    assert trainer._recipe.consistency == 0
    assert trainer._recipe.falling == ("complete" in settings or (has and ndim == 3))
    rule = "best" if "complete" in settings else "last" if has else "longest"
    assert kept_by(lesson, config) == rule
    mixed = 0.0 if ndim == 3 or "complete" in settings else 0.5 if has else 1.0
    assert trainer._sampler._how.mixed == mixed


@pytest.mark.parametrize(
    ("settings", "held"),
    [({}, 2), ({"unpainted": False}, 4), ({"validation": 0.4}, 8)],
)
def test_fewer_strokes_are_held_out_beside_it(settings, held):
    image, _ = two_tone()
    wide, strokes = np.tile(image, (1, 20)), np.zeros((48, 960), np.uint16)
    strokes[23:25, 20::48], strokes[11:13, 36::48] = 1, 2  # twenty of each
    config = quick(**({"patch": (16, 16), "width": 4, "validation": None} | settings))
    lesson = prepare([example(wide, strokes)], None, config)
    for value in (1, 2):
        owners = [
            np.unique(numbers[out == value])
            for numbers, out in zip(lesson.numbers, lesson.split.held_out, strict=True)
        ]
        assert len(np.concatenate(owners)) == held


def test_checkpoints_and_painted_objects_have_none(tmp_path):
    config, path = quick(**SMALL, ndim=3, max_steps=1), tmp_path / "a.safetensors"
    image, _, strokes = solid()
    drain(finetune([example(image, strokes, "ZYX")], None, config, path))
    base = FinetuneConfig.build(strokes="classes", device="cpu", patch=(8, 16, 16))
    assert soft_of(lesson_of(base, checkpoints.load(path)), base) is None
    objects = quick(strokes="instances")
    assert soft_of(lesson_of(objects, flat=True), objects) is None


def test_it_does_not_see_what_is_held_out():
    config = quick(**(SMALL | {"depth": 1, "validation": 0.3}), ndim=3, seed=1)
    image, _, strokes = (np.concatenate([a] * 4, 2) for a in solid())
    strokes[6] = 0
    lesson = prepare([example(image, strokes, "ZYX")], None, config)
    assert lesson.validated
    soft = soft_of(lesson, config)
    for block, held in zip(lesson.blocks, lesson.split.held_out, strict=True):
        block.strokes[held > 0] = 3 - block.strokes[held > 0]
        held[held > 0] = 3 - held[held > 0]
    for before, after in zip(soft, soft_of(lesson, config), strict=True):
        np.testing.assert_array_equal(before, after)
