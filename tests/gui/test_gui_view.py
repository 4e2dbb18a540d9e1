"""What is shown, from what is known."""

from dataclasses import replace

import pytest

from napari_unet.gui.learning import Round
from napari_unet.gui.legend import class_name
from napari_unet.gui.state import Activity, BatchFile, Image, Model, State, Strokes
from napari_unet.gui.view import resolve

FACTS = {"ndim": 2, "in_channels": 1, "out_channels": 2, "task": "semantic"}
MODEL = Model("/m/nuclei.pt", FACTS)
IMAGE = Image("cells", (40, 5, 6), "ZYX")
READY = State(
    model=MODEL,
    base=MODEL,
    image=IMAGE,
    strokes=Strokes("cells · strokes", True, {1: 5, 2: 3}),
    files=(BatchFile("a.tif"),),
    output="out",
)


def with_facts(**facts):
    model = Model("m", FACTS | facts)
    return replace(READY, model=model, base=model)


def with_image(shape, axes):
    return replace(READY, image=Image("cells", shape, axes))


def test_ready_state_offers_everything():
    view = resolve(READY)
    for button in (view.preview, view.predict, view.train, view.batch):
        assert button.enabled
    assert view.predict.text == "Predict all"
    assert view.train.text == "Fine-tune on my strokes"
    assert view.batch.text == "Run 1 file"
    assert not view.stop.enabled


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State(), "Choose a model first"),
        (replace(READY, image=None), "Open an image first"),
        (with_image((4, 5, 6), None), "Say what the axes are, above"),
        (with_image((0, 5, 6), "ZYX"), "The image is empty"),
        (with_image((5, 6, 3), "YXC"), "Model takes 1 channel, not 3"),
        (with_image((5, 6), "YX"), "Predict all"),
        (replace(with_image((5, 6, 3), "YXC"), channels=(0,)), "Predict all"),
        (
            replace(with_image((5, 6, 3), "YXC"), channels=(3,)),
            "Channels go from 0 to 2",
        ),
        (replace(with_image((5, 6, 3), "YXC"), channels=(0, 1)), "Choose 1 channel"),
        (
            replace(with_facts(ndim=3), image=Image("a", (5, 6), "YX")),
            "This 3D model needs a Z axis",
        ),
    ],
)
def test_predict_button_says_why_it_cannot(state, reason):
    button = resolve(state).predict
    assert button.text == reason
    assert button.enabled == (reason == "Predict all")


@pytest.mark.parametrize(
    ("strokes", "reason"),
    [
        (None, "Make a stroke layer first"),
        (Strokes("s", False, {1: 1, 2: 1}), "Strokes and image differ in size"),
        (Strokes("s", True, {1: 9}), "Paint at least 2 classes"),
        (Strokes("s", True, {1: 9, 2: 0}), "Paint at least 2 classes"),
        (Strokes("s", True, {1: 9, 3: 1}), "Fine-tune on my strokes"),
    ],
)
def test_train_button_says_why_it_cannot(strokes, reason):
    assert resolve(replace(READY, strokes=strokes)).train.text == reason


@pytest.mark.parametrize(
    ("changes", "button"),
    [
        ({"image": None}, ""),
        ({"strokes": None}, "new_strokes"),
        ({"strokes": Strokes("s", False)}, "new_strokes"),
        ({"strokes": Strokes("s", True, {1: 9})}, "paint"),
        ({}, "train"),
        ({"activity": Activity("train", "Fine-tuning")}, ""),
    ],
)
def test_one_button_of_the_train_page_is_the_next_step(changes, button):
    assert resolve(replace(READY, **changes)).next_to_learn == button


def test_training_from_scratch_needs_no_fitting_model():
    state = with_facts(in_channels=4)
    assert not resolve(state).train.enabled
    anew = resolve(replace(state, from_scratch=True)).train
    assert (anew.enabled, anew.text) == (True, "Train on my strokes")
    assert resolve(replace(READY, model=None, base=None)).from_scratch


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": None}, "Choose a model first"),
        ({"files": ()}, "Choose images first"),
        ({"output": ""}, "Choose a results folder"),
    ],
)
def test_batch_button_says_why_it_cannot(change, reason):
    assert resolve(replace(READY, **change)).batch.text == reason


def test_preview_needs_planes():
    volume = replace(READY, image=replace(IMAGE, flat=False))
    assert not resolve(volume).preview.enabled
    assert "2D" in resolve(volume).preview.tip


def test_preview_goes_on_while_everything_is_predicted():
    running = replace(READY, activity=Activity("predict", "Predicting cells", 0.5))
    assert resolve(running).preview.enabled
    assert resolve(running).preview.text == "Preview view"
    view = resolve(replace(running, aside=Activity("preview", "Predicting the view")))
    assert (view.preview.text, view.preview.enabled) == ("Previewing …", True)
    assert (view.status, view.fraction) == ("Predicting cells", 0.5)
    view = resolve(replace(READY, aside=Activity("preview", "Predicting the view")))
    assert (view.status, view.busy, view.stop.enabled) == (
        "Predicting the view",
        True,
        True,
    )
    assert view.train.enabled


def test_while_something_runs_only_stop_acts():
    activity = Activity("train", "Fine-tuning", 0.5, "step 3")
    view = resolve(replace(READY, activity=activity, message="old"))
    for button in (view.preview, view.predict, view.train, view.batch, view.undo):
        assert not button.enabled
    assert view.stop.enabled
    assert view.status == "Fine-tuning · step 3"
    assert (view.train.text, view.predict.text) == ("Working …", "Predict all")
    stopping = replace(READY, activity=replace(activity, stopping=True))
    assert not resolve(stopping).stop.enabled


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (0.62, 0.91, "Dice 0.62 → 0.91 (+0.29) on held-out strokes"),
        (None, 0.91, "Dice 0.91 on held-out strokes"),
        (None, None, "No validation yet."),
    ],
)
def test_scores_in_words(before, after, text):
    view = resolve(used(Round("r", before, after)))
    assert view.score == text
    assert view.undo.enabled
    assert "nuclei.pt" in view.undo.tip


@pytest.mark.parametrize(
    ("before", "after", "worse", "dice"),
    [
        (0.95, 0.90, True, "Dice 0.95 → 0.90"),
        (0.9512, 0.9511, True, "Dice 0.9512 → 0.9511"),
        (0.95, 0.95, False, ""),
        (0.90, 0.95, False, ""),
        (None, 0.1, False, ""),
        (0.95, None, False, ""),
    ],
)
def test_only_a_lower_score_is_worse(before, after, worse, dice):
    new = Round("/r/nuclei-round-2.safetensors", before, after)
    assert new.is_worse is worse
    if worse:
        assert resolve(replace(READY, declined=new)).score == (
            f"Round 2 is worse on held-out strokes ({dice}); still using nuclei.pt"
        )


def test_declined_round_can_be_used_anyway_while_nothing_runs():
    assert resolve(READY).use_anyway is None
    new = Round("/r/nuclei-round-2.safetensors", 0.9, 0.8)
    button = resolve(replace(READY, declined=new)).use_anyway
    assert (button.text, button.enabled) == ("Use it anyway", True)
    busy = replace(READY, declined=new, activity=Activity("predict", "Predicting"))
    assert not resolve(busy).use_anyway.enabled


def test_round_without_validation_says_so():
    last = Round("r", None, None, note="Too few strokes.")
    view = resolve(used(last))
    assert view.score == "No validation yet. Too few strokes."
    last = replace(last, note="No validation yet: too few strokes.")
    assert resolve(used(last)).score == last.note


def used(last):
    """The state in which a round is used."""
    return replace(READY, model=Model("r", FACTS), rounds=(last,), past=(MODEL,))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("train", "Stopping, keeping the best so far …"),
        ("predict", "Working · 3 of 9"),
    ],
)
def test_stopping_a_training_says_that_its_best_is_kept(kind, text):
    activity = Activity(kind, "Working", 0.5, "3 of 9", stopping=True)
    assert resolve(replace(READY, activity=activity)).status == text


def test_buttons_name_their_keys():
    view = resolve(READY)
    tips = [button.tip for button in (view.preview, view.predict, view.train)]
    for tip, key in zip(tips, ("Shift-R", "Shift-G", "Shift-T"), strict=True):
        assert key in tip


def test_batch_button_says_that_files_are_looked_for():
    view = resolve(replace(READY, files=(), listing=True))
    assert view.batch.text == "Looking for images …"
    assert not view.batch.enabled


def test_legend_has_a_line_for_every_painted_class():
    rows = resolve(READY).annotation.rows
    assert [(r.number, r.name, r.pixels) for r in rows] == [
        (1, "background", 5),
        (2, "object", 3),
    ]
    many = replace(READY, strokes=Strokes("s", True, {4: 1}))
    assert [row.number for row in resolve(many).annotation.rows] == [1, 2, 4]


def test_class_names_come_from_the_model():
    model = Model("m", FACTS | {"classes": ["background", "nucleus", "debris"]})
    names = [class_name(model, n) for n in (1, 2, 3, 4)]
    assert names == ["background", "nucleus", "debris", "object 3"]
    assert class_name(None, 2) == "object"


@pytest.mark.parametrize(
    ("state", "word"),
    [(State(), "sample"), (with_image((4, 5, 6), None), "axes"), (READY, "Ready")],
)
def test_idle_footer_says_what_to_do_next(state, word):
    assert word in resolve(state).status


def test_model_tooltip_tells_assumptions():
    slope = {"field": "architecture.slope", "value": 0.1, "alternatives": [0.0]}
    model = Model("/m/a.pt", FACTS | {"assumed": [slope], "family": "torch_em"})
    tip = resolve(replace(READY, model=model)).model_tip
    assert "slope 0.1" in tip
    assert "torch_em" in tip
