from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.config import PredictConfig
from napari_unet.events import Finished, Warned
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference import precision
from napari_unet.inference.predict import predict
from napari_unet.networks import device as devices


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """A device with bfloat16, and every stack worth a measurement."""
    monkeypatch.setattr(devices, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(precision, "_WORTH", {2: 1, 3: 1})
    monkeypatch.setattr(precision, "_measured", {})


def said(stack, network, as_is, **settings) -> tuple[list[str], np.ndarray]:
    config = PredictConfig(**{"device": "cpu", **settings})
    events = list(predict(stack, network, config, ArraySink(), scaling=as_is()))
    assert isinstance(events[-1], Finished)
    told = [e.message for e in events if isinstance(e, Warned)]
    return [note for note in told if "bfloat16" in note], events[-1].result


def test_the_share_is_that_of_the_labels_that_differ(make_network, noise, as_is):
    network = make_network(out_channels=5, widths=(8, 12, 16))
    torch.nn.init.normal_(network.module.head.weight)
    torch.nn.init.zeros_(network.module.head.bias)
    stack = ImageStack(noise(250, 200), "YX")
    exact = said(stack, network, as_is, precision="float32")[1]
    half = said(stack, network, as_is, precision="bfloat16")[1]
    flips = float((exact != half).mean())
    assert flips > 0
    told, found = said(stack, network, as_is)
    assert f"{100 * flips:.2g} %" in told[0]
    wanted = exact if flips > precision.MOST_FLIPS else half
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("most", "word"), [(1.0, "bfloat16, which"), (-1.0, "float32")]
)
def test_the_limit_decides(make_network, noise, as_is, monkeypatch, most, word):
    monkeypatch.setattr(precision, "MOST_FLIPS", most)
    network, stack = make_network(), ImageStack(noise(2, 60, 70), "TYX")
    told, found = said(stack, network, as_is)
    assert told[0].startswith(f"Computed in {word}")
    name = "bfloat16" if most > 0 else "float32"
    np.testing.assert_array_equal(found, said(stack, network, as_is, precision=name)[1])


@pytest.mark.gpu
def test_a_gpu_is_measured_too(make_network, noise, as_is, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(precision, "_WORTH", {2: 1, 3: 1})
    network, stack = make_network(), ImageStack(noise(2, 60, 70), "TYX")
    exact = said(stack, network, as_is, precision="float32")[1]
    for most, word in ((1.0, "bfloat16, which"), (-1.0, "float32")):
        monkeypatch.setattr(precision, "MOST_FLIPS", most)
        told, found = said(stack, network, as_is, device="cuda")
        assert told[0].startswith(f"Computed in {word}")
        assert (found != exact).mean() < (0.1 if most > 0 else 1e-3)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_numbers_stay_float32(make_network, noise, as_is, kind):
    stack = ImageStack(noise(60, 70), "YX")
    assert said(stack, make_network(), as_is, kind=kind)[0] == []


def test_small_stacks_are_not_measured(make_network, noise, as_is, monkeypatch):
    monkeypatch.setattr(precision, "_WORTH", {2: 10_000})
    assert said(ImageStack(noise(60, 70), "YX"), make_network(), as_is)[0] == []


def test_a_stack_is_measured_once(make_network, noise, as_is, monkeypatch):
    places = []
    network = make_network()
    labels = precision._labels
    monkeypatch.setattr(precision, "_labels", lambda *a: places.append(1) or labels(*a))
    stack = ImageStack(noise(60, 70), "YX", source="somewhere.tif")
    first = said(stack, network, as_is)
    assert said(stack, network, as_is)[0] == first[0]
    assert len(places) == 2


def test_the_arithmetic_is_recorded(make_network, noise, as_is, monkeypatch):
    monkeypatch.setattr(precision, "MOST_FLIPS", 1.0)
    sink = ArraySink()
    opened = []
    monkeypatch.setattr(sink, "open", lambda spec: opened.append(spec))
    monkeypatch.setattr(sink, "write", lambda *_: None)
    monkeypatch.setattr(sink, "close", lambda: None)
    config = PredictConfig(device="cpu")
    stack = ImageStack(noise(60, 70), "YX")
    list(predict(stack, make_network(), config, sink, scaling=as_is()))
    assert "bfloat16" in opened[0].provenance["device"]
