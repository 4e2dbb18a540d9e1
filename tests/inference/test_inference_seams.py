from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.images.stack import ImageStack
from napari_unet.inference.seams import seam


def measure(network, image, as_is, **settings):
    config = PredictConfig(device="cpu", **settings)
    return seam(ImageStack(image, "YX"), network, config, scaling=as_is())


@pytest.mark.parametrize("shape", [(150, 170), (64, 300)])
def test_exact_tiles_have_no_seam(make_network, noise, as_is, shape) -> None:
    figure = measure(make_network(), noise(*shape), as_is, tiling="exact", tile=(64,))
    assert figure.maximum < 1e-5
    assert figure.places > 1
    assert "exact tiles" in figure.tiling


def test_abutting_patches_have_a_seam(make_network, noise, as_is) -> None:
    figure = measure(
        make_network(), noise(128, 192), as_is, tiling="blend", tile=(64,), overlap=0
    )
    assert figure.maximum > 1e-3
    assert 0 < figure.mean < figure.maximum


def test_a_whole_frame_has_no_place_to_look_at(make_network, noise, as_is) -> None:
    figure = measure(make_network(), noise(40, 40), as_is)
    assert (figure.maximum, figure.mean, figure.places) == (0, 0, 0)


def test_valid_tiles_have_no_seam(make_network, as_is) -> None:
    image = np.random.default_rng(3).normal(size=(90, 120)).astype(np.float32)
    network = make_network(padding="valid", norm="none")
    figure = measure(network, image, as_is, tiling="exact", tile=(36,))
    assert figure.places > 1
    assert figure.maximum < 1e-5
