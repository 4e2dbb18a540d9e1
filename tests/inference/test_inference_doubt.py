"""Doubt is where looks are undecided or differ; spots are ranked and spaced apart."""

import numpy as np
import pytest
import torch

from napari_unet import api
from napari_unet.config import PredictConfig
from napari_unet.errors import UsageError
from napari_unet.events import Cancelled, CancelToken
from napari_unet.images.stack import ImageStack
from napari_unet.images.views import Flipped
from napari_unet.inference.doubt import doubt_of, rank, where_next
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec


class Ramp(torch.nn.Module):
    """Logit of the second class is the intensity of the pixel to the left."""

    def __init__(self, shift=0):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)
        torch.nn.init.zeros_(self.conv.weight)
        torch.nn.init.zeros_(self.conv.bias)
        self.conv.weight.data[1, 0, 1, 1 - shift] = 1

    def forward(self, image):
        return self.conv(image)


def network(shift=0, **fields):
    spec = {"ndim": 2, "in_channels": 1, "out_channels": 2} | fields
    none = [{"kind": "none"}]
    return Network(Ramp(shift), ModelSpec(**{"normalization": none, **spec}))


def test_doubt_by_hand():
    looks = np.array([[0.9, 0.6, 1.0], [0.1, 0.4, 0.0]])[None]
    other = np.array([[0.9, 0.6, 0.0], [0.1, 0.4, 1.0]])[None]
    doubt, apart = doubt_of(np.concatenate([looks, other]))
    np.testing.assert_allclose(doubt, [0.2, 0.8, 1.0], atol=1e-6)
    np.testing.assert_allclose(apart, [0, 0, 0.5], atol=1e-6)


def test_the_network_is_least_sure_where_its_logits_are_even():
    image = np.full((64, 96), 8.0, np.float32)
    image[10:14, 20:24] = image[50:54, 70:74] = 0
    image[30:34, 50:54] = 1
    found = api.where_next(image, network(), device="cpu")
    assert found.axes == "YX"
    p = 1 / (1 + np.exp(-image))
    np.testing.assert_allclose(found.doubt, 1 - np.abs(2 * p - 1), atol=1e-5)
    # All looks of a network that sees single pixels are the same.
    assert found.disagreement.max() < 1e-6
    places = [(s.place["Y"], s.place["X"]) for s in found.spots]
    for place, middle in zip(
        sorted(places[:2]), [(11.5, 21.5), (51.5, 71.5)], strict=True
    ):
        assert np.abs(np.subtract(place, middle)).max() < 1
    assert abs(places[2][0] - 32) < 3
    assert [s.doubt for s in found.spots] == sorted(
        (s.doubt for s in found.spots), reverse=True
    )


def test_looks_that_differ_are_told():
    image = np.full((32, 32), -8.0, np.float32)
    image[:, 16:] = 8
    doubt, still = (
        api.where_next(image, network(shift), device="cpu") for shift in (1, 0)
    )
    # The mirrored network looks to the right, so the column left of the edge differs.
    assert doubt.disagreement[5, 15:17].max() > 0.4
    assert doubt.doubt[5, 15:17].max() > 0.9
    assert still.disagreement.max() < 1e-6


def test_a_region_gives_the_values_of_the_whole_and_places_in_the_image():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(3, 40, 48)).astype(np.float32)
    stack = ImageStack(image, "ZYX")
    config = PredictConfig(device="cpu", normalize="none")
    whole, part = (
        [*where_next(stack, network(1), config, region=region)][-1].result
        for region in (None, {"Z": 1, "X": slice(10, 48)})
    )
    assert part.doubt.shape == (1, 40, 38)
    np.testing.assert_allclose(part.doubt, whole.doubt[1:2, :, 10:], atol=1e-6)
    assert all(s.place["Z"] == 1 and s.place["X"] >= 10 for s in part.spots)


def test_spots_keep_off_paint_and_apart():
    doubt = np.random.default_rng(0).random((100, 160)).astype(np.float32)
    spots = rank(doubt, "YX", 8)
    places = np.array([[s.place["Y"], s.place["X"]] for s in spots])
    apart = np.abs(places[:, None] - places[None]).max(-1) + 999 * np.eye(8)
    assert apart.min() >= 20
    image = np.zeros((64, 64), np.float32)
    strokes = np.zeros(image.shape, np.uint8)
    strokes[:, :40] = 1
    found = api.where_next(image, network(), strokes=strokes, device="cpu")
    assert all(s.place["X"] > 50 for s in found.spots)
    strokes[:] = 1
    assert api.where_next(image, network(), strokes=strokes, device="cpu").spots == ()


def test_interior_against_boundary_is_no_doubt():
    class Even(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 3, 1)
            torch.nn.init.zeros_(self.conv.weight)
            self.conv.bias.data = torch.tensor([-9.0, 3.0, 3.0])

        def forward(self, image):
            return self.conv(image)

    spec = ModelSpec(ndim=2, in_channels=1, out_channels=3, task="instances")
    image = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    found = api.where_next(image, Network(Even(), spec), device="cpu")
    assert found.doubt.max() < 1e-3


def test_networks_without_classes_are_refused():
    image = np.zeros((32, 32), np.float32)
    with pytest.raises(UsageError, match="no classes"):
        api.where_next(image, network(task="restoration", activation="none"))


def test_it_can_be_stopped():
    token = CancelToken()
    token.set()
    stack = ImageStack(np.zeros((32, 32), np.float32), "YX")
    events = [*where_next(stack, network(), PredictConfig(device="cpu"), cancel=token)]
    assert isinstance(events[-1], Cancelled)


def test_a_mirror_image_reads_like_numpy():
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    seen, want = Flipped(array, [1, 2]), array[:, ::-1, ::-1]
    assert seen.shape == array.shape
    for index in [(2,), (slice(1, 3), 4), (0, slice(1, 4), slice(0, 2)), (..., 5)]:
        np.testing.assert_array_equal(seen[index], want[index])
