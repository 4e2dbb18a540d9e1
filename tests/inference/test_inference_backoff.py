from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.config import PredictConfig
from napari_unet.errors import DeviceError, ModelError
from napari_unet.events import Warned
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference import shared
from napari_unet.inference.backoff import Runner
from napari_unet.inference.pipeline import pieces
from napari_unet.inference.predict import predict, prepare


class Small(nn.Module):
    """A module on a device that holds `room` input values."""

    def __init__(self, inner: nn.Module, room: int, error: Exception) -> None:
        super().__init__()
        self.inner, self.room, self.error = inner, room, error
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(x.shape))
        if math.prod(x.shape) > self.room:
            raise self.error
        return self.inner(x)


OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture
def shrink(monkeypatch):
    """Make the placed network small, as if a device were full."""

    def act(network, room: int, error: Exception = OOM):
        placed = network.place("cpu", "float32")
        placed.module = Small(placed.module, room, error)
        monkeypatch.setattr(network, "place", lambda *_: placed)
        monkeypatch.setattr(shared, "_all", weakref.WeakKeyDictionary())
        return placed.module

    return act


def result(stack, network, as_is, **settings):
    config = PredictConfig(**{"kind": "logits", "device": "cpu", **settings})
    return list(predict(stack, network, config, ArraySink(), scaling=as_is()))


def test_the_batch_is_halved_and_the_result_stays(
    make_network, noise, as_is, shrink
) -> None:
    stack, network = ImageStack(noise(8, 32, 32), "TYX"), make_network()
    expected = result(stack, network, as_is)[-1].result
    module = shrink(network, 3 * 32 * 32)
    events = result(stack, network, as_is, batch_size=8)
    np.testing.assert_allclose(events[-1].result, expected, atol=1e-6)
    told = [e.message for e in events if isinstance(e, Warned)]
    assert told == [
        "The device is short of memory: 4 tiles at a time.",
        "The device is short of memory: 2 tiles at a time.",
    ]
    assert module.sizes[-1][0] == 2


@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
def test_the_tile_is_halved_and_the_result_stays(
    make_network, noise, as_is, shrink, upsampling: str
) -> None:
    stack = ImageStack(noise(2, 150, 170), "TYX")
    network = make_network(upsampling=upsampling)
    expected = result(stack, network, as_is)[-1].result
    module = shrink(network, 100 * 100)
    events = result(stack, network, as_is)
    np.testing.assert_allclose(events[-1].result, expected, atol=1e-5)
    told = [e.message for e in events if isinstance(e, Warned)]
    assert 1 <= len(told) <= 4
    assert all("short of memory: tiles of" in text for text in told)
    failures = [s for s in module.sizes if math.prod(s) > module.room]
    assert len(failures) == len(told)


def test_the_next_run_remembers_what_fits(make_network, noise, as_is, shrink) -> None:
    stack, network = ImageStack(noise(2, 150, 170), "TYX"), make_network()
    expected = result(stack, network, as_is)[-1].result
    module = shrink(network, 100 * 100)
    first = result(stack, network, as_is, tiling="exact")
    assert any("short of memory" in getattr(e, "message", "") for e in first)
    failures = sum(math.prod(s) > module.room for s in module.sizes)
    again = result(stack, network, as_is, tiling="exact")
    told = [e.message for e in again if isinstance(e, Warned)]
    assert told == [
        "The device was short of memory before: smaller pieces from the start."
    ]
    assert sum(math.prod(s) > module.room for s in module.sizes) == failures > 0
    np.testing.assert_allclose(again[-1].result, expected, atol=1e-5)


def test_valid_tiles_are_halved_too(make_network, noise, as_is, shrink) -> None:
    stack = ImageStack(noise(101, 95), "YX")
    network = make_network(padding="valid", norm="none")
    expected = result(stack, network, as_is)[-1].result
    shrink(network, 90 * 90)
    np.testing.assert_allclose(
        result(stack, network, as_is)[-1].result, expected, atol=1e-5
    )


def test_no_room_at_all_is_told(make_network, noise, as_is, shrink) -> None:
    stack, network = ImageStack(noise(64, 64), "YX"), make_network()
    shrink(network, 10)
    with pytest.raises(DeviceError, match="single tile"):
        result(stack, network, as_is)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_cpu_takes_over_a_full_device(make_network, noise, as_is, norm) -> None:
    stack, network = ImageStack(noise(80, 80), "YX"), make_network(norm=norm)
    expected = result(stack, network, as_is)[-1].result
    job = prepare(stack, network, PredictConfig(kind="logits", device="cpu"))
    job.placed.module = Small(job.placed.module, 10, OOM)
    runner = Runner(job.placed, job.plan, spare=lambda: network.place("cpu", "float32"))
    (piece,) = pieces(stack, job.layout, job.plan, as_is())
    (logits,) = runner([piece])
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)
    assert runner.take_notes()[-1].endswith("going on with the CPU.")
    assert runner.take_notes() == []


def test_blended_patches_are_not_cut(make_network, noise, as_is) -> None:
    """A part of a patch has other values, even where the network has exact tiles."""
    stack, network = ImageStack(noise(80, 90), "YX"), make_network()
    config = PredictConfig(kind="logits", device="cpu", tiling="blend", tile=(48,))
    job = prepare(stack, network, config)
    expected = Runner(network.place("cpu", "float32"), job.plan)
    job.placed.module = Small(job.placed.module, 40 * 40, OOM)
    runner = Runner(job.placed, job.plan, spare=lambda: network.place("cpu", "float32"))
    for piece in pieces(stack, job.layout, job.plan, as_is()):
        np.testing.assert_allclose(runner([piece])[0], expected([piece])[0], atol=1e-6)
    assert runner.take_notes() == [
        "The device is out of memory: going on with the CPU."
    ]


def test_other_errors_are_not_taken_for_a_full_device(
    make_network, noise, as_is, shrink
) -> None:
    stack, network = ImageStack(noise(64, 64), "YX"), make_network()
    module = shrink(network, 10, RuntimeError("sizes of tensors must match\nat x"))
    with pytest.raises(ModelError, match="64 x 64: found sizes of tensors must match"):
        result(stack, network, as_is)
    assert len(module.sizes) == 1


def test_an_output_of_another_shape_is_refused(
    make_network, noise, as_is, shrink
) -> None:
    stack, network = ImageStack(noise(64, 64), "YX"), make_network()
    shrink(network, 10**9).inner = nn.Conv2d(1, 5, 1)
    with pytest.raises(ModelError, match="1 x 5 x 64 x 64, expected 1 x 2 x 64 x 64"):
        result(stack, network, as_is)


@pytest.mark.gpu
@pytest.mark.parametrize(("tiling", "is_short"), [("exact", True), ("stream", False)])
def test_a_gpu_that_others_fill_gives_the_same(
    make_network, noise, as_is, tiling: str, is_short: bool
) -> None:
    """The plan is made while there is room, and then there are 96 MiB."""
    stack = ImageStack(noise(1500, 1400), "YX")
    network = make_network(widths=(16, 24, 32))
    settings = {"tiling": tiling, "precision": "float32", "kind": "logits"}
    expected = result(stack, network, as_is, **settings)[-1].result
    config = PredictConfig(device="cuda", **settings)
    events, told = predict(stack, network, config, ArraySink(), scaling=as_is()), []
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((96 << 20) / total)
        for event in events:
            told += [event.message] if isinstance(event, Warned) else []
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(event.result, expected, atol=2e-5)
    assert any("short of memory" in words for words in told) == is_short
