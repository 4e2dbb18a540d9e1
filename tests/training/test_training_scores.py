"""Scores against tables worked out by hand and against scikit-image."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import contingency_table

from napari_unet.errors import UsageError
from napari_unet.images.stack import ImageStack
from napari_unet.training.scores import evaluate, wilson


def test_semantic_scores_by_hand():
    truth = np.array([[0, 0, 1, 1], [0, 2, 2, 1]])
    found = np.array([[0, 1, 1, 1], [0, 2, 0, 1]])
    scores = evaluate(found, truth)
    assert scores["accuracy"] == 6 / 8
    assert scores["classes"]["1"]["dice"] == pytest.approx(6 / 7)
    assert scores["classes"]["1"]["iou"] == pytest.approx(3 / 4)
    assert scores["classes"]["2"]["dice"] == pytest.approx(2 / 3)
    assert scores["classes"]["2"]["recall"] == 0.5
    assert scores["dice"] == pytest.approx((6 / 7 + 2 / 3) / 2)
    json.dumps(scores)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_semantic_scores_are_those_of_the_whole_stack(seed):
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 4, (2, 3, 5, 7))
    table = np.asarray(contingency_table(truth, found).todense())
    scores = evaluate(found, truth)
    for k, one in scores["classes"].items():
        k = int(k)
        hit = table[k, k] if k < min(table.shape) else 0
        total = (truth == k).sum() + (found == k).sum()
        assert one["dice"] == pytest.approx(2 * hit / total)


def test_instance_scores_by_hand():
    truth = np.zeros((10, 20), int)
    truth[0:4, 0:4], truth[0:4, 6:10], truth[6:10, 0:4] = 5, 7, 9
    found = np.zeros_like(truth)
    found[0:4, 0:4] = 1  # IoU 1
    found[0:4, 6:9] = 2  # IoU 12 / 16
    found[8:10, 12:20] = 3  # nothing there
    scores = evaluate(found, truth, "instances")
    assert (scores["tp"], scores["fp"], scores["fn"]) == (2, 1, 1)
    assert scores["ap"]["0.5"] == 2 / 4
    assert scores["ap"]["0.75"] == 2 / 4
    assert scores["ap"]["0.8"] == 1 / 5
    assert scores["mean_ap"] == pytest.approx((6 * 2 / 4 + 4 * 1 / 5) / 10)
    assert scores["precision"] == scores["recall"] == pytest.approx(2 / 3)
    assert scores["mean_matched_iou"] == pytest.approx((1 + 0.75) / 2)
    json.dumps(scores)


def test_at_one_half_each_object_is_matched_once():
    truth, found = np.zeros((2, 1, 8), int)
    truth[0, :8] = 1
    found[0, :4], found[0, 4:] = 1, 2
    scores = evaluate(found, truth, "instances")
    assert (scores["tp"], scores["fp"], scores["fn"]) == (1, 1, 0)


def test_frames_are_scored_on_their_own_and_volumes_whole():
    truth = np.zeros((2, 6, 6), int)
    truth[:, 1:4, 1:4] = 1
    movie = evaluate(ImageStack(truth, "TYX"), ImageStack(truth, "TYX"), "instances")
    volume = evaluate(ImageStack(truth, "ZYX"), ImageStack(truth, "ZYX"), "instances")
    assert (movie["true"], volume["true"]) == (2, 1)
    assert movie["mean_ap"] == volume["mean_ap"] == 1


def test_no_objects_at_all_are_right():
    empty = np.zeros((4, 4), int)
    assert evaluate(empty, empty, "instances")["mean_ap"] == 1
    one = np.eye(4, dtype=int)
    assert evaluate(one, empty, "instances")["mean_ap"] == 0


@pytest.mark.parametrize(
    ("found", "truth", "task", "words"),
    [
        (np.zeros((3, 4), int), np.zeros((4, 3), int), "semantic", "does not fit"),
        (np.zeros((3, 4)), np.zeros((3, 4), int), "semantic", "whole numbers"),
        (np.zeros((3, 4), int), np.zeros((3, 4), int), "other", "semantic or"),
        (np.full((3, 4), 9999), np.zeros((3, 4), int), "semantic", "instances"),
    ],
)
def test_what_cannot_be_scored_is_refused(found, truth, task, words):
    with pytest.raises(UsageError, match=words):
        evaluate(found, truth, task)


def test_the_interval_of_a_share_is_that_of_the_textbook():
    # 15 of 20: statsmodels' proportion_confint(15, 20, method="wilson")
    assert wilson(15, 20) == pytest.approx([0.53130, 0.88814], abs=1e-4)
    assert wilson(0, 10)[0] == 0
    assert wilson(0, 0) is None


def test_average_precision_has_an_interval_around_it():
    truth = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((4, 4), int))
    found = np.where(truth == 5, 0, truth)
    scores = evaluate(found, truth, "instances")
    low, high = scores["ap_interval"]["0.5"]
    assert low < scores["ap"]["0.5"] == 8 / 9 < high


def test_boundary_f1_by_hand():
    truth, found = np.zeros((2, 20, 20), int)
    truth[:, :10], found[:, :12] = 1, 1  # outlines 2 columns apart: near enough
    assert evaluate(found, truth)["classes"]["1"]["boundary_f1"] == 1
    found[:, :13] = 1
    assert evaluate(found, truth)["classes"]["1"]["boundary_f1"] == 0
    assert "boundary_f1" not in evaluate(truth * 0, truth * 0)["classes"]["0"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boundary_f1_is_that_of_all_distances(seed):
    rng = np.random.default_rng(seed)
    stacks = ndimage.gaussian_filter(rng.normal(size=(2, 3, 40, 40)), (0, 0, 4, 4)) > 0
    found, truth = stacks.astype(int)
    points = [_outline_points(stack) for stack in (found == 1, truth == 1)]
    near = [
        sum(bool((np.hypot(*(b - a).T) <= 2).any()) for a, b in pairs)
        for pairs in (_with_others(*points), _with_others(*points[::-1]))
    ]
    precision, recall = (
        n / sum(map(len, p)) for n, p in zip(near, points, strict=True)
    )
    want = 2 * precision * recall / (precision + recall)
    assert evaluate(found, truth)["classes"]["1"]["boundary_f1"] == pytest.approx(want)


def _outline_points(stack):
    padded = np.pad(stack, [(0, 0), (1, 1), (1, 1)], mode="edge")
    around = [padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]]
    around += [padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]]
    return [np.argwhere(p) for p in stack & ~np.logical_and.reduce(around)]


def _with_others(points, others):
    return [(p, b) for a, b in zip(points, others, strict=True) for p in a]
