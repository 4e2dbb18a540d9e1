from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.config import PredictConfig
from napari_unet.errors import UsageError
from napari_unet.events import Progress, Started
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference import augmented
from napari_unet.inference.forecast import forecast
from napari_unet.inference.job import prepare
from napari_unet.inference.predict import predict
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec


def averaged(image: np.ndarray, kind: str, compute) -> np.ndarray:
    """Mean over flips, and rotations made by `np.rot90`, of a whole computation."""
    found = []
    if kind == "flips":
        axes = range(image.ndim)
        for n in range(image.ndim + 1):
            for some in itertools.combinations(axes, n):
                back = tuple(axis + 1 for axis in some)
                found.append(np.flip(compute(np.flip(image, some).copy()), back))
    else:
        depth = [(), (0,)] if image.ndim == 3 else [()]
        for quarter, across, along in itertools.product(range(4), (False, True), depth):
            turned = np.rot90(np.flip(image, along), quarter, (-2, -1))
            turned = np.flip(turned, -1) if across else turned
            logits = compute(turned.copy())
            logits = np.flip(logits, -1) if across else logits
            logits = np.rot90(logits, -quarter, (-2, -1))
            found.append(np.flip(logits, tuple(a + 1 for a in along)))
    return np.mean(found, 0)


def whole(network: Network):
    """Forward a whole image, mirrored at its end up to a multiple of the stride."""

    def compute(image: np.ndarray) -> np.ndarray:
        strides = network.geometry.stride
        more = [(0, -n % s) for n, s in zip(image.shape, strides, strict=True)]
        padded = torch.from_numpy(np.pad(image, more, mode="reflect"))
        with torch.inference_mode():
            logits = network.module(padded[None, None])[0].numpy()
        return logits[(slice(None), *(slice(n) for n in image.shape))]

    return compute


@pytest.mark.parametrize("kind", ["flips", "rotations"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tiling": "whole"},
        {"tiling": "stream"},
        {"tiling": "exact", "tile": (40, 56)},
    ],
)
def test_odd_frames_equal_turned_whole_images(
    make_network, noise, run, kind: str, fields: dict
) -> None:
    network, image = make_network(out_channels=3), noise(67, 93)
    found = run(image, "YX", network, tta=kind, **fields)
    expected = averaged(image, kind, whole(network))
    assert np.abs(expected - whole(network)(image)).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["flips", "rotations"])
@pytest.mark.parametrize("tiling", ["auto", "stream"])
def test_volumes_equal_turned_whole_volumes(
    make_network, noise, run, kind: str, tiling: str
) -> None:
    network, image = make_network(ndim=3, widths=(4, 6)), noise(9, 21, 30)
    found = run(image, "ZYX", network, tta=kind, tiling=tiling)
    expected = averaged(image, kind, whole(network)).swapaxes(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("fields", [{"norm": "instance"}, {"padding": "valid"}])
@pytest.mark.parametrize("kind", ["flips", "rotations"])
def test_each_turn_is_a_prediction_of_its_own(
    make_network, noise, run, kind: str, fields: dict
) -> None:
    """Blended patches and mirrored margins: those of the turned image."""
    settings = {"tiling": "blend", "tile": (32,), "overlap": 0.3}
    settings = settings if "norm" in fields else {}
    network, image = make_network(**{"norm": "none", **fields}), noise(75, 53)
    found = run(image, "YX", network, tta=kind, **settings)
    expected = averaged(image, kind, lambda x: run(x, "YX", network, **settings))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("tiling", ["auto", "blend"])
def test_slabs_do_not_show(
    make_network, noise, run, monkeypatch, norm: str, tiling: str
) -> None:
    network, image = make_network(norm=norm), noise(2, 131, 45)
    settings = {"tta": "rotations", "tiling": tiling, "tile": (64,), "overlap": 0.25}
    if tiling == "auto":
        settings = {"tta": "rotations"}
    expected = run(image, "TYX", network, **settings)
    monkeypatch.setattr(augmented, "SLAB", 4 * 2 * 45 * 40)
    config = PredictConfig(device="cpu", kind="logits", **settings)
    job = prepare(ImageStack(image, "TYX"), network, config)
    rows = [box[0] for box in augmented.slabs(job)]
    is_cut = norm == "batch" or tiling == "blend"
    assert len(rows) == (3 if is_cut else 1)
    assert [a for r in rows for a in range(*r)] == list(range(131))
    np.testing.assert_allclose(
        run(image, "TYX", network, **settings), expected, atol=1e-5
    )


class Counted:
    """An array that counts the pixels read from it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.count = 0

    def __getitem__(self, index):
        found = self.array[index]
        self.count += found.size
        return found


@pytest.mark.parametrize(
    "settings", [{}, {"tiling": "stream"}, {"tiling": "exact", "tile": (64,)}]
)
def test_pixels_are_read_once_for_all_turns(
    make_network, noise, as_is, settings: dict
) -> None:
    array = Counted(noise(3, 2, 90, 71))
    stack, network = ImageStack(array, "TCYX"), make_network()
    config = PredictConfig(device="cpu", channels=(1,), tta="rotations", **settings)
    events = predict(stack, network, config, ArraySink(), scaling=as_is())
    assert list(events)[-1].result.shape == (3, 90, 71)
    assert array.count == 3 * 90 * 71


def test_a_region_has_the_values_of_the_whole(make_network, noise, run) -> None:
    network, image = make_network(), noise(3, 90, 71)
    expected = run(image, "TYX", network, tta="rotations")
    region = {"T": 1, "Y": slice(11, 40), "X": slice(50, 71)}
    part = run(image, "TYX", network, tta="rotations", region=region)
    np.testing.assert_allclose(part, expected[1, :, 11:40, 50:71], atol=1e-5)


class Slope(nn.Module):
    """Gives the slopes along Y and X, and the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        weight = torch.zeros(3, 1, 3, 3)
        weight[0, 0, :, 1] = weight[1, 0, 1, :] = torch.tensor([-1.0, 0.0, 1.0])
        weight[2, 0, 1, 1] = 1
        self.layer.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.mark.parametrize("kind", ["flips", "rotations"])
def test_flows_turn_with_the_image(noise, run, kind: str) -> None:
    spec = {"ndim": 2, "in_channels": 1, "out_channels": 3, "activation": "none"}
    network = Network(Slope(), ModelSpec(**spec, task="flows"))
    image = noise(33, 20)
    plain = run(image, "YX", network)
    np.testing.assert_allclose(plain[0, 5, 5], image[6, 5] - image[4, 5], atol=1e-5)
    np.testing.assert_allclose(run(image, "YX", network, tta=kind), plain, atol=1e-5)
    blind = Network(Slope(), ModelSpec(**spec, task="restoration"))
    assert np.abs(run(image, "YX", blind, tta=kind)[:2]).max() < 1e-5


def test_kinds_of_one_run_agree(make_network, noise, run) -> None:
    network, image = make_network(out_channels=3), noise(50, 61)
    logits = run(image, "YX", network, tta="flips")
    shares = run(image, "YX", network, tta="flips", kind="probabilities")
    labels = run(image, "YX", network, tta="flips", kind="labels")
    softmax = torch.from_numpy(logits).softmax(0).numpy()
    np.testing.assert_allclose(shares, softmax, atol=1e-6)
    np.testing.assert_array_equal(labels, logits.argmax(0))


def test_objects_are_found_in_the_average(make_network, noise, run) -> None:
    from skimage.measure import label

    network, image = make_network(), noise(60, 43)
    labels = run(image, "YX", network, tta="flips", kind="labels")
    objects = run(image, "YX", network, tta="flips", kind="instances")
    np.testing.assert_array_equal(objects > 0, labels > 0)
    assert objects.max() == label(labels).max()


def test_it_is_said_and_counted(make_network, noise, run) -> None:
    run(noise(40, 40), "YX", make_network(), tta="rotations")
    assert isinstance(run.events[0], Started)
    assert "averaged over 8 flips and rotations" in run.events[0].title
    assert run.events[0].total == 8
    last = [e for e in run.events if isinstance(e, Progress)][-1]
    assert (last.done, last.total) == (8, 8)


def test_the_plan_counts_all_passes(make_network, noise) -> None:
    stack, network = ImageStack(noise(3, 40, 40), "TYX"), make_network()
    config = PredictConfig(device="cpu", tta="flips")
    assert forecast(stack, network, config).pieces == 12


def test_frames_that_cannot_be_cut_must_fit(make_network, noise, run, monkeypatch):
    monkeypatch.setattr(augmented, "free_memory", lambda _: 1000)
    network = make_network(norm="instance")
    with pytest.raises(UsageError, match="--tiling blend"):
        run(noise(60, 60), "YX", network, tta="flips", tiling="whole")


def test_oblong_pixels_are_not_rotated(make_network, noise) -> None:
    stack = ImageStack(noise(40, 40), "YX", scale={"Y": 0.5, "X": 0.3})
    network = make_network()
    with pytest.raises(UsageError, match="--tta flips"):
        prepare(stack, network, PredictConfig(device="cpu", tta="rotations"))
    prepare(stack, network, PredictConfig(device="cpu", tta="flips"))
