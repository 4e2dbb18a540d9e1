"""A batch that is killed inside a stack goes on inside that stack."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from snapshots import snapshot

from napari_unet import api, checkpoints
from napari_unet.config import BatchConfig
from napari_unet.events import Cancelled, CancelToken, Finished, Progress, Warned
from napari_unet.files import digest
from napari_unet.images.intensity import Normalization
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

GOES_ON = "An earlier run goes on"
LOCKS = ".unet-locks"  # the process that holds them here is alive


@pytest.fixture
def start(tmp_path):
    """Return what starts a batch of three stacks into a folder."""
    torch.manual_seed(0)
    shape = UNetSpec(widths=(4, 8))
    spec = ModelSpec(
        ndim=2, in_channels=1, out_channels=2,
        architecture=shape.model_dump(mode="json"),
        normalization=(Normalization(kind="zscore"),),
    )  # fmt: skip
    model = tmp_path / "net.safetensors"
    checkpoints.save(Network(UNet(shape), spec), model)
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        pixels = rng.integers(0, 999, (2, 100, 90), np.uint16)
        path = tmp_path / "in" / f"{name}.tif"
        tifffile.imwrite(path, pixels, photometric="minisblack")
    config = BatchConfig(device="cpu", tiling="exact", tile=(48, 48), axes="TYX")

    def start(folder, cancel=None, **settings):
        inputs = [tmp_path / "in"]
        network = checkpoints.load(model)  # in this process, event for event
        asked = config.model_copy(update=settings)
        return api.iter_batch(inputs, network, folder, asked, cancel=cancel)

    return start


def results(folder) -> dict[str, str]:
    """Hash of all files but the ledger and its reports, hidden ones too."""
    files = [p for p in folder.iterdir() if not p.name.startswith("unet-")]
    return {p.name: digest(p) for p in files}


def told(events) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


def test_killed_inside_a_stack(start, tmp_path) -> None:
    """The folder as it is in the middle of the second stack, at any tile."""
    copies = []
    for event in start(tmp_path / "out"):
        if isinstance(event, Progress) and event.done % 1 and int(event.done) == 1:
            copies.append(tmp_path / f"out{len(copies)}")
            snapshot(tmp_path / "out", copies[-1], without=(LOCKS,))
    wanted = results(tmp_path / "out")
    assert sorted(wanted) == ["a.ome.tif", "b.ome.tif", "c.ome.tif"]
    assert len(copies) > 5
    for number, copy in enumerate(copies[:-1]):
        assert not (copy / "b.ome.tif").exists()
        events = list(start(copy))
        assert any(GOES_ON in text for text in told(events)), number
        assert results(copy) == wanted
        summary = events[-1].result
        assert [item.status for item in summary.items] == ["skipped", "done", "done"]


def test_killed_while_probabilities_are_written_too(start, tmp_path) -> None:
    """Labels and probabilities both go on, to the last bit."""
    copies = []
    for event in start(tmp_path / "out", probabilities=True):
        if isinstance(event, Progress) and event.done % 1 and int(event.done) == 1:
            copies.append(tmp_path / f"out{len(copies)}")
            snapshot(tmp_path / "out", copies[-1], without=(LOCKS,))
    wanted = results(tmp_path / "out")
    assert len(wanted) == 6
    for copy in copies[1:-1:4]:
        events = list(start(copy, probabilities=True))
        assert any(GOES_ON in text for text in told(events))
        assert results(copy) == wanted
    text = "An earlier run is begun anew, since the settings changed."
    events = list(start(copies[2]))  # whose journal holds more than is wanted now
    assert any(text in message for message in told(events))
    labels = {name: wanted[name] for name in ("a.ome.tif", "b.ome.tif", "c.ome.tif")}
    assert results(copies[2]).items() >= labels.items()
    assert not any("part" in name for name in results(copies[2]))


def test_stopped_inside_a_stack(start, tmp_path) -> None:
    token = CancelToken()
    for event in start(tmp_path / "out", token):
        if isinstance(event, Progress) and 1.2 < event.done < 2:
            token.set()
    assert isinstance(event, Cancelled)
    assert len([p for p in (tmp_path / "out").iterdir() if "journal" in p.name]) == 1
    events = list(start(tmp_path / "out"))
    assert isinstance(events[-1], Finished)
    assert any(GOES_ON in text for text in told(events))
    list(start(tmp_path / "whole"))
    assert results(tmp_path / "out") == results(tmp_path / "whole")
