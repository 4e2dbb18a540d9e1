from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import adapted_rand_error

from napari_unet.errors import ModelError, UsageError
from napari_unet.networks.spec import ModelSpec
from napari_unet.tasks.task import probabilities, task_of


def spec(**fields) -> ModelSpec:
    return ModelSpec(**{"ndim": 2, "in_channels": 1, "out_channels": 2, **fields})


def logit(p: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.log(p / (1 - p)).astype(np.float32))


def test_activations_equal_their_formulas() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    powers = np.exp(x.astype("f8"))
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(
        probabilities(tensor, "softmax"), powers / powers.sum(0), atol=1e-6
    )
    np.testing.assert_allclose(
        probabilities(tensor, "sigmoid"), 1 / (1 + 1 / powers), atol=1e-6
    )
    assert probabilities(tensor, "none") is tensor


def test_softmax_of_many_classes_takes_the_largest() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0], [1.0, 2.0, 0.0], [0.5, 3.0, 4.0]])
    task = task_of(spec(out_channels=3))
    assert task.labels(logits, 0.9).tolist() == [1, 0, 2]
    assert task.classes() == 2


def test_softmax_of_two_classes_obeys_the_threshold() -> None:
    foreground = np.array([0.2, 0.45, 0.55, 0.9])
    logits = torch.stack([torch.zeros(4), logit(foreground)])
    task = task_of(spec())
    assert task.labels(logits, 0.5).tolist() == [0, 0, 1, 1]
    assert task.labels(logits, 0.4).tolist() == [0, 1, 1, 1]


def test_sigmoid_channels_are_kinds_of_objects() -> None:
    logits = logit(np.array([[0.6, 0.1, 0.4, 0.8], [0.7, 0.2, 0.3, 0.2]]))
    task = task_of(spec(activation="sigmoid"))
    assert task.labels(logits, 0.5).tolist() == [2, 0, 0, 1]
    assert task.labels(logits, 0.75).tolist() == [0, 0, 0, 1]
    assert task.classes() == 2


def test_one_final_value_is_thresholded() -> None:
    task = task_of(spec(out_channels=1, activation="none"))
    assert task.labels(torch.tensor([[0.4, 0.5, 0.6]]), 0.5).tolist() == [0, 1, 1]


def test_semantic_objects_are_components_of_one_class() -> None:
    labels = np.array([[1, 0, 2, 2], [0, 1, 0, 0], [0, 0, 0, 1]], np.uint8)
    objects = task_of(spec(out_channels=3)).separate(labels[None], 0.5)
    assert objects.dtype == np.int32
    assert objects.tolist() == [[1, 0, 2, 2], [0, 1, 0, 0], [0, 0, 0, 3]]


def discs() -> np.ndarray:
    """Two touching discs, one alone, and a speck of two pixels."""
    y, x = np.mgrid[:60, :80]
    truth = np.zeros((60, 80), int)
    for number, (cy, cx, r) in enumerate([(30, 20, 12), (30, 43, 12), (15, 66, 7)], 1):
        truth[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = number
    truth[50, 70:72] = 4
    return truth


def interior_and_boundary(truth: np.ndarray) -> np.ndarray:
    """Evidence with a boundary of two pixels inside each outline."""
    inside = np.zeros(truth.shape, bool)
    for number in range(1, truth.max() + 1):
        inside |= ndimage.binary_erosion(truth == number, iterations=2)
    edge = (truth > 0) & ~inside
    return np.stack([0.9 * inside + 0.04 * edge, 0.05 * inside + 0.9 * edge]).astype(
        np.float32
    )


def test_touching_objects_are_parted_and_keep_their_outline() -> None:
    truth = discs()
    task = task_of(spec(out_channels=3, task="instances"))
    objects = task.separate(interior_and_boundary(truth), 0.5)
    assert sorted(np.unique(objects)) == [0, 1, 2, 3, 4]
    assert ((objects > 0) == (truth > 0)).all()
    assert adapted_rand_error(truth, objects)[0] < 0.01
    speck = objects[50, 70]
    assert (objects == speck).sum() == 2


def test_nothing_gives_no_objects() -> None:
    task = task_of(spec(out_channels=3, task="instances"))
    assert task.separate(np.zeros((2, 5, 5), np.float32), 0.5).max() == 0


def test_interior_and_boundary_are_one_label() -> None:
    odds = np.array([[0.6, 0.45, 0.1], [0.2, 0.25, 0.8], [0.2, 0.3, 0.1]])
    task = task_of(spec(out_channels=3, task="instances"))
    logits = torch.from_numpy(np.log(odds).astype(np.float32))
    assert task.labels(logits, 0.5).tolist() == [0, 1, 1]
    np.testing.assert_allclose(task.evidence(logits, 0.5), odds[1:], atol=1e-6)


def test_volumes_are_parted_too() -> None:
    evidence = np.zeros((2, 6, 12, 12), np.float32)
    evidence[0, 1:5, 2:5, 2:5] = evidence[0, 1:5, 7:10, 7:10] = 0.9
    task = task_of(spec(ndim=3, out_channels=3, task="instances"))
    assert task.separate(evidence, 0.5).max() == 2


def test_instances_need_three_channels() -> None:
    with pytest.raises(ModelError, match="2 output channels"):
        task_of(spec(task="instances"))


@pytest.mark.parametrize("kind", ["labels", "instances"])
def test_restoration_refuses_classes(kind: str) -> None:
    task = task_of(spec(task="restoration", activation="none"))
    task.check("probabilities")
    task.check("logits")
    with pytest.raises(UsageError, match="--kind probabilities"):
        task.check(kind)
