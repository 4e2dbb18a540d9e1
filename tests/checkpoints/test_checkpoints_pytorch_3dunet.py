"""pytorch-3dunet: its configuration, what is assumed without it, exact tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny_networks import lively
from zoo.opened import open_with
from zoo.stored_cases import cases

from napari_unet import checkpoints
from napari_unet.checkpoints.families import by_name
from napari_unet.checkpoints.families.base import Shapes
from napari_unet.errors import ModelError
from napari_unet.networks.receptive_field import geometry

pytestmark = pytest.mark.usefixtures("in_process")

FAMILY = by_name("pytorch_3dunet")
STORED = {case.name: case for case in cases("pytorch3dunet")}
SMALL = {"ndim": 2, "in_channels": 1, "out_channels": 2, "widths": [8, 16]}
STANDARDIZE = {"name": "Standardize"}


def built(**changes):
    return lively(FAMILY.build({**SMALL, **changes}))


def folder(tmp_path, module, model, *steps):
    """Write what pytorch-3dunet leaves behind: weights, a numpy score, the YAML."""
    saved = {
        "model_state_dict": module.state_dict(),
        "best_eval_score": np.float32(0.5),
        "optimizer_state_dict": {"state": {}},
    }
    torch.save(saved, tmp_path / "best_checkpoint.pytorch")
    raw = [*steps, {"name": "ToTensor", "expand_dims": True}]
    loaders = {"val": {"transformer": {"raw": raw}}}
    config = {"model": model, "loaders": loaders}
    (tmp_path / "config_train.yml").write_text(yaml.safe_dump(config))
    return tmp_path


def model(**changes):
    return {"name": "UNet2D", "in_channels": 1, "out_channels": 2, **changes}


@pytest.mark.parametrize("where", ["folder", "weights"])
def test_configuration_leaves_nothing_open(tmp_path, where):
    module = built(order="cge", groups=4)
    told = model(layer_order="cge", num_groups=4, final_sigmoid=False)
    path = folder(tmp_path, module, told, STANDARDIZE)
    network = checkpoints.load(
        path if where == "folder" else path / "best_checkpoint.pytorch"
    )
    assert network.spec.assumed == ()
    assert network.spec.activation == "softmax"
    assert network.spec.normalization[0].kind == "zscore"
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(network.module(image), module(image))


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        (
            {"name": "Normalize", "min_value": 100, "max_value": 300, "norm01": True},
            {"kind": "linear", "gain": 1 / 200, "offset": -0.5, "clip": True},
        ),
        (
            {"name": "PercentileNormalizer", "pmin": 2, "channelwise": True},
            {"kind": "percentile", "low": 2, "high": 99.6, "joint": False},
        ),
        (
            {"name": "Standardize", "mean": 10.0, "std": 2.0},
            {"kind": "linear", "gain": 0.5, "offset": -5.0},
        ),
    ],
)
def test_scaling_is_that_of_the_loaders(tmp_path, step, wanted):
    network = checkpoints.load(folder(tmp_path, built(), model(), step))
    found = network.spec.normalization[0].model_dump()
    assert {key: found[key] for key in wanted} == wanted


def test_scaling_that_is_not_done_is_noted_and_left_open(tmp_path):
    path = folder(tmp_path, built(), model(), {"name": "Normalize"})
    spec = checkpoints.load(path).spec
    assert any("Normalize" in note for note in spec.provenance["notes"])
    assert [a.field for a in spec.assumed] == ["normalization"]


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (model(conv_padding=0), "conv_padding 0"),
        (model(name="UNetR"), "UNetR"),
    ],
)
def test_settings_that_are_not_built_are_refused(tmp_path, told, found):
    with pytest.raises(ModelError, match=found):
        checkpoints.load(folder(tmp_path, built(), told))


def test_a_configuration_of_something_else_does_not_hinder(tmp_path):
    path = folder(tmp_path, built(), model())
    (path / "config_train.yml").write_text("learning_rate: 0.1")
    network = checkpoints.load(path / "best_checkpoint.pytorch")
    assert network.spec.family == "pytorch_3dunet"
    assert "architecture.order" in {a.field for a in network.spec.assumed}


def test_order_that_sorted_names_hide_is_listed(tmp_path):
    module = built(block="residual", upsampling="deconv", joining="sum", order="cge")
    save_file(module.state_dict(), tmp_path / "net.safetensors")
    spec = checkpoints.load(tmp_path / "net.safetensors").spec
    fact = next(a for a in spec.assumed if a.field == "architecture.order")
    assert "cge" in fact.alternatives
    assert "gcr" in (fact.value, *fact.alternatives)


def test_norms_that_saw_relu_tell_its_place():
    module = built(order="crb")
    for name, tensor in module.state_dict().items():
        if name.endswith("running_mean"):
            tensor.abs_()
    inferred = FAMILY.infer(Shapes(module.state_dict()), {})
    assert inferred.architecture["order"] == "crb"


@pytest.mark.parametrize("joining", ["sum", "concat"])
def test_older_residual_networks_are_told_apart(joining):
    made = {
        **{"block": "residual", "first": "block", "upsampling": "deconv_to_size"},
        **{"joining": joining, "order": "cge"},
    }
    module = built(**made)
    assert "decoders.0.upsampling.upsample.bias" in module.state_dict()
    assert "encoders.0.basic_module.conv1.conv.weight" in module.state_dict()
    found = FAMILY.infer(Shapes(module.state_dict()), {}).architecture
    assert {key: found[key] for key in made} == made
    assert module(torch.zeros(1, 1, 16, 24)).shape == (1, 2, 16, 24)


@pytest.mark.parametrize(
    "name", ["unet2d-bcr", "unet2d-cl", "unet3d-linear", "unet2d-deconv-odd"]
)
def test_tiles_give_the_whole_image(name):
    """A piece with its halo gives what the whole image gives there."""
    case = STORED[name]
    made = open_with(case, case.facts["settings"]).spec.architecture
    module = lively(FAMILY.build({**made, "order": "bcr", "ndim": 2}))
    lay = geometry(module, 2, 1)
    assert lay.exact
    image = torch.randn(1, 1, 128, 128)
    (before, after), stride = lay.halo[1], lay.stride[1]
    left = -(-before // stride) * stride
    right = -(-after // stride) * stride
    start, stop = left + stride, left + stride + 16
    piece = image[..., start - left : stop + right]
    with torch.inference_mode():
        whole = module(image)[..., start:stop]
        part = module(piece)[..., left : left + 16]
    assert stop + right < 128
    assert (part - whole).abs().max() <= 1e-5 * whole.abs().max()
