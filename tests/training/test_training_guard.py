"""Rounds are judged by what judged earlier rounds, and undone bit for bit."""

import numpy as np
import pytest
from training_images import class_strokes, example, quick, two_tone

import napari_unet
from napari_unet import checkpoints, disk, files
from napari_unet.errors import ModelError, OutputError
from napari_unet.events import Warned, drain
from napari_unet.training import references, verdict
from napari_unet.training.finetune import finetune
from napari_unet.training.guard import objections


def learn(path, strokes, image=None, steps=60, **more):
    settings = {k: more.pop(k) for k in ("validation", "seed") if k in more}
    image = two_tone()[0] if image is None else image
    events = list(
        finetune(
            [example(image, strokes)], more.pop("network", None),
            quick(**settings, max_steps=steps), path, **more,
        )
    )  # fmt: skip
    return events[-1].result, [e.message for e in events if isinstance(e, Warned)]


def flipped(strokes):
    return np.where(strokes > 0, 3 - strokes, 0).astype(strokes.dtype)


def many_strokes(size=160):
    """Bars of object on background, far apart: enough to hold strokes out."""
    image, strokes = np.zeros((size, size), np.float32), np.zeros((size, size), int)
    for n in range(4):
        image[20:140, 20 + 36 * n : 32 + 36 * n] = 1
        for row in (25, 75, 125):
            strokes[row : row + 8, 24 + 36 * n : 28 + 36 * n] = 2
            strokes[row : row + 8, 36 + 36 * n : 44 + 36 * n] = 1
    return image, strokes.astype(np.uint16)


def test_a_sabotaged_round_trips_the_guard_and_undo_is_bit_identical(tmp_path):
    image, _ = two_tone()
    paths = [tmp_path / f"{n}.safetensors" for n in range(2)]
    good, said = learn(paths[0], class_strokes())
    assert good.worse == ()
    digest = files.digest(paths[0])
    before = napari_unet.predict(image, paths[0], kind="logits")
    bad, said = learn(paths[1], flipped(class_strokes()), earlier=paths[:1])
    scores = bad.references["0.safetensors"]
    assert scores["before"] > 0.95
    assert scores["after"] < 0.5
    assert len(bad.worse) == 1
    assert bad.worse[0] in said
    assert "forgotten" in bad.worse[0]
    assert files.digest(paths[0]) == digest == good.digest
    np.testing.assert_array_equal(
        before, napari_unet.predict(image, paths[0], kind="logits")
    )
    record = checkpoints.load(paths[1]).spec.provenance
    assert record["worse"] == list(bad.worse)


def test_a_round_on_more_strokes_is_not_called_worse(tmp_path):
    few = class_strokes()
    few[34:38] = 0
    learn(tmp_path / "a.safetensors", few)
    made, _ = learn(
        tmp_path / "b.safetensors",
        class_strokes(),
        earlier=[tmp_path / "a.safetensors"],
    )
    assert made.references["a.safetensors"]["after"] > 0.95
    assert made.worse == ()


def test_sabotage_of_held_out_strokes_shows_on_those_of_the_round_before(tmp_path):
    image, strokes = many_strokes()
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    _good, _ = learn(first, strokes, image, 40, validation=0.2)
    bad, _ = learn(second, flipped(strokes), image, 40, validation=0.2, earlier=[first])
    # By its own flipped strokes the new round is the better one.
    assert bad.score_after > bad.score_before
    assert bad.worse


def test_what_was_held_out_stays_so_and_what_was_trained_on_does_not_judge(tmp_path):
    image, strokes = many_strokes()
    old = strokes.copy()
    old[:, 100:] = 0
    path = tmp_path / "a.safetensors"
    learn(path, old, image, 1, validation=0.2)
    marks = references.load(path).marks["image"]
    held, trained = (
        {(int(y) // 50, int(x) // 10) for y, x in marks[marks[:, 0] == n, -2:]}
        for n in (1, 0)
    )
    learn(
        tmp_path / "b.safetensors", strokes, image, 1, validation=0.2, earlier=[path],
        seed=3,
    )  # fmt: skip
    again = references.load(tmp_path / "b.safetensors").marks["image"]
    now = {(int(y) // 50, int(x) // 10) for y, x in again[again[:, 0] == 1, -2:]}
    assert held <= now
    assert not now & trained


def test_too_few_new_strokes_are_told_of(tmp_path):
    image, strokes = many_strokes()
    first = tmp_path / "a.safetensors"
    learn(first, strokes, image, 1, validation=0)
    _, said = learn(
        tmp_path / "b.safetensors", strokes, image, 1, validation=0.2, earlier=[first]
    )
    assert any("its score flatters" in s for s in said)


def test_another_scaling_is_not_compared_and_that_is_said(tmp_path):
    first = tmp_path / "a.safetensors"
    learn(first, class_strokes(), steps=1)
    events = finetune(
        [example(two_tone()[0], class_strokes())], None,
        quick(normalize="minmax", max_steps=1), tmp_path / "b.safetensors",
        earlier=[first],
    )  # fmt: skip
    said = []
    made = drain(events, lambda e: said.append(getattr(e, "message", "")))
    assert made.references == {}
    assert any("Not compared with a.safetensors" in s for s in said)


def test_a_reference_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "a.safetensors"
    learn(path, class_strokes(), steps=1)
    kept = references.load(path)
    assert (
        sum(int((t > 0).sum()) for _, t in kept.windows) == (class_strokes() > 0).sum()
    )
    references.beside(path).write_bytes(references.beside(path).read_bytes()[:-9])
    with pytest.raises(ModelError, match="damaged"):
        references.load(path)
    references.beside(path).unlink()
    assert references.load(path) is None


def test_a_full_disk_leaves_the_round_before_as_it_was(tmp_path):
    path = tmp_path / "a.safetensors"
    learn(path, class_strokes(), steps=1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(call, _):
        if call == "write":
            raise OSError(28, "No space left on device")

    with disk.observed(full), pytest.raises(OutputError, match="no space"):
        learn(tmp_path / "b.safetensors", class_strokes(), steps=1, earlier=[path])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    checkpoints.load(path)


def test_a_small_loss_is_no_objection():
    kept = {"a": {"before": 0.9, "after": 0.895}, "b": {"after": 0.1}}
    assert objections(0.8, 0.795, kept) == ()
    assert len(objections(0.8, 0.7, {"a": {"before": 0.9, "after": 0.8}})) == 2
    assert objections(None, None, {}) == ()


@pytest.mark.parametrize(
    ("strokes", "after", "said"),
    [
        (3, 0.85, 0),
        (3, 0.75, 1),
        (4, 0.85, 1),
        (4, 0.895, 0),
    ],
)
def test_few_strokes_object_only_to_a_large_loss(strokes, after, said):
    told = {"before": 0.9, "after": after, "strokes": strokes}
    assert len(objections(None, None, {"a": told})) == said


def test_the_interval_of_strokes_narrows_with_their_number():
    from napari_unet.training.heldout import dice_interval

    one = np.array([[[9, 1], [1, 9]], [[5, 5], [5, 5]], [[10, 0], [0, 10]]] * 2)
    low, high = dice_interval(one)
    assert low < 0.8 < high
    many = dice_interval(np.concatenate([one] * 25))
    assert low < many[0] < 0.8 < many[1] < high
    assert dice_interval(one[:3]) is None


def test_what_judged_the_model_it_starts_from_judges_a_round(tmp_path):
    image, strokes = two_tone()[0], class_strokes()
    first = tmp_path / "a.safetensors"
    learn(first, strokes)
    small = {"max_seconds": 1.0, "patch": (32,), "device": "cpu", "validation": 0}
    made = napari_unet.finetune(
        [image], [strokes], tmp_path / "b.safetensors", first, **small
    )
    assert list(made.references) == ["a.safetensors"]
    references.beside(first).unlink()
    made = napari_unet.finetune(
        [image], [strokes], tmp_path / "c.safetensors", first, **small
    )
    assert made.references == {}


@pytest.mark.parametrize(
    ("interval", "before", "below"),
    [
        ([0.7, 0.9], 0.85, False),
        ([0.7, 0.9], 0.95, True),
        (None, 0.95, False),
        ([0.7, 0.9], None, False),
    ],
)
def test_a_score_of_half_way_is_worse_only_beyond_chance(interval, before, below):
    assert verdict._is_below({"dice_interval": interval}, before) is below
