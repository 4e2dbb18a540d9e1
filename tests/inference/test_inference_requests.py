"""Requests for a region to a process that predicts a whole stack."""

import threading

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.events import Cancelled, Finished, Progress
from napari_unet.execution.child_process import Child
from napari_unet.execution.protocol import Failed
from napari_unet.images.source import ImageSource
from napari_unet.samples import sample

CONFIG = PredictConfig(kind="probabilities", device="cpu", tiling="exact", tile=(64,))
TARGET = "napari_unet.api:iter_predict"


@pytest.fixture(scope="module")
def child():
    with Child(stop_after=20.0) as child:
        yield child


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "cells.npy"
    np.save(path, np.random.default_rng(0).integers(0, 900, (12, 200, 180), np.uint16))
    return ImageSource(str(path), axes="TYX")


class Run:
    """One job over the image, whole or in part."""

    def __init__(self, child, image, output, region=None):
        self.output, self.events, self.region = output, [], region
        self.moving = threading.Event()
        self.handle = child.run(
            TARGET,
            image,
            str(sample("nuclei.safetensors")),
            str(output),
            CONFIG,
            region=region,
            on_event=self._take,
            turn="usual" if region is None else "first",
            previews=False,
        )

    def _take(self, event):
        self.events.append(event)
        if isinstance(event, Progress):
            self.moving.set()

    def wait(self):
        assert self.handle.wait(120)
        return self.events[-1]


def box(number):
    y, x = 13 * number % 100, 29 * number % 90
    return {
        "T": slice(number, number + 1),
        "Y": slice(y, y + 80),
        "X": slice(x, x + 70),
    }


def test_the_run_is_the_same_and_parts_have_its_values(child, image, tmp_path):
    early = Run(child, image, tmp_path / "early.npy", box(3))
    assert isinstance(early.wait(), Finished)
    alone = Run(child, image, tmp_path / "alone.npy")
    assert isinstance(alone.wait(), Finished)
    main = Run(child, image, tmp_path / "main.npy")
    assert main.moving.wait(60)
    parts = [early]
    for number in range(4):
        parts.append(Run(child, image, tmp_path / f"{number}.npy", box(number)))
        parts[-1].wait()
    hasty = [Run(child, image, tmp_path / f"h{n}.npy", box(n)) for n in range(5, 9)]
    assert isinstance(hasty[-1].wait(), Finished)
    during = not main.handle.done
    assert isinstance(main.wait(), Finished)
    assert during, "the run was over before its parts"
    assert main.output.read_bytes() == alone.output.read_bytes()
    whole = np.load(alone.output)
    for part in [*parts, hasty[-1]]:
        t, y, x = part.region.values()
        found, expected = np.load(part.output), whole[t, :, y, x]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    for run in hasty[:-1]:
        assert isinstance(run.wait(), Cancelled | Finished)
        assert isinstance(run.events[-1], Finished) == run.output.exists()
    assert any(isinstance(run.events[-1], Cancelled) for run in hasty)


def test_a_wrong_region_costs_the_run_nothing(child, image, tmp_path):
    main = Run(child, image, tmp_path / "main.npy")
    assert main.moving.wait(60)
    wrong = Run(child, image, tmp_path / "wrong.npy", {"Y": slice(100, 900)})
    error = Run(child, image, tmp_path / "none.npy", {"Q": 1}).wait()
    assert isinstance(wrong.wait(), Failed | Cancelled | Finished)
    assert isinstance(error, Failed)
    assert "The region cannot be used" in str(error.error)
    assert isinstance(main.wait(), Finished)


def test_stop_leaves_neither_result(child, image, tmp_path):
    main = Run(child, image, tmp_path / "main.npy")
    assert main.moving.wait(60)
    part = Run(child, image, tmp_path / "part.npy", {"T": slice(0, 12)})
    assert part.moving.wait(60)
    main.handle.cancel()
    assert isinstance(main.wait(), Cancelled)
    assert isinstance(part.wait(), Cancelled)
    kept = [path.suffix for path in tmp_path.iterdir()]
    assert kept in ([], [".journal"])  # of the main run, which may go on
