from __future__ import annotations

import json

import numpy as np
import pytest

import napari_unet
from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError, ModelError, UsageError
from napari_unet.events import (
    Cancelled,
    CancelToken,
    Finished,
    Preview,
    Progress,
    Started,
    Warned,
)
from napari_unet.images.intensity import Normalization
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference.predict import predict
from napari_unet.networks.spec import Assumption


class Recorder(ArraySink):
    """Notes what happens to it."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.regions: list = []
        self.fail_at = fail_at

    def open(self, spec) -> None:
        self.calls.append("open")
        self.spec = spec
        super().open(spec)

    def write(self, region, block) -> None:
        if len(self.regions) == self.fail_at:
            raise OSError("disk is gone")
        self.regions.append(region)
        assert block.shape == tuple(s.stop - s.start for s in region)
        assert block.dtype == self.spec.dtype
        super().write(region, block)

    def close(self):
        self.calls.append("close")
        return super().close()

    def abort(self) -> None:
        self.calls.append("abort")


CPU = {"device": "cpu"}


def test_events_tell_the_story_in_order(make_network, noise) -> None:
    sink = Recorder()
    config = PredictConfig(tiling="exact", tile=(64,), **CPU)
    events = list(
        predict(ImageStack(noise(2, 90, 70), "TYX"), make_network(), config, sink)
    )
    assert isinstance(events[0], Started)
    assert "exact tiles of 64 x 64" in events[0].title
    progress = [e for e in events if isinstance(e, Progress)]
    assert [p.done for p in progress] == list(range(1, events[0].total + 1))
    assert {p.total for p in progress} == {events[0].total}
    previews = [e for e in events if isinstance(e, Preview)]
    assert [p.region for p in previews] == sink.regions
    assert isinstance(events[-1], Finished)
    assert sink.calls == ["open", "close"]
    assert [r[0].start for r in sink.regions] == sorted(
        r[0].start for r in sink.regions
    )
    covered = np.zeros((2, 90, 70), int)
    for region in sink.regions:
        covered[region] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("tiling", ["exact", "blend"])
def test_blocks_of_a_frame_cover_it_once(make_network, noise, tiling: str) -> None:
    sink = Recorder()
    config = PredictConfig(tiling=tiling, tile=(20, 40), kind="probabilities", **CPU)
    network = make_network(ndim=2, widths=(4, 6), out_channels=3)
    list(predict(ImageStack(noise(2, 60, 70), "ZYX"), network, config, sink))
    covered = np.zeros((2, 3, 60, 70), int)
    for region in sink.regions:
        covered[region] += 1
    assert (covered == 1).all()


def test_the_output_is_described_in_full(make_network, noise) -> None:
    stack = ImageStack(
        noise(2, 3, 16, 16),
        "TCYX",
        scale={"T": 5.0, "Y": 0.5, "X": 0.5, "C": 1.0},
        units={"T": "s", "Y": "µm", "X": "µm"},
        name="cells",
        source="/data/cells.tif",
    )
    network = make_network(in_channels=3, class_names=("ground", "cell"))
    sink = Recorder()
    list(predict(stack, network, PredictConfig(**CPU), sink))
    assert (sink.spec.axes, sink.spec.shape) == ("TYX", (2, 16, 16))
    assert sink.spec.dtype == np.uint8
    assert sink.spec.kind == "labels"
    assert sink.spec.scale == {"T": 5.0, "Y": 0.5, "X": 0.5}
    assert sink.spec.units == {"T": "s", "Y": "µm", "X": "µm"}
    record = json.loads(json.dumps(dict(sink.spec.provenance)))
    assert record["model_digest"] == "d1g"
    assert record["software"] == f"unet-napari {napari_unet.__version__}"
    assert record["settings"]["kind"] == "labels"
    assert "whole frames" in record["tiling"]
    list(
        predict(stack, network, PredictConfig(kind="logits", **CPU), sink := Recorder())
    )
    assert (sink.spec.axes, sink.spec.shape) == ("TCYX", (2, 2, 16, 16))
    assert sink.spec.kind == "image"
    assert sink.spec.channel_names == ("ground", "cell")


def test_the_whole_stack_sets_the_intensities_of_a_region(make_network, noise) -> None:
    image = noise(4, 24, 24) * 3 + np.arange(4, dtype="f4")[:, None, None]
    network = make_network(normalization=(Normalization(kind="zscore", eps=0.0),))
    config = PredictConfig(kind="logits", **CPU)
    stack = ImageStack(image, "TYX")
    *_, whole = predict(stack, network, config, ArraySink())
    *_, part = predict(stack, network, config, ArraySink(), region={"T": 2})
    np.testing.assert_allclose(part.result, whole.result[2], atol=1e-6)
    scaled = ((image - image.mean()) / image.std()).astype("f4")
    none = PredictConfig(kind="logits", normalize="none", **CPU)
    *_, expected = predict(ImageStack(scaled, "TYX"), network, none, ArraySink())
    np.testing.assert_allclose(whole.result, expected.result, atol=1e-4)


def test_stopping_leaves_nothing(make_network, noise) -> None:
    cancel, sink = CancelToken(), Recorder()
    stack = ImageStack(noise(6, 16, 16), "TYX")
    events = []
    for event in predict(
        stack, make_network(), PredictConfig(**CPU), sink, cancel=cancel
    ):
        events.append(event)
        if isinstance(event, Progress) and event.done == 2:
            cancel.set()
    assert isinstance(events[-1], Cancelled)
    assert "2 of 6" in events[-1].note
    assert sink.calls == ["open", "abort"]


def test_stopping_before_the_start_opens_no_sink(make_network, noise) -> None:
    cancel, sink = CancelToken(), Recorder()
    cancel.set()
    network = make_network(normalization=(Normalization(kind="zscore"),))
    stack = ImageStack(noise(16, 16), "YX")
    *_, last = predict(stack, network, PredictConfig(**CPU), sink, cancel=cancel)
    assert isinstance(last, Cancelled)
    assert "close" not in sink.calls


def test_a_failing_sink_is_aborted(make_network, noise) -> None:
    sink = Recorder(fail_at=1)
    stack = ImageStack(noise(6, 16, 16), "TYX")
    with pytest.raises(OSError, match="disk is gone"):
        list(predict(stack, make_network(), PredictConfig(**CPU), sink))
    assert sink.calls == ["open", "abort"]


def test_a_dropped_run_is_aborted(make_network, noise) -> None:
    sink = Recorder()
    stack = ImageStack(noise(6, 16, 16), "TYX")
    events = predict(stack, make_network(), PredictConfig(**CPU), sink)
    assert any(isinstance(event, Progress) for event in events)
    events.close()
    assert sink.calls == ["open", "abort"]


def test_an_unreadable_plane_is_told_and_aborts(make_network, as_is) -> None:
    class Broken:
        shape, dtype = (3, 16, 16), np.dtype(np.uint8)

        def __getitem__(self, index):
            if index[0] == slice(1, 2):
                raise ImageError("page 2 is truncated")
            return np.zeros((3, 16, 16), np.uint8)[index]

    sink = Recorder()
    stack = ImageStack(Broken(), "TYX")
    with pytest.raises(ImageError, match="truncated"):
        list(
            predict(stack, make_network(), PredictConfig(**CPU), sink, scaling=as_is())
        )
    assert sink.calls == ["open", "abort"]


def test_few_planes_are_read_ahead(make_network, as_is) -> None:
    class Counted:
        shape, dtype, reads = (40, 16, 16), np.dtype(np.uint8), 0

        def __getitem__(self, index):
            Counted.reads += 1
            return np.zeros(self.shape, np.uint8)[index]

    stack = ImageStack(Counted(), "TYX")
    events = predict(
        stack, make_network(), PredictConfig(**CPU), Recorder(), scaling=as_is()
    )
    for event in events:
        if isinstance(event, Progress):
            assert Counted.reads <= event.done + 4


@pytest.mark.parametrize(
    ("shape", "axes", "fields", "settings", "error", "words"),
    [
        ((16, 16), "YX", {"ndim": 3}, {}, ModelError, "ZYX"),
        ((3, 16, 16), "CYX", {}, {}, ModelError, "3 image channels, expected 1"),
        ((16, 16), "YX", {"in_channels": 2}, {}, ModelError, "1 image channel, exp"),
        ((3, 16, 16), "CYX", {}, {"channels": (3,)}, UsageError, "no channel 3"),
        ((0, 16, 16), "TYX", {}, {}, ImageError, "size 0 along T"),
        ((16, 0), "YX", {}, {}, ImageError, "size 0 along X"),
        ((16, 16), "YX", {}, {"tile": (8, 8, 8)}, UsageError, "2 for this 2D"),
        (
            (16, 16),
            "YX",
            {"norm": "instance"},
            {"tiling": "exact"},
            UsageError,
            "no exact tiles",
        ),
        (
            (16, 16),
            "YX",
            {"task": "restoration", "activation": "none"},
            {},
            UsageError,
            "--kind probabilities",
        ),
        ((16, 16), "YX", {"task": "instances"}, {}, ModelError, "3: background"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_tile(
    make_network, noise, shape, axes, fields, settings, error, words
) -> None:
    sink = Recorder()
    stack = ImageStack(noise(*shape), axes)
    events = predict(
        stack, make_network(**fields), PredictConfig(**{**CPU, **settings}), sink
    )
    with pytest.raises(error, match=words):
        next(events)
    assert sink.calls == []


@pytest.mark.parametrize(
    "region",
    [{"C": 0}, {"Z": 1}, {"Y": 16}, {"Y": slice(4, 4)}, {"X": slice(0, 8, 2)}],
)
def test_a_region_outside_the_image_is_refused(make_network, noise, region) -> None:
    stack = ImageStack(noise(2, 16, 16), "TYX")
    with pytest.raises(UsageError, match="region"):
        next(
            predict(
                stack, make_network(), PredictConfig(**CPU), Recorder(), region=region
            )
        )


def test_notes_and_assumptions_are_told(make_network, noise) -> None:
    network = make_network()
    fact = Assumption(field="slope", value=0.01, alternatives=(0.0,), reason="Usual.")
    network.spec = network.spec.model_copy(update={"assumed": (fact,)})
    stack = ImageStack(noise(16, 16), "YX", notes=("Axes were named by ImageJ.",))
    events = list(predict(stack, network, PredictConfig(**CPU), Recorder()))
    told = [e.message for e in events if isinstance(e, Warned)]
    assert told[0] == "Axes were named by ImageJ."
    assert "slope; 0.01 is assumed (others: 0.0). Usual." in told[1]


def test_nan_from_the_network_is_told_once(make_network, run, noise) -> None:
    network = make_network()
    network.module.head.bias.data[0] = float("nan")
    run(noise(3, 16, 16), "TYX", network)
    told = [e.message for e in run.events if isinstance(e, Warned)]
    assert told == ["The network gives NaN or infinite values."]


def test_labels_probabilities_and_logits_agree(make_network, run, noise) -> None:
    network, image = make_network(out_channels=4), noise(40, 40)
    logits = run(image, "YX", network)
    odds = run(image, "YX", network, kind="probabilities")
    labels = run(image, "YX", network, kind="labels")
    powers = np.exp(logits.astype("f8"))
    np.testing.assert_allclose(odds, powers / powers.sum(0), atol=1e-6)
    np.testing.assert_array_equal(labels, logits.argmax(0))
    assert labels.dtype == np.uint8


def test_many_classes_get_wider_labels(make_network, run, noise) -> None:
    labels = run(noise(8, 8), "YX", make_network(out_channels=300), kind="labels")
    assert labels.dtype == np.uint16


def test_object_numbers_go_on_over_frames(make_network, run) -> None:
    network = make_network(out_channels=1, activation="sigmoid", widths=(4,))
    for layer in network.module.modules():
        if hasattr(layer, "weight") and layer.weight is not None:
            layer.weight.data.fill_(1.0)
        if hasattr(layer, "bias") and layer.bias is not None:
            layer.bias.data.fill_(0.0)
    for layer in network.module.modules():
        if hasattr(layer, "running_mean"):
            layer.running_mean.data.fill_(0.0)
    network.module.head.bias.data.fill_(-0.5)
    image = np.zeros((3, 30, 30), np.float32)
    image[0, 5, 5] = image[0, 20, 20] = image[2, 10, 10] = 1
    result = run(image, "TYX", network, kind="instances")
    assert result.dtype == np.uint32
    assert [sorted(np.unique(plane)) for plane in result] == [[0, 1, 2], [0], [0, 3]]
    assert result[0, 5, 5] == 1
    assert result[2, 10, 10] == 3


def test_a_pass_that_fills_the_memory_is_refused(
    make_network, noise, monkeypatch
) -> None:
    monkeypatch.setattr("napari_unet.networks.device.free_memory", lambda _: 1 << 20)
    stack = ImageStack(noise(200, 200), "YX")
    whole = PredictConfig(tiling="whole", **CPU)
    with pytest.raises(UsageError, match="--tiling auto"):
        next(predict(stack, make_network(), whole, Recorder()))
    *_, last = predict(stack, make_network(), PredictConfig(**CPU), Recorder())
    assert isinstance(last, Finished)


def test_a_frame_too_large_for_objects_is_refused(
    make_network, noise, monkeypatch
) -> None:
    """Flows are followed over the whole frame, which is known before it is read."""
    monkeypatch.setattr(
        "napari_unet.inference.finish.free_memory", lambda device: 10_000
    )
    stack = ImageStack(noise(64, 64), "YX")
    network = make_network(task="flows", out_channels=3, activation="none")
    config = PredictConfig(kind="instances", **CPU)
    with pytest.raises(UsageError, match="too large"):
        next(predict(stack, network, config, Recorder()))
