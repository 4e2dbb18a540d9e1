from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.config import PredictConfig
from napari_unet.errors import UsageError
from napari_unet.events import CancelToken, Stopped
from napari_unet.images.stack import ImageStack
from napari_unet.inference.overlapping import bell
from napari_unet.inference.seams import seam
from napari_unet.networks.recipe import Recipe


def measure(network, image, as_is, **settings):
    config = PredictConfig(device="cpu", **settings)
    return seam(ImageStack(image, "YX"), network, config, scaling=as_is())


@pytest.mark.parametrize("shape", [(150, 170), (64, 300)])
def test_exact_tiles_have_no_seam(make_network, noise, as_is, shape) -> None:
    figure = measure(make_network(), noise(*shape), as_is, tiling="exact", tile=(64,))
    assert figure.maximum < 1e-5
    assert figure.flips == 0
    assert figure.places > 1
    assert "exact tiles" in figure.tiling


def test_abutting_patches_have_a_seam(make_network, noise, as_is) -> None:
    figure = measure(
        make_network(), noise(128, 192), as_is, tiling="blend", tile=(64,), overlap=0
    )
    assert figure.maximum > 1e-3
    assert 0 < figure.mean < figure.maximum
    assert 0 <= figure.flips <= 1


def test_a_whole_frame_has_no_place_to_look_at(make_network, noise, as_is) -> None:
    figure = measure(make_network(), noise(40, 40), as_is)
    assert (figure.maximum, figure.mean, figure.places) == (0, 0, 0)


def test_valid_tiles_have_no_seam(make_network, as_is) -> None:
    image = np.random.default_rng(3).normal(size=(90, 120)).astype(np.float32)
    network = make_network(padding="valid", norm="none")
    figure = measure(network, image, as_is, tiling="exact", tile=(36,))
    assert figure.places > 1
    assert figure.maximum < 1e-5


def blended(network, image, starts, window) -> np.ndarray:
    """Sum patches of 64 pixels over a count map, probabilities."""
    weight = np.multiply.outer(bell(window, 64), bell(window, 64))
    total, count = np.zeros((2, *image.shape)), np.zeros(image.shape)
    for y in starts[0]:
        for x in starts[1]:
            patch = image[y : y + 64, x : x + 64].copy()
            with torch.inference_mode():
                logits = network.module(torch.from_numpy(patch)[None, None])[0].numpy()
            total[:, y : y + 64, x : x + 64] += logits * weight
            count[y : y + 64, x : x + 64] += weight
    return torch.from_numpy(total / count).softmax(0).numpy()


@pytest.mark.parametrize("window", ["gaussian", "hann", "linear"])
def test_two_phases_of_patches_are_compared(make_network, noise, as_is, window) -> None:
    """Patches of 64 that overlap by a half, and the same ones half a step on."""
    network, image = make_network(norm="instance"), noise(128, 160)
    settings = {"tiling": "blend", "tile": (64,), "overlap": 0.5, "window": window}
    figure = measure(network, image, as_is, **settings)
    starts = [[0, 32, 64], [0, 32, 64, 96]]
    half = [[0, 16, 48, 64], [0, 16, 48, 80, 96]]
    one, other = (blended(network, image, s, window) for s in (starts, half))
    places = [
        (slice(y - 16, y + 16), slice(x - 16, x + 16))
        for y, x in [(48, 48), (80, 80), (80, 112)]
    ]
    apart = [np.abs(one - other)[(slice(None), *p)] for p in places]
    flips = [(one.argmax(0) != other.argmax(0))[p] for p in places]
    assert figure.places == 3
    np.testing.assert_allclose(figure.maximum, np.max(apart), atol=1e-5)
    np.testing.assert_allclose(figure.mean, np.mean(apart), atol=1e-5)
    np.testing.assert_allclose(figure.flips, np.mean(flips), atol=1e-3)


def test_a_network_that_restores_has_no_labels(make_network, noise, as_is) -> None:
    network = make_network(task="restoration", activation="none")
    figure = measure(network, noise(150, 170), as_is, tiling="exact", tile=(64,))
    assert figure.flips is None
    assert figure.maximum < 1e-5


def test_test_time_augmentation_is_left_out(make_network, noise, as_is) -> None:
    settings = {"tiling": "blend", "tile": (64,), "overlap": 0}
    figures = [
        measure(make_network(), noise(128, 192), as_is, **settings, tta=tta)
        for tta in ("none", "rotations")
    ]
    assert figures[0] == figures[1]


def test_a_model_with_its_own_patches_is_refused(make_network, noise, as_is) -> None:
    network = make_network()
    own = Recipe(patch=(32, 32))
    network.spec = network.spec.model_copy(update={"recipe": own})
    with pytest.raises(UsageError, match="no seam"):
        measure(network, noise(64, 64), as_is)


def test_it_can_be_stopped(make_network, noise, as_is) -> None:
    cancel = CancelToken()
    cancel.set()
    config = PredictConfig(device="cpu", tiling="blend", tile=(64,))
    stack = ImageStack(noise(128, 128), "YX")
    with pytest.raises(Stopped):
        seam(stack, make_network(), config, scaling=as_is(), cancel=cancel)
