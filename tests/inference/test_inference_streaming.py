"""Streaming against the whole frame's own forward."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zoo.opened import opened
from zoo.stored_cases import cases

from napari_unet.config import PredictConfig
from napari_unet.errors import DeviceError, ModelError, UsageError
from napari_unet.events import Cancelled, CancelToken, Progress, Warned
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference import footprint, strips, tiling
from napari_unet.inference.predict import predict
from napari_unet.inference.streaming.stream import Stream, Streamed
from napari_unet.networks.folding import fold_batch_norm
from napari_unet.networks.graph import UnknownLayerError, read_graph
from napari_unet.networks.leaves import TurnAxes
from napari_unet.networks.unet import UNet, UNetSpec

ZOO = [case for case in cases() if "nnunet" not in case.library]


def streamed(module: nn.Module, image: torch.Tensor, axis: int, chunk: int, step: int):
    """Feed an image to a stream, `step` rows at a time."""
    network = Streamed(read_graph(module, image.ndim - 2), axis)
    length = image.shape[axis + 2]
    stream, rows = Stream(network, length, chunk), []
    for start, stop in tiling.pieces(0, length, step):
        rows += stream.push(image.narrow(axis + 2, start, stop - start))
    return torch.cat(rows, axis + 2)


def worst(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, relative where the numbers are above 1."""
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / max(1.0, float(wanted.abs().max())))


def fitting(network, cells: int) -> list[int]:
    """Odd sizes that a network takes, longer along the first axis."""
    grids = tiling.grids(network.geometry)
    sizes = [g.fit(g.stride * cells) + 2 * g.margin for g in grids]
    return [sizes[0] + 3 * grids[0].stride, *sizes[1:]]


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_families(case) -> None:
    """Every network of the zoo with exact tiles, in float64 and as it runs."""
    network, _ = opened(case)
    if not network.geometry.streams:
        assert not network.geometry.exact
        return
    torch.manual_seed(0)
    shape = (1, network.spec.in_channels, *fitting(network, 2))
    image = torch.randn(shape)
    with torch.inference_mode():
        whole = network.module.double()(image.double())
        stride = network.geometry.stride[0]
        assert worst(streamed(network.module, image.double(), 0, stride, 7), whole) < (
            1e-12
        )
        folded = fold_batch_norm(network.module.float())
        found = streamed(folded, image, 0, 2 * stride, 2 * stride)
        rounding = worst(folded(image), whole)
        assert worst(found, whole) < max(1e-5, 4 * rounding)


SPECS = st.builds(
    lambda ndim, depth, width, stride, kernel, up, padding, norm, convs: UNetSpec(
        ndim=ndim,
        in_channels=2,
        out_channels=3,
        widths=tuple(width * (n + 1) for n in range(depth + 1)),
        strides=((stride,) * ndim,) * depth,
        kernels=((kernel,) * ndim,) * (depth + 1),
        upsampling=up,
        padding=padding,
        norm=norm,
        convs=convs,
    ),
    ndim=st.sampled_from([2, 3]),
    depth=st.integers(1, 3),
    width=st.integers(1, 5),
    stride=st.just(2),
    kernel=st.sampled_from([1, 3]),
    up=st.sampled_from(["transposed", "linear", "nearest"]),
    padding=st.sampled_from(["same", "valid"]),
    norm=st.sampled_from(["batch", "none"]),
    convs=st.integers(1, 2),
)


def test_corners_aligned_over_the_whole_frame(noise, as_is) -> None:
    """milesial's bilinear net: no tile is exact, rows of whole frames are."""
    case = next(c for c in ZOO if str(c) == "github-milesial-bilinear-32")
    network, _ = opened(case)
    channels = network.spec.in_channels
    stack = ImageStack(noise(2, channels, 101, 75), "TCYX")
    results = [
        list(
            predict(
                stack,
                network,
                PredictConfig(kind="logits", device="cpu", tiling=tiling),
                ArraySink(),
                region={"Y": slice(10, 90)},
                scaling=as_is(channels),
            )
        )[-1].result
        for tiling in ("whole", "stream")
    ]
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    with pytest.raises(UsageError, match="align_corners"):
        list(
            predict(
                stack,
                network,
                PredictConfig(device="cpu", tiling="exact"),
                ArraySink(),
                scaling=as_is(channels),
            )
        )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SPECS, st.data())
def test_random_networks_and_shapes(spec, data) -> None:
    """30 random networks, any axis, any chunk, any number of rows at a time."""
    torch.manual_seed(0)
    module = UNet(spec).eval()
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.normal_(layer.running_mean, 0, 0.3)
            nn.init.uniform_(layer.running_var, 0.3, 2)
    from napari_unet.networks.receptive_field import geometry

    grids = tiling.grids(geometry(module, spec.ndim, 2))
    sizes = [
        g.fit(g.stride * data.draw(st.integers(1, 4))) + 2 * g.margin for g in grids
    ]
    axis = data.draw(st.integers(0, spec.ndim - 1))
    chunk, step = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 40))
    image = torch.randn((1, 2, *sizes))
    with torch.inference_mode():
        whole = module.double()(image.double())
        found = streamed(module, image.double(), axis, chunk, step)
        assert worst(found, whole) < 1e-12
        assert worst(streamed(module.float(), image, axis, chunk, step), whole) < 1e-5


def _layers(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize(
    "module",
    [
        _layers(nn.Conv2d(2, 3, 3, padding=4, dilation=4), nn.PReLU(3)),
        _layers(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.LeakyReLU(0.2)),
        _layers(nn.Conv2d(2, 3, 4, padding="same"), nn.Sigmoid()),
        _layers(nn.Conv2d(2, 3, (5, 3), padding="same", padding_mode="reflect")),
        _layers(nn.Conv2d(2, 3, 5, padding=2, padding_mode="replicate"), nn.ReLU()),
        _layers(nn.Conv2d(2, 3, 3, 2, 1), nn.ConvTranspose2d(3, 2, 3, 2, 1, 1)),
        _layers(nn.Conv2d(2, 3, 5, 3, 1), nn.ConvTranspose2d(3, 2, 5, 3, 1)),
        _layers(nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1)),
        _layers(nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Upsample(scale_factor=2)),
        _layers(nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Conv2d(2, 1, 1)),
        _layers(nn.MaxPool2d(4), nn.Upsample(scale_factor=4, mode="bilinear")),
        _layers(nn.ConstantPad2d((1, 2, 3, 1), 0.5), nn.Conv2d(2, 1, (5, 4))),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_single_layers(module, axis) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 2, 48, 60, dtype=torch.float64)
    with torch.inference_mode():
        whole = module.double()(image)
        for chunk, step in ((1, 1), (5, 3), (12, 24), (64, 64)):
            assert worst(streamed(module, image, axis, chunk, step), whole) < 1e-12


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_that_are_turned_inside(axis) -> None:
    """MONAI's bundles run with X, Y, Z: rows lie along another axis within."""
    torch.manual_seed(0)
    module = _layers(
        TurnAxes(),
        nn.Conv3d(2, 3, (3, 1, 5), padding=(1, 0, 2)),
        nn.ReLU(),
        nn.MaxPool3d((2, 1, 4)),
        nn.ConvTranspose3d(3, 2, (2, 1, 4), (2, 1, 4)),
        nn.Upsample(scale_factor=(2, 2, 2), mode="trilinear"),
        nn.Conv3d(2, 2, 3, 2, 1),
        TurnAxes(),
    ).double()
    image = torch.randn(1, 2, 16, 10, 12, dtype=torch.float64)
    with torch.inference_mode():
        whole = module(image)
        for chunk, step in ((1, 1), (4, 3), (16, 16)):
            assert worst(streamed(module, image, axis, chunk, step), whole) < 1e-12


def test_too_little_memory_to_stream_is_told(make_network, noise, as_is, monkeypatch):
    from napari_unet.inference import job

    monkeypatch.setattr(job, "_budget", lambda _: 1000)
    config = PredictConfig(device="cpu", tiling="stream")
    stack = ImageStack(noise(64, 64), "YX")
    with pytest.raises(UsageError, match="cannot be streamed"):
        list(predict(stack, make_network(), config, ArraySink(), scaling=as_is()))


def test_a_layer_that_sees_everything_is_not_streamed() -> None:
    module = _layers(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2))
    with pytest.raises(UnknownLayerError, match="instance norm"):
        Streamed(read_graph(module, 2))


def test_memory_does_not_know_the_length(make_network) -> None:
    """What is alive at a time is the same for 400 rows and 4,000."""
    network = make_network(widths=(4, 6, 8)).place("cpu", "float32")
    peaks = []
    for length in (400, 4000):
        stream = Stream(Streamed(read_graph(network.module, 2)), length, 16)
        ledger = footprint.Living()
        with torch.inference_mode(), ledger:
            for start, stop in tiling.pieces(0, length, 16):
                for rows in stream.push(torch.zeros(1, 1, stop - start, 32)):
                    del rows
        peaks.append(ledger.peak)
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize("shape", [(203, 97), (1, 1), (64, 5), (40, 33, 29)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_predict_gives_the_whole_frame(
    make_network, noise, run, shape: tuple[int, ...], padding: str
) -> None:
    network = make_network(ndim=len(shape), padding=padding)
    image, axes = noise(*shape), "ZYX"[-len(shape) :]
    whole = run(image, axes, network, tiling="whole")
    found = run(image, axes, network, tiling="stream")
    np.testing.assert_allclose(found, whole, atol=1e-5)
    done = [e.done for e in run.events if isinstance(e, Progress)]
    assert done == sorted(done)


def test_a_part_has_the_values_of_the_whole(make_network, noise, run) -> None:
    network, image = make_network(), noise(3, 300, 200)
    whole = run(image, "TYX", network, tiling="whole")
    part = {"T": slice(1, 3), "Y": slice(101, 187), "X": slice(3, 150)}
    found = run(image, "TYX", network, tiling="stream", region=part)
    np.testing.assert_allclose(found, whole[1:3, :, 101:187, 3:150], atol=1e-5)


def test_a_wide_frame_is_streamed_in_strips(
    make_network, noise, run, monkeypatch
) -> None:
    """The less memory, the fewer rows at a time and the narrower the strips."""
    from napari_unet.inference import job

    network, image = make_network(), noise(150, 900)
    whole = run(image, "YX", network, tiling="whole")
    seen = []
    for budget in (20_000_000, 4_000_000, 900_000):
        monkeypatch.setattr(job, "_budget", lambda _, n=budget: n)
        found = run(image, "YX", network, tiling="stream")
        np.testing.assert_allclose(found, whole, atol=1e-5)
        words = run.events[0].title
        rows, strips = re.search(
            r"of (\d+) x \d+ pixels in (\d+) strip", words
        ).groups()
        seen.append((int(rows), int(strips)))
    assert seen[0] == (64, 1)
    assert 4 <= seen[1][0] < 64
    assert seen[2][0] == 4
    assert seen[2][1] > 1


def test_short_memory_steps_back_and_the_result_stays(
    make_network, noise, as_is, monkeypatch
) -> None:
    """Out of memory at the first, a middle and a late piece."""
    network, stack = make_network(), ImageStack(noise(2, 300, 280), "TYX")
    config = PredictConfig(kind="logits", device="cpu", tiling="stream")
    wanted = list(predict(stack, network, config, ArraySink(), scaling=as_is()))
    calls = iter(range(10_000))

    class Short(Stream):
        def push(self, rows):
            if next(calls) in (0, 6, 9, 14, 15, 16, 17):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            yield from super().push(rows)

    monkeypatch.setattr(strips, "Stream", Short)
    found = list(predict(stack, network, config, ArraySink(), scaling=as_is()))
    np.testing.assert_allclose(found[-1].result, wanted[-1].result, atol=1e-5)
    told = [e.message for e in found if isinstance(e, Warned)]
    assert "The device is short of memory: 32 rows at a time." in told
    assert "The device is short of memory: narrower strips." in told


def _raising(error: Exception) -> type[Stream]:
    class Failing(Stream):
        def push(self, rows):
            raise error

    return Failing


def test_no_memory_at_all_is_told(make_network, noise, as_is, monkeypatch) -> None:
    monkeypatch.setattr(strips, "Stream", _raising(MemoryError()))
    config = PredictConfig(device="cpu", tiling="stream")
    stack = ImageStack(noise(64, 64), "YX")
    with pytest.raises(DeviceError, match="narrowest strip"):
        list(predict(stack, make_network(), config, ArraySink(), scaling=as_is()))


def test_a_failing_network_is_told(make_network, noise, as_is, monkeypatch) -> None:
    broken = _raising(RuntimeError("shape mismatch\nat line 3"))
    monkeypatch.setattr(strips, "Stream", broken)
    config = PredictConfig(device="cpu", tiling="stream")
    stack = ImageStack(noise(64, 64), "YX")
    with pytest.raises(ModelError, match="shape mismatch"):
        list(predict(stack, make_network(), config, ArraySink(), scaling=as_is()))


def test_it_can_be_stopped_between_pieces(make_network, noise, as_is) -> None:
    cancel, events = CancelToken(), []
    config = PredictConfig(device="cpu", tiling="stream")
    stack = ImageStack(noise(900, 40), "YX")
    for event in predict(
        stack, make_network(), config, ArraySink(), scaling=as_is(), cancel=cancel
    ):
        events.append(event)
        if isinstance(event, Progress) and event.done == 3:
            cancel.set()
    assert isinstance(events[-1], Cancelled)
    assert len([e for e in events if isinstance(e, Progress)]) == 3


def test_streaming_is_refused_where_a_norm_sees_the_image(
    make_network, noise, as_is
) -> None:
    config = PredictConfig(device="cpu", tiling="stream")
    network = make_network(norm="instance")
    with pytest.raises(UsageError, match="instance norm"):
        list(
            predict(
                ImageStack(noise(64, 64), "YX"),
                network,
                config,
                ArraySink(),
                scaling=as_is(),
            )
        )
