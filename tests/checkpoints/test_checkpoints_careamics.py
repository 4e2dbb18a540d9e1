from __future__ import annotations

import torch
from tiny_networks import lively

from napari_unet import checkpoints
from napari_unet.checkpoints.families.careamics import Careamics
from napari_unet.networks.receptive_field import geometry

TYPICAL = {"ndim": 2, "in_channels": 1, "out_channels": 1, "width": 8, "depth": 2}


def checkpoint(path, module, **data):
    """Write a Lightning file as the source does."""
    state = {f"model.{k}": v for k, v in module.state_dict().items()}
    hyper = {"algorithm_config": {"model": {"architecture": "UNet", "residual": False}}}
    tree = {"state_dict": state, "hyper_parameters": hyper, "epoch": 1}
    if data:
        tree["datamodule_hyper_parameters"] = {"data_config": data}
    torch.save(tree, path)


def test_scales_of_the_training_images_are_used(tmp_path, in_process):
    module = lively(Careamics().build(TYPICAL))
    checkpoint(tmp_path / "a.ckpt", module, image_means=[100.0], image_stds=[10.0])
    network = checkpoints.load(tmp_path / "a.ckpt")
    (rule,) = network.spec.normalization
    assert (rule.kind, round(rule.gain, 4), round(rule.offset, 3)) == (
        "linear", 0.1, -10.0
    )  # fmt: skip
    assert not network.spec.assumed
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        wanted = module(image) * 10 + 100
    torch.testing.assert_close(network(image), wanted, rtol=1e-5, atol=1e-3)


def test_unused_norms_are_found(tmp_path, in_process):
    module = Careamics().build(TYPICAL | {"batch_norm": False})
    checkpoint(tmp_path / "a.ckpt", module)
    network = checkpoints.load(tmp_path / "a.ckpt")
    assert network.spec.architecture["batch_norm"] is False
    assert "normalization" in {a.field for a in network.spec.assumed}


def test_noise2void2_tiles_exactly():
    module = lively(Careamics().build(TYPICAL | {"n2v2": True, "batch_norm": False}))
    lay = geometry(module, 2, 1)
    assert lay.exact
    assert lay.stride == (4, 4)
    image = torch.randn(1, 1, 96, 96)
    with torch.inference_mode():
        whole = module(image)
        pad = -(-max(max(pair) for pair in lay.halo) // 4) * 4
        tile = module(image[..., 32 - pad : 64 + pad, 32 - pad : 64 + pad])
    inner = tile[..., pad : pad + 32, pad : pad + 32]
    if pad <= 32:
        torch.testing.assert_close(inner, whole[..., 32:64, 32:64], rtol=0, atol=1e-5)
    assert pad <= 32
