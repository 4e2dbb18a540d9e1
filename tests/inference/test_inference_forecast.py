from __future__ import annotations

import math

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.errors import ModelError
from napari_unet.events import Started
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference.forecast import forecast
from napari_unet.inference.predict import predict


@pytest.mark.parametrize("tiling", ["auto", "whole", "stream", "exact", "blend"])
def test_it_tells_what_the_run_then_does(make_network, noise, as_is, tiling) -> None:
    stack, network = ImageStack(noise(3, 90, 70), "TYX"), make_network(out_channels=3)
    config = PredictConfig(kind="probabilities", device="cpu", tiling=tiling)
    told = forecast(stack, network, config)
    events = list(predict(stack, network, config, ArraySink(), scaling=as_is()))
    started = next(e for e in events if isinstance(e, Started))
    assert told.plan in started.title
    assert told.pieces == started.total
    result = events[-1].result
    assert told.output_shape == result.shape
    assert told.output_bytes == result.nbytes
    assert told.device == "CPU, " + told.device.removeprefix("CPU, ")
    assert 0 < told.seconds < 60
    assert told.device_bytes > 0


def test_a_part_is_planned_as_a_part(make_network, noise) -> None:
    stack, config = ImageStack(noise(90, 70), "YX"), PredictConfig(device="cpu")
    told = forecast(stack, make_network(), config, {"Y": slice(3, 20), "X": 5})
    assert told.output_shape == (17,)
    assert "only a part is wanted" in told.plan


def test_no_pixel_is_read(make_network) -> None:
    class Never(np.ndarray):
        def __getitem__(self, key):
            raise AssertionError("read")

    pixels = np.zeros((64, 64), np.float32).view(Never)
    told = forecast(
        ImageStack(pixels, "YX"), make_network(), PredictConfig(device="cpu")
    )
    assert math.prod(told.output_shape) == 64 * 64


def test_what_does_not_fit_is_refused_as_in_the_run(make_network, noise) -> None:
    with pytest.raises(ModelError, match="differ in their channels"):
        forecast(
            ImageStack(noise(2, 64, 64), "CYX"),
            make_network(),
            PredictConfig(device="cpu"),
        )
