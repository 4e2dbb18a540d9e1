from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from zoo.stored_cases import cases

from napari_unet import checkpoints
from napari_unet.checkpoints.draft import Draft, finish
from napari_unet.checkpoints.unwrap import Found
from napari_unet.errors import ModelError
from napari_unet.networks.receptive_field import geometry

pytestmark = pytest.mark.usefixtures("in_process")

CASES = {case.name: case for case in cases("monai")}


def opened(state, **told):
    draft = Draft(Path("net.pth"), "PyTorch file", Found(dict(state)), ["0" * 64])
    draft.told = {"architecture": told} if told else {}
    return finish(draft)


def difference(case, network):
    with torch.inference_mode():
        return case.difference(network.module(case.image))


def assumed(network):
    return {a.field.removeprefix("architecture."): a for a in network.spec.assumed}


@pytest.mark.parametrize("name", ["unet-res2-batch", "unet-adn-res", "unet-and-batch"])
def test_names_of_monai_before_0_4(name):
    case = CASES[name]
    old = {
        k.replace("adn.N.", "norm.").replace("adn.A.", "act."): t
        for k, t in case.state.items()
    }
    assert old.keys() != case.state.keys()
    assert difference(case, opened(old)) <= 1e-5


def test_the_order_of_norm_and_activation_is_open_once_names_are_sorted(tmp_path):
    case = CASES["unet-and-batch"]
    assert "order" not in assumed(opened(case.state))
    save_file(case.state, tmp_path / "net.safetensors")
    network = checkpoints.load(tmp_path / "net.safetensors")
    assert assumed(network)["order"].alternatives == ("AND",)
    checkpoints.tell(tmp_path / "net.safetensors", {"architecture.order": "AND"})
    told = checkpoints.load(tmp_path / "net.safetensors")
    assert difference(case, network) > 1e-3
    assert difference(case, told) <= 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_names_in_any_order_tell_nothing_about_norm_and_activation(seed):
    keys = sorted(CASES["unet-and-batch"].state)
    random.Random(seed).shuffle(keys)
    state = CASES["unet-and-batch"].state
    assert "order" in assumed(opened({k: state[k] for k in keys}))


def test_means_without_a_negative_one_show_that_the_norm_follows_a_relu():
    state = CASES["unet-relu"].state
    before = opened(state)
    after = opened({k: t.abs() if "mean" in k else t for k, t in state.items()})
    assert before.spec.architecture["order"] == "NDA"
    assert after.spec.architecture["order"] == "AND"


def test_residual_convolutions_show_which_levels_have_a_stride():
    network = opened(CASES["unet-res2-stride-one"].state)
    assert network.spec.architecture["strides"] == [[1, 1], [2, 2]]
    assert "strides" in assumed(network)


@pytest.mark.parametrize("kept", ["flat", "twin"])
@pytest.mark.parametrize("name", [n for n in CASES if n.startswith("dynunet")])
def test_dynunet_with_each_tensor_under_one_name(name, kept):
    case = CASES[name]
    state = {
        k: t
        for k, t in case.state.items()
        if k.startswith("output_block.")
        or k.startswith("skip_layers.") == (kept == "twin")
    }
    assert len(state) < len(case.state)
    assert difference(case, opened(state, **case.facts["settings"])) <= 1e-5


def test_a_wrong_stride_gives_another_output():
    case = CASES["unet-plain-strides"]
    assert difference(case, opened(case.state)) > 1e-3
    with pytest.raises(ModelError, match="cannot be used"):
        opened(case.state, strides=[[2, 2], [2, 2]])


@pytest.mark.parametrize(
    "name",
    [
        *("unet-res2-batch", "unet-plain-batch", "basic_unet-3d", "dynunet-biased"),
        *("segresnet-batch", "dynunet-anisotropic-res", "basic_unet-shuffle"),
        "basic_unet-shuffle-3d",
    ],
)
def test_batch_norm_networks_are_computed_exactly_in_tiles(name):
    network = opened(CASES[name].state)
    spec = network.spec
    found = geometry(network.module, spec.ndim, spec.in_channels)
    assert found.exact, found.reason


def test_a_tile_with_its_halo_gives_the_output_of_the_whole_image():
    network = opened(CASES["basic_unet-shuffle"].state)
    found = geometry(network.module, 2, 2)
    stride, (before, after) = found.stride[1], found.halo[1]
    before, after = (-(-n // stride) * stride for n in (before, after))
    image = torch.randn(1, 2, 32, before + 2 * stride + after + 6 * stride)
    start, stop = before + 3 * stride, before + 5 * stride
    with torch.inference_mode():
        whole = network.module(image)
        tile = network.module(image[..., start - before : stop + after])
    wanted = whole[..., start:stop]
    torch.testing.assert_close(
        tile[..., before : before + stop - start], wanted, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["unet-plain", "attention_unet-2d", "segresnet-2d"])
def test_networks_that_look_at_the_whole_image_say_so(name):
    network = opened(CASES[name].state)
    spec = network.spec
    found = geometry(network.module, spec.ndim, spec.in_channels)
    assert not found.exact
    assert "norm looks at the whole image" in found.reason


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("unet-res2-batch", "model.1.submodule.attention.weight"),
        ("basic_unet-2d", "down_5.convs.conv_0.conv.weight"),
        ("dynunet-2d", "skip_layers.gate.weight"),
        ("attention_unet-2d", "model.1.attention.extra.weight"),
        ("segresnet-2d", "down_layers.0.attention.weight"),
    ],
)
def test_a_changed_network_is_not_taken_for_the_original(name, key):
    state = {**CASES[name].state, key: torch.ones(1, 1, 3, 3)}
    with pytest.raises(ModelError, match="not one of the known kinds") as caught:
        opened(state)
    assert "MONAI" in str(caught.value)


@pytest.mark.parametrize(
    "hints",
    [
        {"norm": [], "act": 3, "strides": "2", "adn_ordering": None},
        {"norm": ["group", 2], "act": [None], "strides": [2], "adn_ordering": "D"},
        {"norm": "batch", "act": "PRELU", "strides": [[1, 2, 2], "a"]},
    ],
)
def test_hints_that_make_no_sense_or_contradict_the_weights_are_left_out(hints):
    case = CASES["unet-plain"]
    draft = Draft(Path("net.pth"), "PyTorch file", Found(case.state), ["0" * 64])
    draft.hints, draft.told = hints, {}
    network = finish(draft)
    assert difference(case, network) <= 1e-5
    assert {"norm", "strides", "order"} <= assumed(network).keys()


REFUSED = {
    "vit.patch_embedding.position_embeddings": "UNETR",
    "swinViT.patch_embed.proj.weight": "SwinUNETR",
    "decoder.blocks.0.convs.conv_0.conv.weight": "FlexibleUNet",
    "image_encoder.patch_embed.proj.weight": "Segment Anything",
    "encoder.patch_embed.proj.weight": "cellpose 4",
    "ins_center.head.0.weight": "empanada",
    "RRCNN1.RCNN.0.conv.0.weight": "R2U-Net",
    "decoder.blocks.x_0_0.conv1.0.weight": "UnetPlusPlus",
    "decoder.p5.weight": "FPN",
    "decoder.aspp.0.convs.0.0.weight": "DeepLabV3",
    "decoder.blocks.0.hl_conv.0.0.weight": "MAnet",
    "decoder.blocks.0.block.0.0.weight": "Linknet",
}


@pytest.mark.parametrize(("key", "title"), REFUSED.items())
@pytest.mark.parametrize("prefix", ["", "module.model."])
def test_networks_that_are_no_unet_are_refused_by_name(key, title, prefix):
    state = {
        f"{prefix}{key}": torch.ones(4, 1, 3, 3),
        f"{prefix}head.weight": torch.ones(2, 4, 1, 1),
    }
    with pytest.raises(ModelError, match="which is not opened") as caught:
        opened(state)
    assert title in str(caught.value)
