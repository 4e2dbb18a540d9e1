"""The original-style U-Nets: what is told apart, what is refused."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import lively
from torch import nn
from zoo.opened import open_with, opened
from zoo.stored_cases import cases

from napari_unet import checkpoints
from napari_unet.checkpoints.families import by_name
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")

STORED = {case.name: case for case in cases("github")}


def saved(tmp_path, state, **options):
    path = tmp_path / "weights.pth"
    torch.save(state, path, **options)
    return path


def state_of(family, **architecture):
    return lively(by_name(family).build(architecture)).state_dict()


def recurrent():
    """Keys of R2U_Net: blocks that run one convolution several times."""
    net = nn.ModuleDict()
    for name, inputs, outputs in (("RRCNN1", 3, 4), ("RRCNN2", 4, 8)):
        conv = nn.Sequential(nn.Conv2d(outputs, outputs, 3), nn.BatchNorm2d(outputs))
        rcnn = nn.ModuleList([nn.ModuleDict({"conv": conv})])
        point = nn.Conv2d(inputs, outputs, 1)
        net[name] = nn.ModuleDict({"RCNN": rcnn, "Conv_1x1": point})
    up = nn.Sequential(nn.Upsample(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    net["Up2"] = nn.ModuleDict({"up": up})
    net["Conv_1x1"] = nn.Conv2d(4, 1, 1)
    return net.state_dict()


def with_attention():
    """milesial's names and one spatial attention more."""
    state = STORED["milesial-bilinear-32"].state
    return {**state, "att.conv.weight": torch.ones(1, 2, 7, 7)}


def other_blocks():
    """The tutorial's names, but blocks without norms."""
    state = STORED["aladdinpersson-2-37"].state
    return {
        k.replace(".conv.3.", ".conv.2."): v
        for k, v in state.items()
        if not any(f".conv.{n}." in k for n in (1, 4))
    }


def three_convolutions():
    """The tutorial's names, but a third convolution per block."""
    state = STORED["aladdinpersson-2-37"].state
    more = {
        k.replace(".conv.3.", ".conv.6."): v
        for k, v in state.items()
        if ".conv.3." in k
    }
    return {**state, **more}


def resnet_unet():
    """usuyama's ResNetUNet, which has other layers before the same last one."""
    state = {
        k.replace("dconv_down", "layer"): v
        for k, v in STORED["usuyama-1"].state.items()
    }
    return {**state, "base_model.conv1.weight": torch.ones(4, 3, 7, 7)}


def grid_attention():
    """elektronn3 with attention in the decoder."""
    state = STORED["elektronn3-2d"].state
    return {**state, "up_convs.0.attention.psi.weight": torch.ones(1, 8, 1, 1)}


@pytest.mark.parametrize(
    "state",
    [
        recurrent,
        with_attention,
        other_blocks,
        three_convolutions,
        resnet_unet,
        grid_attention,
    ],
)
def test_near_misses_are_refused(tmp_path, state):
    with pytest.raises(ModelError, match=r"not one of the known kinds|R2U-Net"):
        checkpoints.load(saved(tmp_path, state()))


def test_a_miss_is_named(tmp_path):
    with pytest.raises(ModelError) as raised:
        checkpoints.load(saved(tmp_path, with_attention()))
    assert "nearest to milesial" in str(raised.value)
    assert "att.conv.weight" in str(raised.value)


@pytest.mark.parametrize(("negative", "slope"), [(False, 0.0), (True, 0.01)])
def test_means_after_the_activation_tell_which_it_was(tmp_path, negative, slope):
    state = state_of("lwnet", widths=[4, 8], double=True)
    for key, tensor in state.items():
        if key.endswith("running_mean") and ".block." in key:
            tensor.abs_()
    if negative:
        state["unet2.up_path.0.conv_layer.block.5.running_mean"][0] = -0.1
    wrapped = {"model_state_dict": state, "stats": None}
    path = saved(tmp_path, wrapped, _use_new_zipfile_serialization=False)
    spec = checkpoints.load(path).spec
    assert spec.architecture["slope"] == slope
    fact = next(a for a in spec.assumed if a.field == "architecture.slope")
    assert {fact.value, *fact.alternatives} == {0.0, 0.01}


def early_milesial(bilinear):
    """Names and shapes of the revisions of 2019 and before, at a width of 4."""
    convs = {"inc.conv": (3, 4)}
    for n, (i, o) in enumerate(((4, 8), (8, 16), (16, 32), (32, 32)), 1):
        convs[f"down{n}.mpconv.1"] = (i, o)
    for n, (i, o) in enumerate(((64, 16), (32, 8), (16, 4), (8, 4)), 1):
        convs[f"up{n}.conv"] = (i, o)
    state = {"outc.conv.weight": (2, 4, 1, 1), "outc.conv.bias": (2,)}
    for name, (i, o) in convs.items():
        for n, inputs in ((0, i), (3, o)):
            state[f"{name}.conv.{n}.weight"] = (o, inputs, 3, 3)
            state[f"{name}.conv.{n}.bias"] = (o,)
            for part in ("weight", "bias", "running_mean", "running_var"):
                state[f"{name}.conv.{n + 1}.{part}"] = (o,)
    if not bilinear:
        for n, width in enumerate((32, 16, 8, 4), 1):
            state[f"up{n}.up.weight"] = (width, width, 2, 2)
            state[f"up{n}.up.bias"] = (width,)
    return {k: torch.full(shape, 0.1) for k, shape in state.items()}


@pytest.mark.parametrize("bilinear", [True, False])
def test_early_milesial_names_and_widths(tmp_path, bilinear):
    network = checkpoints.load(saved(tmp_path, early_milesial(bilinear)))
    assert network.spec.family == "milesial"
    assert network.spec.architecture["early"]
    assert network.spec.architecture["bilinear"] is bilinear
    assert network(torch.ones(1, 3, 37, 50)).shape == (1, 2, 37, 50)


@pytest.mark.parametrize(
    ("outputs", "values", "names"),
    [
        (2, [0, 255], ("mask value 0", "mask value 255")),
        (1, [0, 1], ("mask value 1",)),
        (2, [[0, 0, 0], [9, 8, 7]], ("mask value 0, 0, 0", "mask value 9, 8, 7")),
        (3, [0, 1], ()),
    ],
)
def test_mask_values_among_the_weights_name_the_classes(
    tmp_path, outputs, values, names
):
    state = state_of("milesial", in_channels=1, out_channels=outputs, width=2, depth=2)
    path = saved(tmp_path, {**state, "mask_values": values})
    assert checkpoints.load(path).spec.class_names == names


@pytest.mark.parametrize(
    ("case", "known"), [("elektronn3-2d-none", False), ("jaxony-transpose-add", False)]
)
def test_elektronn3_and_jaxony_have_the_same_names(case, known):
    spec = open_with(STORED[case], {}).spec
    fact = next(a for a in spec.assumed if a.field == "architecture.up_activation")
    assert (fact.value, fact.alternatives) == (known, (not known,))


@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("elektronn3-2d-resizeconv_linear", 48),
        ("elektronn3-2d-valid", 68),
        ("jvanvugt-upsample-bn-pad", 64),
        ("lwnet-wnet-relu", 64),
        ("topaz-small-5-32", 96),
    ],
)
def test_no_pixel_outside_the_receptive_field_counts(case, size):
    network, _ = opened(STORED[case])
    shape = network.geometry
    assert shape.exact
    image = torch.randn(1, network.spec.in_channels, size, size, requires_grad=True)
    output = network.module(image)
    at = output.shape[-1] // 2
    output[..., at, at].sum().backward()
    seen = image.grad.abs().sum((0, 1, 2)).nonzero()
    pixel = at + shape.margin[1]
    assert pixel - seen.min() <= shape.before[1]
    assert seen.max() - pixel <= shape.after[1]
    assert seen.max() - seen.min() > shape.before[1]
