"""What a checkpoint knew is rehearsed, and a round that forgot is drawn back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_images import class_strokes, example, quick, two_tone

from napari_unet import checkpoints
from napari_unet.events import Warned, drain
from napari_unet.training import references
from napari_unet.training.finetune import finetune
from napari_unet.training.tempering import SHARES, tempered
from napari_unet.training.verdict import Verdict, weighed

SHIPPED = Path(__file__).parents[2] / "sample_data" / "nuclei.safetensors"


def learn(path, image, strokes, steps=40, base=None, earlier=(), **settings):
    network = None if base is None else checkpoints.load(base)
    events = finetune(
        [example(image, strokes)], network,
        quick(normalize="none", max_steps=steps, **settings), path, earlier=earlier,
    )  # fmt: skip
    said = []
    made = drain(events, lambda e: isinstance(e, Warned) and said.append(e.message))
    return made, said


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A network that knows bright discs, with patches to judge and to rehearse."""
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    image, truth = two_tone()
    learn(path, image / 100, truth.astype(np.uint16) + 1, unpainted=False)
    kept = references.load(path)
    other, truth = two_tone(1)
    window = torch.from_numpy(other / 100)[None], torch.from_numpy(truth + 1).long()
    bare = path.with_name("bare.safetensors")
    bare.write_bytes(path.read_bytes())
    for name, rehearsed in ((path, [window]), (bare, [])):
        references.save(
            references.Reference("", kept.facts, kept.windows, {}, rehearsed), name
        )
    return path, bare


def grey_discs():
    """Discs a little brighter than ground that is as bright as the old discs."""
    image, _ = two_tone()
    return image / 100 * 0.6 + 1.2


def test_rehearsal_keeps_what_was_known_while_the_strokes_are_learned(base, tmp_path):
    path, bare = base
    settings = {"learning_rate": 2e-3, "steps": 50}
    kept, _ = learn(
        tmp_path / "a.safetensors", grey_discs(), class_strokes(), base=path,
        earlier=[path], **settings,
    )  # fmt: skip
    lost, _ = learn(
        tmp_path / "b.safetensors", grey_discs(), class_strokes(), base=bare,
        earlier=[bare], **settings,
    )  # fmt: skip
    assert kept.references["base.safetensors"]["after"] > 0.9
    assert lost.references["bare.safetensors"]["after"] < 0.8
    network = checkpoints.load(kept.path)
    logits = network(grey_discs()[None, None])[0]
    strokes = class_strokes()
    right = (logits.argmax(0).numpy() + 1 == strokes)[strokes > 0]
    assert right.mean() > 0.6  # 0.14 before


def test_strokes_that_contradict_the_base_trip_the_guard_in_full(base, tmp_path):
    _, bare = base
    flipped = np.where(class_strokes() > 0, 3 - class_strokes(), 0).astype(np.uint16)
    made, said = learn(
        tmp_path / "a.safetensors", two_tone()[0] / 100, flipped, base=bare,
        earlier=[bare], learning_rate=2e-3,
    )  # fmt: skip
    assert len(made.worse) == 1
    assert not any("Drawn back" in note for note in said)
    assert made.references["bare.safetensors"]["after"] < 0.5


@pytest.mark.parametrize(
    ("gain", "lost", "taken"),
    [(0.2, 0.03, True), (0.02, 0.03, False), (0.5, 0.2, False), (-0.1, 0.03, False)],
)
def test_a_small_loss_is_a_price_where_more_is_gained(gain, lost, taken):
    judged = {"base": {"before": 0.9, "after": 0.9 - lost}}
    scores = {"dice_interval": (0.41, 0.9)}
    verdict = Verdict(None, 1.0, 0.4 + gain, scores, judged, ("it forgot",))
    weighed_up = weighed(verdict, 0.4)
    assert (weighed_up.worse, weighed_up.price) == (
        ((), ("it forgot",)) if taken else (("it forgot",), ())
    )
    assert weighed(verdict, None) is verdict
    for unsure in ({}, {"dice_interval": (0.3, 0.9)}):
        assert weighed(replace(verdict, scores=unsure), 0.4).worse == ("it forgot",)


def test_tempered_weights_lie_between_base_and_tuned(base):
    network = checkpoints.load(base[0])
    start = network.module.state_dict()
    tuned = {n: t + 1 for n, t in start.items()}
    shares = {
        share: made.module.state_dict() for share, made in tempered(network, tuned)
    }
    assert tuple(shares) == SHARES
    for share, state in shares.items():
        for name, tensor in state.items():
            step = share if tensor.is_floating_point() else 1
            torch.testing.assert_close(tensor, start[name] + step)


def test_the_shipped_checkpoint_brings_what_judges_and_what_is_rehearsed():
    network, kept = checkpoints.load(SHIPPED), references.load(SHIPPED)
    assert kept.fits(network, "instances")
    assert kept.fits(network, "classes")
    assert kept.judge(network).score(network)["dice"] > 0.9
    judged = {image.numpy().tobytes() for image, _ in kept.windows}
    assert not judged & {image.numpy().tobytes() for image, _ in kept.rehearsed}
    assert len(kept.rehearsed) == len(judged) == 20
