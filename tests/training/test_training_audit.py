"""A planted wrong stroke is found; what cannot be audited is told."""

import numpy as np
import pytest
from scipy import ndimage
from training_images import example, quick, two_tone

from napari_unet import api
from napari_unet.errors import StrokesError
from napari_unet.events import Cancelled, CancelToken, Progress, drain
from napari_unet.training.audit import audit


def painted(seed=0):
    """Eight strokes of object and eight of background."""
    image, truth = two_tone(seed, 96)
    image = np.tile(image[:48, :48], (2, 2))
    truth = np.tile(truth[:48, :48], (2, 2))
    strokes = np.zeros(truth.shape, np.uint16)
    for y in (10, 34, 58, 82):
        for x in (8, 32, 56, 80):
            strokes[y : y + 3, x : x + 8] = 2
    strokes[~ndimage.binary_erosion(truth)] = 0
    for y in (22, 46, 70, 92):
        for x in (2, 52):
            strokes[y : y + 3, x : x + 30] = 1
    assert not truth[strokes == 1].any()
    return image, strokes


def suspects(strokes, image, **more):
    events = audit([example(image, strokes)], None, quick(), max_steps=60, **more)
    return drain(events)


@pytest.mark.parametrize(("wrong", "at"), [(2, (46, 52)), (1, (34, 32))])
def test_a_planted_wrong_stroke_is_among_the_first_three(wrong, at):
    image, strokes = painted()
    pieces, _ = ndimage.label(strokes)
    planted = pieces == pieces[at]
    right = int(strokes[at])
    strokes[planted] = wrong
    found = suspects(strokes, image)
    assert len(found) == pieces.max()
    places = [(s.place["Y"], s.place["X"]) for s in found[:3]]
    assert any(planted[place] for place in places)
    mine = next(s for s in found if planted[s.place["Y"], s.place["X"]])
    assert mine.painted == wrong
    assert mine.found == right - 1
    assert mine.contradiction > 0.5
    assert mine.pixels == planted.sum()


def test_right_strokes_are_not_contradicted():
    image, strokes = painted()
    assert max(s.contradiction for s in suspects(strokes, image)) < 0.5


def test_a_class_with_a_single_stroke_cannot_be_audited():
    image, strokes = painted()
    strokes[40:, :][strokes[40:, :] == 1] = 0
    strokes[20:26, 50:][strokes[20:26, 50:] == 1] = 0
    with pytest.raises(StrokesError, match="single stroke"):
        suspects(strokes, image)


def test_an_audit_can_be_stopped():
    image, strokes = painted()
    token = CancelToken()
    events = []
    for event in audit([example(image, strokes)], None, quick(), cancel=token):
        events.append(event)
        if isinstance(event, Progress):
            token.set()
    assert isinstance(events[-1], Cancelled)


def test_the_public_function_gives_the_suspects():
    image, strokes = painted()
    small = {"max_seconds": 0.2, "depth": 1, "width": 4, "device": "cpu"}
    found = api.audit([image], [strokes], **small)
    assert len(found) == ndimage.label(strokes)[1]
