"""The simulated annotator of benchmarks/finetuning paints as a careful person would."""

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.finetuning.annotator import Annotator


def scene():
    y, x = np.mgrid[:80, :100]
    truth = ((y - 40) ** 2 + (x - 30) ** 2 < 400).astype(int)
    truth[:, 70:73] = 1
    return truth


def hand(seed=0, radius=2, length=20):
    return Annotator(np.random.default_rng(seed), radius, length)


@pytest.mark.parametrize("seed", range(6))
def test_strokes_are_true_thin_and_connected(seed):
    truth, strokes = scene(), np.zeros((80, 100), np.uint8)
    for wanted in (0, 1):
        painted = hand(seed).stroke([strokes], [truth], None, wanted)
        mine = strokes == wanted + 1
        assert painted == mine.sum() > 0
        assert (truth[mine] == wanted).all()
        assert ndimage.label(mine, np.ones((3, 3)))[1] == 1
        assert painted <= 5 * 21 + 13


def test_only_what_is_wrong_is_corrected():
    truth, strokes = scene(), np.zeros((80, 100), np.uint8)
    found = truth.copy()
    found[30:40, 20:30] = 0
    hand().stroke([strokes], [truth], [found], 1)
    wrong = found != truth
    assert wrong[strokes > 0].mean() > 0.5
    assert hand().stroke([strokes], [truth], [truth], 0) == 0


def test_the_same_seed_paints_the_same():
    truth = scene()
    pair = [np.zeros((80, 100), np.uint8) for _ in range(2)]
    for strokes in pair:
        painter = hand(4)
        for wanted in (0, 1, 0):
            painter.stroke([strokes], [truth], None, wanted)
    np.testing.assert_array_equal(*pair)


def test_a_broad_mistake_is_seen_before_a_rim():
    truth = np.zeros((100, 100), int)
    found = truth.copy()
    found[0, :] = 1  # a rim, 100 pixels
    found[60:70, 60:70] = 1  # a spot, 100 pixels
    hits = 0
    for seed in range(20):
        strokes = np.zeros(truth.shape, np.uint8)
        hand(seed).stroke([strokes], [truth], [found], 0)
        hits += bool(strokes[55:75, 55:75].any())
    assert hits >= 18


def test_volumes_are_painted_on_planes():
    truth = np.zeros((9, 40, 40), int)
    truth[3:6, 10:30, 10:30] = 1
    strokes = np.zeros(truth.shape, np.uint8)
    hand().stroke([strokes], [truth], None, 1)
    assert np.flatnonzero(strokes.any((1, 2))).size == 1
