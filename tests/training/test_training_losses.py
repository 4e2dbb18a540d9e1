"""The loss sees painted pixels only, and codes targets as documented."""

import math

import numpy as np
import pytest
import torch

from napari_unet.errors import ModelError, StrokesError
from napari_unet.networks.spec import ModelSpec
from napari_unet.training.coding import Coding
from napari_unet.training.losses import cross_entropy, painted, stroke_loss


def coding(kind="classes", **spec):
    return Coding.of(ModelSpec(ndim=2, in_channels=1, **spec), kind)


CODINGS = {
    "softmax": (coding(out_channels=3), 3),
    "sigmoid": (coding(out_channels=1, activation="sigmoid"), 2),
    "its own sigmoid": (coding(out_channels=1, activation="none"), 2),
    "its own softmax": (coding(out_channels=3, activation="none"), 3),
    "two sigmoids": (coding(out_channels=2, activation="sigmoid"), 3),
    "classes for instances": (coding(out_channels=3, task="instances"), 2),
    "objects": (coding("instances", out_channels=3, task="instances"), 4),
    "objects, two classes": (coding("instances", out_channels=2), 4),
}


@pytest.mark.parametrize("name", CODINGS)
def test_the_gradient_is_exactly_zero_at_every_unpainted_logit(name):
    code, targets = CODINGS[name]
    generator = torch.Generator().manual_seed(0)
    shape = (2, code.rows.shape[1], 9, 11)
    logits = torch.randn(shape, generator=generator, requires_grad=True)
    target = torch.randint(0, targets + 1, (2, 9, 11), generator=generator)
    target[torch.rand(2, 9, 11, generator=generator) < 0.7] = 0
    stroke_loss(logits, target, code).backward()
    slope = logits.grad.abs().amax(1)
    assert (slope[target == 0] == 0).all()
    assert (slope[target > 0] > 0).any()


@pytest.mark.parametrize("name", CODINGS)
def test_a_patch_without_paint_costs_nothing(name):
    code, _ = CODINGS[name]
    logits = torch.full((1, code.rows.shape[1], 4, 4), math.inf, requires_grad=True)
    loss = stroke_loss(logits, torch.zeros(1, 4, 4, dtype=torch.long), code)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_the_loss_of_one_pixel_by_hand():
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1)
    loss = stroke_loss(
        logits, torch.tensor([[[2]]]), CODINGS["objects, two classes"][0]
    )
    # p = 3/4: cross-entropy -ln(3/4), soft Dice 2 p / (p + 1)
    assert float(loss) == pytest.approx(-math.log(0.75) + 1 - 1.5 / 1.75, abs=1e-6)


def test_an_object_pixel_is_interior_or_boundary():
    code = CODINGS["classes for instances"][0]
    vectors = torch.tensor([[0.2, 1.0, -0.5]])
    p = np.exp([0.2, 1.0, -0.5]) / np.exp([0.2, 1.0, -0.5]).sum()
    want = np.log([p[0], p[1] + p[2]])
    np.testing.assert_allclose(code.log_probability(vectors)[0], want, rtol=1e-5)


def test_sigmoid_classes_are_off_or_one_on():
    code = CODINGS["two sigmoids"][0]
    on = 1 / (1 + np.exp([-0.3, 0.7]))
    want = np.log([(1 - on[0]) * (1 - on[1]), on[0] * (1 - on[1]), (1 - on[0]) * on[1]])
    got = code.log_probability(torch.tensor([[0.3, -0.7]]))[0]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_class_balance_ignores_how_much_is_painted():
    code = CODINGS["softmax"][0]
    logits = torch.zeros(1, 3, 1, 101)
    logits[:, 0] = 2.0
    target = torch.ones(1, 1, 101, dtype=torch.long)
    target[..., -1] = 2
    log = logits[0, :, 0, 0].log_softmax(0)
    vectors, wanted = painted(logits, target)
    got = cross_entropy(code.log_probability(vectors), wanted)
    assert float(got) == pytest.approx(float(-(log[0] + log[1]) / 2), abs=1e-6)


def test_networks_that_strokes_cannot_teach_are_refused():
    with pytest.raises(ModelError, match="cannot learn from strokes"):
        coding(out_channels=1, task="restoration")
    with pytest.raises(StrokesError, match="painted objects"):
        coding("instances", out_channels=5)


def test_weights_count_within_a_class():
    code = CODINGS["softmax"][0]
    logits = torch.tensor([[2.0, 0, 0], [0.0, 1, 0], [0.0, 0, 3]])
    log = code.log_probability(logits)
    wanted, weights = torch.tensor([1, 1, 2]), torch.tensor([3.0, 1.0, 5.0])
    want = -((3 * log[0, 0] + log[1, 0]) / 4 + log[2, 1]) / 2
    assert float(cross_entropy(log, wanted, weights)) == pytest.approx(float(want))


def test_unpainted_pixels_stay_without_gradient_whatever_they_weigh():
    code = CODINGS["objects"][0]
    logits = torch.randn((1, 3, 6, 6), requires_grad=True)
    target = torch.zeros((1, 6, 6), dtype=torch.long)
    target[0, :2] = torch.tensor([1, 2, 3, 4, 1, 2])
    stroke_loss(logits, target, code, torch.full((1, 6, 6), 9.0)).backward()
    assert (logits.grad[:, :, 2:] == 0).all()
    assert (logits.grad[:, :, :2] != 0).any()


@pytest.mark.parametrize(
    ("own", "plain", "activate"),
    [
        ("its own sigmoid", "softmax", None),
        ("its own softmax", "softmax", lambda v: v.softmax(1)),
    ],
)
def test_a_network_with_its_own_activation_is_read_as_its_logits(own, plain, activate):
    torch.manual_seed(0)
    vectors = torch.randn(50, 3) * 2  # none so sure that float32 cannot tell
    if activate is None:
        got = CODINGS[own][0].log_probability(vectors[:, :1].sigmoid())
        want = torch.stack([-vectors[:, 0], vectors[:, 0]], 1).sigmoid().log()
    else:
        got = CODINGS[own][0].log_probability(activate(vectors))
        want = CODINGS[plain][0].log_probability(vectors)
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)
