"""Stored outputs of published networks, through the whole engine."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from shared import shared

from napari_unet import checkpoints
from napari_unet.config import PredictConfig
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference.predict import predict

pytestmark = pytest.mark.real


load = functools.cache(checkpoints.load)


def predicted(folder, image: np.ndarray, axes: str, **settings) -> np.ndarray:
    config = PredictConfig(kind="logits", device="cpu", **settings)
    network = load(folder)
    *_, finished = predict(ImageStack(image, axes), network, config, ArraySink())
    return finished.result


@pytest.mark.parametrize("tiling", ["auto", "blend"])
def test_an_instance_norm_network_gives_its_stored_output(tiling: str) -> None:
    folder = shared("weights", "bioimageio_fixed_shape")
    image = np.load(folder / "test_input.npy")[0, 0]
    result = predicted(folder, image, "YX", tiling=tiling)
    expected = np.load(folder / "test_output.npy")[0]
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("tile", [None, (152,)])
def test_two_inputs_in_exact_tiles_give_the_stored_outputs(tile) -> None:
    folder = shared("weights", "bioimageio_multi_tensor")
    image = np.concatenate(
        [np.load(folder / f"test_input_{n}.npy")[0] for n in range(2)]
    )
    expected = [np.load(folder / f"test_output_{n}.npy")[0] for n in range(2)]
    result = predicted(folder, image, "CYX", tile=tile)
    np.testing.assert_allclose(result, np.concatenate(expected), atol=1e-5)
