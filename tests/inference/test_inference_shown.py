"""Kept probabilities: what is made of them equals a run that was asked for it."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_unet import api
from napari_unet.config import PredictConfig
from napari_unet.events import Written, drain
from napari_unet.images.stack import ImageStack
from napari_unet.inference.regroup import split
from napari_unet.networks.spec import ModelSpec
from napari_unet.tasks.decisions import Decision
from napari_unet.tasks.task import probabilities, task_of

CASES = [
    ("semantic", "softmax", 2),
    ("semantic", "softmax", 4),
    ("semantic", "sigmoid", 1),
    ("semantic", "sigmoid", 3),
    ("semantic", "none", 1),
    ("instances", "softmax", 3),
]


def run(image, model, folder, config, **more):
    output, keep = folder / "out.npy", folder / "keep.npy"
    events = []
    drain(
        api.iter_shown(image, model, output, config, keep=keep, **more), events.append
    )
    return np.load(output), np.load(keep), events


@pytest.mark.parametrize(("task", "activation", "channels"), CASES)
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.83])
def test_decisions_are_the_tasks_own(task, activation, channels, threshold):
    logits = 3 * torch.randn(channels, 40, 50, generator=torch.manual_seed(1))
    spec = ModelSpec.model_construct(
        task=task, activation=activation, out_channels=channels, recipe=None, name="n"
    )
    values = probabilities(logits, activation).numpy()
    decision = Decision.of(task, activation, channels)
    expected = task_of(spec).labels(logits, threshold).numpy()
    np.testing.assert_array_equal(decision.labels(values, threshold), expected)
    low, high = (task_of(spec).labels(logits, t).numpy() for t in (0.2, 0.8))
    assert decision.has_threshold == bool((low != high).any())


def test_doubt_is_high_where_two_classes_are_near():
    values = np.array([[0.5, 0.9, 0.0], [0.5, 0.1, 0.0]], np.float32)
    found = Decision("semantic", "softmax", 2).doubt(values)
    np.testing.assert_allclose(found, [1, 0.2, 0], atol=1e-6)
    found = Decision("semantic", "sigmoid", 2).doubt(values + np.float32(0.05))
    np.testing.assert_allclose(found, [0.9, 0.3, 0.1], atol=1e-6)


@pytest.mark.parametrize("tiling", ["exact", "stream"])
def test_labels_of_kept_probabilities_are_those_of_a_run(
    make_network, noise, tmp_path, tiling
):
    network = make_network(out_channels=2)
    image = ImageStack(noise(3, 40, 56), "TYX")
    config = PredictConfig(device="cpu", tiling=tiling, tile=(32,))
    labels, kept, events = run(image, network, tmp_path, config)
    assert kept.shape == (3, 2, 40, 56)
    seen = np.zeros(labels.shape, int)
    for event in events:
        if isinstance(event, Written):
            seen[event.region] += 1
    assert (seen == 1).all()
    decision = Decision("semantic", "softmax", 2)
    for threshold in np.quantile(kept[:, 1], (0.2, 0.5, 0.7)).tolist():
        wish = config.model_copy(update={"threshold": threshold})
        own = drain(api.iter_predict(image, network, None, wish))
        found = decision.labels(np.moveaxis(kept, 1, 0), threshold)
        np.testing.assert_array_equal(found, own)
        assert 0 < own.mean() < 1
    np.testing.assert_array_equal(labels, decision.labels(np.moveaxis(kept, 1, 0), 0.5))


@pytest.mark.parametrize("ndim", [2, 3])
def test_objects_of_kept_probabilities_are_those_of_a_run(
    make_network, noise, tmp_path, ndim
):
    network = make_network(ndim=ndim, out_channels=2)
    image = ImageStack(noise(2, 6, 24, 32), "TZYX")
    config = PredictConfig(device="cpu", kind="instances")
    _, kept, _ = run(image, network, tmp_path, config)
    threshold = float(np.quantile(kept[:, :, 1], 0.9))
    wish = config.model_copy(update={"threshold": threshold})
    own = drain(api.iter_predict(image, network, None, wish))
    again = tmp_path / "again.npy"
    keep = tmp_path / "keep.npy"
    count = drain(api.iter_regroup(keep, network, again, threshold=threshold))
    found = np.load(again)
    assert count == found.max() == own.max() > 3
    pairs = np.unique(np.stack([found.ravel(), own.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(found)) == len(np.unique(own))


def test_touching_discs_are_split_and_lone_ones_are_not():
    y, x = np.mgrid[:60, :120]
    discs = [(30, 25, 16), (30, 52, 16), (30, 95, 16)]
    mask = np.any([np.hypot(y - a, x - b) < r for a, b, r in discs], axis=0)
    objects, count = ndimage.label(mask)
    assert count == 2
    found = split(objects)
    assert found.max() == 3
    np.testing.assert_array_equal(found > 0, mask)
    assert len({found[30, 25], found[30, 52], found[30, 95]}) == 3
    assert found[30, 30] == found[30, 15]
