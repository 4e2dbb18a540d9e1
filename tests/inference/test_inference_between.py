"""Parts of an image, asked for before a run and between its pieces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from napari_unet.config import PredictConfig
from napari_unet.errors import UsageError
from napari_unet.events import Cancelled, CancelToken, Finished, Started
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference import job as jobs
from napari_unet.inference import precision
from napari_unet.inference.predict import predict
from napari_unet.networks import device as devices

BOUND = 1e-5
"""Largest difference of probabilities and logits; labels are equal."""
REGIONS = (
    {"T": slice(1, 2), "Y": slice(20, 81), "X": slice(33, 95)},
    {"T": 2, "Y": slice(0, 150), "X": slice(7, 8)},
    {"T": slice(0, 1), "Y": slice(90, 150), "X": slice(60, 130)},
)


class Asked:
    """Runs one network over one stack, whole or in part."""

    def __init__(self, stack, network, scaling, **settings) -> None:
        self.stack, self.network, self.scaling = stack, network, scaling
        self.config = PredictConfig(**{"device": "cpu", **settings})

    def events(self, region=None, **more):
        return predict(
            self.stack, self.network, self.config, more.pop("sink", ArraySink()),
            region=region, scaling=self.scaling, **more,
        )  # fmt: skip

    def whole(self):
        *_, last = self.events()
        return last.result

    def part(self, region):
        *_, last = self.events(region)
        assert isinstance(last, Finished)
        return last.result


@pytest.fixture
def asked(make_network, noise, as_is):
    def make(image=(3, 150, 130), network=None, **settings) -> Asked:
        network = network or make_network(out_channels=3)
        balance(network)
        return Asked(ImageStack(noise(*image), "TYX"), network, as_is(), **settings)

    return make


@torch.no_grad()
def balance(network):
    """Make all classes about as frequent in noise."""
    head = network.module.eval().head
    torch.nn.init.normal_(head.weight)
    torch.nn.init.zeros_(head.bias)
    logits = network.module(torch.randn(1, 1, 64, 64))
    spread = logits.std((0, 2, 3))
    head.weight /= spread[:, None, None, None]
    head.bias -= logits.mean((0, 2, 3)) / spread


def run_with(ask, between):
    """Run over the whole stack, and do something after every third event."""
    for number, event in enumerate(ask.events()):
        if number % 3 == 1:
            between()
        if isinstance(event, Finished):
            return event.result
    raise AssertionError("no end")


def crop(whole, region, has_channels):
    index = [region["T"], slice(None), region["Y"], region["X"]]
    return whole[tuple(index if has_channels else index[:1] + index[2:])]


def check(part, whole, region, kind):
    expected = crop(whole, region, kind != "labels")
    if kind == "labels":
        np.testing.assert_array_equal(part, expected)
    else:
        np.testing.assert_allclose(part, expected, rtol=0, atol=BOUND)


WAYS = [
    {"tiling": "stream", "tile": (64, 60)},
    {"tiling": "exact", "tile": (64,)},
    {"tiling": "blend", "tile": (64,)},
    {"tiling": "whole"},
]


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["tiling"])
def test_parts_between_the_pieces_of_a_run(asked, way, kind) -> None:
    ask = asked(kind=kind, **way)
    before = [ask.part(region) for region in REGIONS]
    alone = ask.whole()
    assert kind != "labels" or len(np.unique(alone)) == 3
    turns = itertools.cycle(REGIONS)

    def look():
        region = next(turns)
        check(ask.part(region), alone, region, kind)

    assert run_with(ask, look).tobytes() == alone.tobytes()
    for part, region in zip(before, REGIONS, strict=True):
        check(part, alone, region, kind)


def test_objects_of_a_run_stay_the_same(asked, make_network) -> None:
    ask = asked(kind="instances", network=make_network(out_channels=2))
    alone = ask.whole()
    assert alone.max() > 20
    assert run_with(ask, lambda: ask.part(REGIONS[0])).tobytes() == alone.tobytes()


@pytest.mark.parametrize("first", ["part", "whole"])
@pytest.mark.parametrize(("budget", "way"), [(1 << 30, "whole"), (1 << 20, "blend")])
def test_free_memory_does_not_change_the_values(
    asked, make_network, monkeypatch, budget, way, first
) -> None:
    network = make_network(norm="instance", out_channels=3)
    ask = asked((3, 700, 130), network=network, kind="logits")
    region = REGIONS[0]
    monkeypatch.setattr(jobs, "_budget", lambda _: budget)
    part = ask.part(region) if first == "part" else None
    started, *_, last = ask.events()
    assert ("a frame fits" in started.title) == (way == "whole")
    peak = jobs.prepare(ask.stack, network, ask.config).plan.peak
    other = (1 << 30) if way == "blend" else peak * 3 // 4
    monkeypatch.setattr(jobs, "_budget", lambda _: other)
    check(ask.part(region), last.result, region, "logits")
    if part is not None:
        check(part, last.result, region, "logits")


def test_a_frame_that_no_longer_fits_is_cut_anew(
    asked, make_network, monkeypatch
) -> None:
    network = make_network(norm="instance")
    ask = asked((1, 700, 130), network=network, kind="logits")
    monkeypatch.setattr(jobs, "_budget", lambda _: 1 << 30)
    ask.whole()
    monkeypatch.setattr(jobs, "_budget", lambda _: 1 << 20)
    assert "instance norm" in next(ask.events()).title


@pytest.mark.parametrize("most", [1.0, -1.0])
def test_the_arithmetic_is_that_of_the_run(asked, monkeypatch, most) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(precision, "_WORTH", {2: 1, 3: 1})
    monkeypatch.setattr(precision, "_measured", {})
    monkeypatch.setattr(precision, "MOST_FLIPS", most)
    ask = asked(kind="labels", tiling="exact", tile=(64,))
    parts = [ask.part(region) for region in REGIONS]
    whole = ask.whole()
    name = "bfloat16" if most > 0 else "float32"
    other = asked(kind="labels", tiling="exact", tile=(64,), precision=name)
    np.testing.assert_array_equal(whole, other.whole())
    for part, region in zip(parts, REGIONS, strict=True):
        flips = part != crop(whole, region, False)
        assert flips.mean() <= (1e-3 if most > 0 else 0)


def test_the_placed_network_is_shared(asked, monkeypatch) -> None:
    ask, places = asked(kind="labels"), []
    place = ask.network.place
    monkeypatch.setattr(
        ask.network, "place", lambda *wish: places.append(wish) or place(*wish)
    )
    for _ in ask.events():
        ask.part(REGIONS[0])
    assert len(places) == 1


def test_changed_weights_are_placed_anew(asked) -> None:
    ask = asked(kind="logits")
    before = ask.part(REGIONS[0])
    with torch.no_grad():
        ask.network.module.head.bias += 1
    np.testing.assert_allclose(ask.part(REGIONS[0]), before + 1, atol=1e-5)


def test_a_part_that_is_given_up_leaves_the_run_alone(asked) -> None:
    class Noted(ArraySink):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    ask = asked(kind="labels", tiling="exact", tile=(64,))
    alone, sinks = ask.whole(), []

    def give_up():
        sinks.append(Noted())
        part = ask.events(REGIONS[1], sink=sinks[-1])
        assert isinstance(next(part), Started)
        next(part)
        part.close()

    assert run_with(ask, give_up).tobytes() == alone.tobytes()
    assert sinks
    assert all(sink.aborted for sink in sinks)


def test_an_error_of_a_part_leaves_the_run_alone(asked) -> None:
    ask = asked(kind="labels", tiling="exact", tile=(64,))
    alone = ask.whole()

    def fail():
        with pytest.raises(UsageError, match="region along Y"):
            ask.part({"T": 0, "Y": slice(140, 999, 2)})

    assert run_with(ask, fail).tobytes() == alone.tobytes()


def test_stop_ends_run_and_part_after_one_piece_each(asked) -> None:
    ask = asked(kind="labels", tiling="exact", tile=(64,))
    cancel = CancelToken()
    run, part = ask.events(cancel=cancel), ask.events(REGIONS[1], cancel=cancel)
    for events in (run, part):
        assert isinstance(next(events), Started)
        next(events)
    cancel.set()
    for events in (run, part):
        rest = list(events)
        assert isinstance(rest[-1], Cancelled)
        assert len(rest) <= 2
