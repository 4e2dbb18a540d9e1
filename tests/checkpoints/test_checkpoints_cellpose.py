"""cellpose: what is read beside the weights, and its newer networks."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import lively

from napari_unet import checkpoints
from napari_unet.checkpoints.families import by_name

pytestmark = pytest.mark.usefixtures("in_process")


def saved(path, **architecture):
    module = lively(by_name("cellpose").build({"widths": [2, 4, 8], **architecture}))
    state = module.state_dict()
    state["diam_mean"], state["diam_labels"] = torch.tensor([30.0]), torch.ones(1) * 17
    torch.save(state, path)
    return module


def test_sizes_of_objects_are_kept_and_said(tmp_path):
    saved(tmp_path / "cyto3")
    network = checkpoints.load(tmp_path / "cyto3")
    assert network.spec.architecture["diam_mean"] == 30
    assert network.spec.architecture["diam_labels"] == 17
    assert network.spec.task == "flows"
    scaling = next(a for a in network.spec.assumed if a.field == "normalization")
    assert "30 pixels across" in scaling.reason
    assert (scaling.value[0]["low"], scaling.value[0]["high"]) == (1, 99)
    assert not network.geometry.exact  # the style is a mean over the whole patch


def test_other_outputs_are_images(tmp_path):
    saved(tmp_path / "denoise", out_channels=1)
    assert checkpoints.load(tmp_path / "denoise").spec.task == "restoration"
