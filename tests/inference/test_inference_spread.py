"""Several devices, with processors in their place, and real ones where there are."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from napari_unet.config import PredictConfig
from napari_unet.errors import DeviceError
from napari_unet.events import Finished
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference import predict as predicting
from napari_unet.inference import ways
from napari_unet.inference.backoff import Runner
from napari_unet.inference.job import prepare
from napari_unet.inference.pipeline import Piece, batches, pieces
from napari_unet.inference.predict import predict
from napari_unet.inference.spread import Upload, in_turn, spread
from napari_unet.networks import device as devices


class FakeRunner:
    """Adds its own number, in the thread of its device."""

    batch = 2

    def __init__(self, number: int) -> None:
        self.number = number
        self.threads: set[str] = set()
        self.free = threading.Event()
        self.free.set()

    def __call__(self, batch, arrived):
        self.free.wait(10)
        self.threads.add(threading.current_thread().name)
        return list(arrived() + self.number)


def copies(log: list[int]):
    def begin(batch):
        pixels = torch.from_numpy(np.stack([p.pixels for p in batch]))
        log.append(int(pixels[0, 0, 0, 0]))
        return lambda: pixels

    return begin


def tiles(count: int) -> list[list[Piece]]:
    made = [Piece({}, (n,), (), np.full((1, 1, 1), n, "f4")) for n in range(count)]
    return list(batches(made, lambda: 2))


def test_results_come_in_order_whoever_is_slow() -> None:
    runners = [FakeRunner(100), FakeRunner(200)]
    runners[0].free.clear()
    threading.Timer(0.1, runners[0].free.set).start()
    log: list[int] = []
    found = list(in_turn(tiles(10), runners, [copies(log)] * 2))
    assert [piece.index[0] for piece, _ in found] == list(range(10))
    values = [float(logits) for _, logits in found]
    assert values == [100, 101, 202, 203, 104, 105, 206, 207, 108, 109]
    assert [len(r.threads) for r in runners] == [1, 1]
    assert runners[0].threads != runners[1].threads


def test_the_next_batch_is_on_its_way_before_one_is_handed_out() -> None:
    log: list[int] = []
    results = in_turn(tiles(10), [FakeRunner(0)], [copies(log)])
    next(results)
    assert log == [0, 2]
    results.close()
    assert threading.active_count() < 50


def test_an_error_of_a_device_is_raised_here_and_its_threads_end() -> None:
    class Broken(FakeRunner):
        def __call__(self, batch, arrived):
            raise DeviceError("the device is gone")

    with pytest.raises(DeviceError, match="gone"):
        list(in_turn(tiles(10), [FakeRunner(0), Broken(0)], [copies([])] * 2))
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("device-")]


@pytest.mark.parametrize("tiling", ["exact", "blend"])
def test_three_devices_give_what_one_gives(
    make_network, noise, as_is, monkeypatch, tiling: str
) -> None:
    """Also when one of them has no room to copy ahead, and one no memory at all."""
    network, stack = make_network(), ImageStack(noise(3, 100, 90), "TYX")
    config = PredictConfig(kind="logits", device="cpu", tiling=tiling, tile=(64,))
    expected = list(predict(stack, network, config, ArraySink(), scaling=as_is()))
    ours = [network.place("cpu", "float32") for _ in range(3)]
    whole = predicting.prepare

    def with_more(*args):
        job = whole(*args)
        return type(job)(**{**vars(job), "others": tuple(ours[:2])})

    class Full(torch.nn.Conv2d):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory")

    ours[1].module = Full(1, 1, 1)
    monkeypatch.setattr(predicting, "prepare", with_more)
    monkeypatch.setattr(
        *(ways, "_runner"),
        lambda job, placed: Runner(placed, job.plan, 2, lambda: ours[2]),
    )
    monkeypatch.setattr(
        *(ways, "spread"),
        lambda grouped, runners, _: in_turn(
            *(grouped, runners), [copies([]), lambda _: None, copies([])]
        ),
    )
    monkeypatch.setattr(Runner, "device", torch.device("cpu"))
    events = list(predict(stack, network, config, ArraySink(), scaling=as_is()))
    assert isinstance(events[-1], Finished)
    np.testing.assert_allclose(events[-1].result, expected[-1].result, atol=1e-5)
    assert any("going on with the CPU" in getattr(e, "message", "") for e in events)


def test_more_gpus_than_there_are_is_told(make_network, noise, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    here = torch.device("cuda", 1)
    assert devices.further_gpus(here, 2) == ["cuda:0", "cuda:2"]
    with pytest.raises(DeviceError, match="3 CUDA devices"):
        devices.further_gpus(here, 3)
    config = PredictConfig(device="cpu", gpus=2)
    with pytest.raises(DeviceError, match="0 CUDA devices"):
        prepare(ImageStack(noise(40, 40), "YX"), make_network(), config)


def test_several_gpus_share_tiles_and_do_not_stream() -> None:
    from napari_unet.inference.plan import Memory, plan
    from napari_unet.networks.receptive_field import geometry
    from napari_unet.networks.unet import UNet, UNetSpec

    shape = geometry(UNet(UNetSpec(widths=(4, 6))), 2, 1)
    memory = Memory(1 << 20, 100.0, 1 << 20)
    ways = [
        plan((4096, 4096), shape, PredictConfig(gpus=gpus), memory).way
        for gpus in (1, 2)
    ]
    assert ways[1] == "exact"
    assert ways[0] != "whole"


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["logits", "labels"])
@pytest.mark.parametrize("tiling", ["exact", "blend", "stream", "auto"])
def test_a_gpu_gives_what_the_processor_gives(
    make_network, noise, as_is, tiling: str, kind: str
) -> None:
    network, stack = make_network(), ImageStack(noise(20, 100, 90), "TYX")
    found = []
    for device in ("cpu", "cuda"):
        config = PredictConfig(
            *(),
            device=device,
            precision="float32",
            kind=kind,
            tiling=tiling,
            tile=(64,),
        )
        events = predict(stack, network, config, ArraySink(), scaling=as_is())
        found.append(list(events)[-1].result)
    if kind == "labels":
        assert (found[0] != found[1]).mean() < 1e-3
    else:
        np.testing.assert_allclose(found[0], found[1], atol=2e-5)


@pytest.mark.gpu
def test_a_batch_arrives_on_a_gpu(make_network, noise, as_is) -> None:
    network, stack = make_network(), ImageStack(noise(6, 64, 64), "TYX")
    job = prepare(stack, network, PredictConfig(device="cuda", precision="float32"))
    (batch,) = batches(pieces(stack, job.layout, job.plan, as_is()), lambda: 6)
    pixels = Upload(job.placed.device)(batch)()
    assert pixels.device.type == "cuda"
    np.testing.assert_array_equal(pixels.cpu(), np.stack([p.pixels for p in batch]))
    found = list(spread([batch], [Runner(job.placed, job.plan)], job.placed.device))
    assert [piece.position["T"] for piece, _ in found] == list(range(6))
