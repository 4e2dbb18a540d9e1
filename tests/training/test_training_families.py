"""Networks of every family learn from strokes and go back to their own programs."""

import numpy as np
import pytest
import torch
from training_images import example, quick
from zoo.typical import of_family

from napari_unet import checkpoints
from napari_unet.checkpoints import formats, weights
from napari_unet.checkpoints.exports import export
from napari_unet.checkpoints.families import FAMILIES
from napari_unet.checkpoints.probe import probe
from napari_unet.config import ExportConfig
from napari_unet.errors import ModelError
from napari_unet.training import plan
from napari_unet.training.finetune import finetune


def painted(network):
    """An image that fits a network, with two classes painted."""
    ndim, channels = network.spec.ndim, network.spec.in_channels
    rng = np.random.default_rng(0)
    image = rng.normal(size=(channels, *(64,) * ndim)).astype(np.float32)
    strokes = np.zeros(image.shape[1:], np.uint8)
    strokes[..., 20:24, 8:40], strokes[..., 40:44, 8:40] = 1, 2
    return example(image, strokes, "C" + "ZYX"[-ndim:])


TAUGHT_OTHERWISE = {"careamics", "fastmri", "topaz", "cellpose"}
"""Denoising and flows: no strokes can tell their targets."""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_a_family_learns_and_goes_back(family, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "read_foreign", formats.read)
    monkeypatch.setattr(plan, "_STROKE_PIXELS", {2: 0, 3: 0})  # two patches a step
    network = of_family(family)
    path = tmp_path / "round.safetensors"
    config = quick(patch=(32,), strokes="classes", depth=None, width=None, max_steps=2)
    if family.name in TAUGHT_OTHERWISE:
        with pytest.raises(ModelError, match="cannot learn from strokes"):
            list(finetune([painted(network)], network, config, path))
        return
    list(finetune([painted(network)], network, config, path))
    learned = checkpoints.load(path)
    before = network.module.state_dict()
    after = learned.module.state_dict()
    assert list(after) == list(before)
    assert all(torch.isfinite(t).all() for t in after.values())
    assert any(not torch.equal(t, before[name]) for name, t in after.items())
    assert learned.spec.normalization == network.spec.normalization
    if family.is_graph:
        with pytest.raises(ModelError):  # no library's names
            export(learned, tmp_path / "net.pth", ExportConfig(to="state-dict"))
        return
    export(learned, tmp_path / "net.pth", ExportConfig(to="state-dict"))
    again = checkpoints.load(tmp_path / "net.pth")
    assert again.spec.family == family.name
    assert probe(learned).difference(again.module) == 0
