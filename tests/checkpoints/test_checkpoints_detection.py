from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import torch
from tiny_networks import lively, unet

from napari_unet.checkpoints.detection import detect
from napari_unet.cli import main
from napari_unet.errors import UsageError
from napari_unet.images.intensity import Normalization, measure
from napari_unet.images.readers import open_image


def image(seed, dtype="uint16"):
    """Bright discs on a dim, noisy ground."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    pixels = draw.normal(300, 30, (96, 96))
    for cy, cx in draw.integers(10, 86, (12, 2)):
        pixels[(y - cy) ** 2 + (x - cx) ** 2 < 60] += draw.uniform(500, 3000)
    top = 255 if dtype == "uint8" else 65535
    scaled = pixels / 16 if dtype == "uint8" else pixels
    return scaled.clip(0, top).astype(dtype)


def remember(network, scaling, pixels):
    """Let the batch norms see images as in training."""
    module = network.module.train()
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    with torch.inference_mode():
        for one in pixels:
            stack = open_image(one, axes="YX")
            scaled = measure(stack, [scaling]).apply(one[None])
            module(torch.from_numpy(scaled)[None])
    module.eval()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["zscore", "minmax", "percentile", "none", "linear"])
def test_the_scaling_of_the_training_is_found(kind, dtype):
    network = unet()
    gain = 1 / np.iinfo(dtype).max if kind == "linear" else 1.0
    rule = Normalization(kind=kind, gain=gain)
    remember(network, rule, [image(seed, dtype) for seed in range(6)])
    new = image(99, dtype)
    guesses = detect(network, open_image(new, axes="YX"))
    place = [g.normalization for g in guesses].index(rule)
    if kind in ("zscore", "none"):
        assert place == 0
    else:  # those to about [0, 1] are much alike
        assert guesses[place].distance < 0.15
    assert guesses[-1].distance > 10 * guesses[place].distance


def test_on_the_command_line(tmp_path, in_process, capsys):
    network = unet()
    remember(network, Normalization(kind="zscore"), [image(n) for n in range(4)])
    torch.save(network.module.state_dict(), tmp_path / "net.pth")
    tifffile.imwrite(tmp_path / "a.tif", image(9), metadata={"axes": "YX"})
    wish = ["inspect", str(tmp_path / "net.pth"), "--image", str(tmp_path / "a.tif")]
    assert main([*wish, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["normalization_fits"][0]
    assert first["kind"] == "zscore"
    assert main(wish) == 0
    assert "zscore: distance" in capsys.readouterr().out


def test_an_image_that_does_not_fit():
    with pytest.raises(UsageError, match="does not fit"):
        detect(unet(in_channels=3), open_image(image(1), axes="YX"))


def test_without_batch_norm_nothing_is_claimed():
    network = unet(norm="none")
    lively(network.module)
    new = image(1)
    with pytest.raises(UsageError, match="does not tell how its images were scaled"):
        detect(network, open_image(new, axes="YX"))
