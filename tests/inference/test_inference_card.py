"""The words of a plan."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.events import Finished, Progress
from napari_unet.images.blank import Blank
from napari_unet.images.stack import ImageStack
from napari_unet.inference import card
from napari_unet.inference.forecast import forecast, iter_forecast

FACTS = {
    "way": "stream",
    "plan": "streamed, 64 pieces: why",
    "pieces": 1064,
    "device": "CPU",
    "device_bytes": 700_000_000,
    "host_bytes": 500_000_000,
    "output_shape": (3, 40, 50),
    "output_bytes": 6000,
    "seconds": 170.0,
}


def test_one_line_says_it_short() -> None:
    text = card.summary(FACTS)
    assert text == "streamed · 1,064 pieces · about 3 min · 1.2 GB of memory"
    short = card.summary(FACTS | {"pieces": 1, "seconds": 0.2, "way": "whole"})
    assert short.startswith("whole frames · 1 piece · about a second")


def test_the_card_has_a_line_for_each_cost() -> None:
    assert card.lines(FACTS) == {
        "way": "streamed, 64 pieces: why",
        "pieces": "1,064",
        "device": "CPU",
        "memory": "700.0 MB for the network, "
        "500.0 MB for pixels on their way and the program",
        "result": "3 x 40 x 50, 6 kB before compression",
        "time": "about 3 min",
    }


@pytest.mark.parametrize(
    ("seconds", "words"), [(42, "42 s"), (5400, "90 min"), (36000, "10.0 h")]
)
def test_times_are_rounded(seconds, words) -> None:
    assert card.lines(FACTS | {"seconds": seconds})["time"] == f"about {words}"


def test_the_words_need_no_torch() -> None:
    script = (
        "import sys, napari_unet.inference.card;"
        "sys.exit(bool({'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_blank_has_the_plan_of_its_image(make_network, noise) -> None:
    pixels, network = noise(3, 90, 70), make_network()
    blank = Blank(pixels.shape, pixels.dtype)
    assert len(pickle.dumps(blank)) < 500
    assert blank[0].strides == (0, 0)
    assert blank[1, :, 3:9].shape == (90, 6)
    config = PredictConfig(device="cpu", tiling="stream")
    plans = [
        forecast(ImageStack(array, "TYX"), network, config) for array in (pixels, blank)
    ]
    assert plans[0].plan == plans[1].plan
    assert plans[0].output_bytes == plans[1].output_bytes


def test_planning_goes_step_by_step(make_network) -> None:
    stack = ImageStack(Blank((64, 64), np.dtype("u1")), "YX")
    events = list(iter_forecast(stack, make_network(), PredictConfig(device="cpu")))
    assert [type(event) for event in events] == [Progress, Progress, Finished]
