from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny_networks import lively, unet

from napari_unet import checkpoints
from napari_unet.checkpoints import sidecar
from napari_unet.checkpoints.families.base import Shapes
from napari_unet.checkpoints.families.torch_em import TorchEm
from napari_unet.checkpoints.identify import PROVEN
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")

IMAGE = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(0))


def wrap(state, wrapper, prefix):
    state = OrderedDict((prefix + k, v) for k, v in state.items())
    for key in reversed(wrapper.split(".") if wrapper else []):
        state = {key: state, "epoch": 3, "optimizer": {"state": {}, "lr": 0.1}}
    return state


WRAPPERS = ["", "state_dict", "model_state_dict", "model_state", "network_weights"]
PREFIXES = ["", "module.", "model.", "net.", "_orig_mod.", "module.model._orig_mod."]


@pytest.mark.parametrize("wrapper", [*WRAPPERS, "model", "checkpoint.net"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrappers_and_prefixes(tmp_path, wrapper, prefix):
    network = unet()
    path = tmp_path / "model.pth"
    torch.save(wrap(network.module.state_dict(), wrapper, prefix), path)
    loaded = checkpoints.load(path)
    assert loaded.spec.provenance["wrapper"] == wrapper
    assert loaded.spec.provenance["prefix"] == prefix.replace("_orig_mod.", "")
    assert torch.equal(loaded(IMAGE), network(IMAGE))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_containers_and_dtypes(tmp_path, kind, dtype):
    network = unet()
    path = tmp_path / "model.any"
    state = {
        k: v.to(dtype) if v.is_floating_point() else v
        for k, v in network.module.state_dict().items()
    }
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    loaded = checkpoints.load(path)
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    word = str(dtype).removeprefix("torch.")
    assert any(word in note for note in loaded.spec.provenance["notes"])
    torch.testing.assert_close(loaded(IMAGE), network(IMAGE), atol=0.1, rtol=0.1)


def test_metrics_beside_the_network_are_left_out(tmp_path):
    state = {f"net.{k}": v for k, v in unet().module.state_dict().items()}
    state["criterion.weight"] = torch.ones(2)
    torch.save({"state_dict": state}, tmp_path / "model.ckpt")
    loaded = checkpoints.load(tmp_path / "model.ckpt")
    assert "criterion.weight" in loaded.spec.provenance["notes"][-1]


def test_two_networks_are_not_halved(tmp_path):
    state = unet().module.state_dict()
    both = {f"{name}.{k}": v for name in ("a", "b") for k, v in state.items()}
    torch.save(both, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="not one of the known kinds"):
        checkpoints.load(tmp_path / "model.pth")


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
def test_our_own_state_dict(tmp_path, ndim, norm, upsampling):
    flat = {"kernels": ((1, 3, 3), (3, 3, 3)), "strides": ((1, 2, 2),)}
    extra = flat if ndim == 3 and upsampling == "transposed" else {}
    network = unet(ndim=ndim, norm=norm, upsampling=upsampling, convs=1, **extra)
    torch.save(network.module.state_dict(), tmp_path / "model.pth")
    loaded = checkpoints.load(tmp_path / "model.pth")
    image = torch.randn(1, 1, *(8,) * ndim)
    assert torch.equal(loaded(image), network(image))
    fields = {a.field for a in loaded.spec.assumed}
    assert {"activation", "normalization", "architecture.padding"} <= fields
    assert ("architecture.upsampling" in fields) is (upsampling == "linear")
    assert ("architecture.norm" in fields) is (norm == "instance")


def milesial_forward(state, x, bilinear):
    """Restate the source's forward pass, layer by layer, from its weights alone."""

    def double(x, name):
        for conv, norm in ((0, 1), (3, 4)):
            place = f"{name}.double_conv"
            weight = state[f"{place}.{conv}.weight"]
            x = F.conv2d(x, weight, state.get(f"{place}.{conv}.bias"), padding=1)
            mean, var, scale, shift = (
                state[f"{place}.{norm}.{part}"].view(1, -1, 1, 1)
                for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.relu((x - mean) / torch.sqrt(var + 1e-5) * scale + shift)
        return x

    skips = [double(x, "inc")]
    for n in (1, 2, 3, 4):
        skips.append(double(F.max_pool2d(skips[-1], 2), f"down{n}.maxpool_conv.1"))
    x = skips.pop()
    for n in (1, 2, 3, 4):
        skip = skips.pop()
        if bilinear:
            size = (2 * x.shape[2], 2 * x.shape[3])
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
        else:
            up = f"up{n}.up"
            x = F.conv_transpose2d(x, state[f"{up}.weight"], state[f"{up}.bias"], 2)
        rows, columns = (skip.shape[a] - x.shape[a] for a in (2, 3))
        top, left = rows // 2, columns // 2
        x = F.pad(x, (left, columns - left, top, rows - top))
        x = double(torch.cat([skip, x], dim=1), f"up{n}.conv")
    return F.conv2d(x, state["outc.conv.weight"], state["outc.conv.bias"])


def milesial_state(bilinear, bias, classes):
    """Draw a state dict with the shapes of the source's UNet, width 4."""
    shapes = {}
    convs = [("inc", 3, 4, 4)]
    last = 32 if bilinear else 64
    for n, (i, o) in enumerate(((4, 8), (8, 16), (16, 32), (32, last)), 1):
        convs.append((f"down{n}.maxpool_conv.1", i, o, o))
    for n, i in enumerate((64, 32, 16, 8), 1):
        o = i // (4 if bilinear else 2) if n < 4 else 4
        convs.append((f"up{n}.conv", i, i // 2 if bilinear else o, o))
        if not bilinear:
            shapes[f"up{n}.up.weight"] = (i, i // 2, 2, 2)
            shapes[f"up{n}.up.bias"] = (i // 2,)
    for name, i, middle, o in convs:
        for conv, norm, a, b in ((0, 1, i, middle), (3, 4, middle, o)):
            place = f"{name}.double_conv"
            shapes[f"{place}.{conv}.weight"] = (b, a, 3, 3)
            if bias:
                shapes[f"{place}.{conv}.bias"] = (b,)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{place}.{norm}.{part}"] = (b,)
    shapes |= {"outc.conv.weight": (classes, 4, 1, 1), "outc.conv.bias": (classes,)}
    draw = torch.Generator().manual_seed(5)
    state = {k: 0.4 * torch.randn(s, generator=draw) for k, s in shapes.items()}
    for key in state:
        if key.endswith("running_var"):
            state[key] = state[key].abs() + 0.5
    return state


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize(("bias", "classes"), [(False, 1), (True, 3)])
def test_milesial(tmp_path, bilinear, bias, classes):
    state = milesial_state(bilinear, bias, classes)
    torch.save({**state, "mask_values": [0, 255]}, tmp_path / "carvana.pth")
    loaded = checkpoints.load(tmp_path / "carvana.pth")
    assert loaded.spec.family == "milesial"
    assert loaded.spec.activation == ("sigmoid" if classes == 1 else "softmax")
    (norm,) = loaded.spec.normalization
    assert (norm.kind, norm.gain, norm.offset) == ("linear", 1 / 255, 0.0)
    lay = loaded.geometry
    assert lay.stride == (16, 16)
    assert lay.exact is not bilinear
    assert bilinear or lay.before == (107, 107)
    same_output(loaded.module, state, bilinear, (32, 48))
    same_output(loaded.module, state, bilinear, (37, 50))


def same_output(module, state, bilinear, size):
    """Compare in float64, where a wrong step cannot hide in rounding."""
    channels = state["inc.double_conv.0.weight"].shape[1]
    image = torch.randn(1, channels, *size, dtype=torch.float64)
    state = {k: v.double() for k, v in state.items()}
    expected = milesial_forward(state, image, bilinear)
    assert expected.std() > 0.01
    torch.testing.assert_close(module.double()(image), expected, atol=1e-8, rtol=1e-8)


def torch_em_forward(state, x, norm):
    """Restate torch_em's forward pass from its weights alone."""

    def block(x, name):
        for n, conv in enumerate((1, 4) if norm != "none" else (0, 2)):
            place = f"{name}.block"
            if norm == "instance":
                axes = tuple(range(2, x.ndim))
                mean, var = x.mean(axes, True), x.var(axes, False, keepdim=True)
                x = (x - mean) / torch.sqrt(var + 1e-5)
            elif norm != "none":
                key = f"{place}.{3 * n}"
                args = (state[f"{key}.weight"], state[f"{key}.bias"])
                if norm == "batch":
                    mean, var = (
                        state[f"{key}.running_mean"],
                        state[f"{key}.running_var"],
                    )
                    x = F.batch_norm(x, mean, var, *args)
                else:
                    x = F.group_norm(x, min(32, x.shape[1]), *args)
            weight, bias = (state[f"{place}.{conv}.{p}"] for p in ("weight", "bias"))
            convolve = F.conv2d if x.ndim == 4 else F.conv3d
            x = F.relu(convolve(x, weight, bias, padding="same"))
        return x

    flat = x.ndim == 4
    pool, mode = (F.max_pool2d, "bilinear") if flat else (F.max_pool3d, "trilinear")
    skips = []
    for n in (0, 1):
        skips.append(block(x, f"encoder.blocks.{n}"))
        x = pool(skips[-1], 2)
    x = block(x, "base")
    for n in (0, 1):
        skip = skips.pop()
        x = F.interpolate(x, size=skip.shape[2:], mode=mode, align_corners=False)
        key = f"decoder.samplers.{n}.conv"
        x = torch.einsum(
            "oc,nc...->no...", state[f"{key}.weight"].flatten(1), x
        ) + state[f"{key}.bias"].view(1, -1, *(1,) * (x.ndim - 2))
        x = block(torch.cat([x, skip], 1), f"decoder.blocks.{n}")
    last = max(k for k in state if k.startswith("out_conv") and k.endswith("weight"))
    convolve = F.conv2d if flat else F.conv3d
    return convolve(x, state[last], state[last.replace("weight", "bias")])


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("norm", ["instance", "none", "batch", "group"])
def test_torch_em(tmp_path, ndim, norm):
    module = TorchEm().build(
        {
            **{"ndim": ndim, "in_channels": 2, "out_channels": 3, "norm": norm},
            **{"widths": [4, 8, 8], "strides": [[2] * ndim] * 2},
            **{"kernels": [[3] * ndim] * 3, "side": [2, 3] if ndim == 2 else []},
        }
    )
    state = lively(module).state_dict()
    kwargs = {"final_activation": "Sigmoid", "depth": 2}
    tree = {"model_state": state, "init": {"model_kwargs": kwargs}, "iteration": 5}
    torch.save(tree, tmp_path / "best.pt")
    loaded = checkpoints.load(tmp_path / "best.pt")
    assert loaded.spec.family == "torch_em"
    assert loaded.spec.activation == "sigmoid"
    assert loaded.spec.out_channels == 3
    image = torch.randn(1, 2, *(16,) * ndim)
    expected = torch_em_forward(state, image, norm)
    assert expected.std() > 0.01
    torch.testing.assert_close(loaded(image), expected, atol=1e-4, rtol=1e-4)
    assert loaded.geometry.exact is (norm in ("none", "batch"))


def test_flat_kernels_mean_flat_poolings(tmp_path):
    architecture = {
        **{"ndim": 3, "in_channels": 1, "out_channels": 1, "widths": [2, 4, 4]},
        **{"strides": [[1, 2, 2], [2, 2, 2]]},
        **{"kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "norm": "none"},
    }
    module = lively(TorchEm().build(architecture))
    torch.save(module.state_dict(), tmp_path / "net.pt")
    loaded = checkpoints.load(tmp_path / "net.pt")
    assert loaded.geometry.stride == (2, 4, 4)
    assert "architecture.strides" in {a.field for a in loaded.spec.assumed}


def test_every_family_refuses_the_others(tmp_path):
    for family in PROVEN:
        shapes = Shapes(family.build(family.typical).state_dict())
        assert [f.name for f in PROVEN if f.recognise(shapes)] == [family.name]


def test_near_miss_is_named(tmp_path):
    """Attention in a milesial network must not be passed over."""
    state = milesial_state(False, False, 1)
    state["att.conv.weight"] = torch.zeros(1, 2, 7, 7)
    state["outc.conv.bias"] = torch.zeros(5)
    del state["up1.up.bias"]
    torch.save(state, tmp_path / "pupil.pth")
    with pytest.raises(ModelError) as error:
        checkpoints.load(tmp_path / "pupil.pth")
    text = str(error.value)
    assert "nearest to milesial/Pytorch-UNet" in text
    assert "lacking up1.up.bias" in text
    assert "too many att.conv.weight" in text
    assert "other shapes outc.conv.bias" in text


def test_alike_names_are_compared(tmp_path):
    state = milesial_state(False, False, 1)
    state["in_block.weight"] = state.pop("inc.double_conv.0.weight")
    torch.save(state, tmp_path / "like.pth")
    with pytest.raises(ModelError, match=r"nearest to milesial.*lacking inc\.double"):
        checkpoints.load(tmp_path / "like.pth")


def test_hostile_settings_build_nothing(tmp_path):
    """Wide layers that a file asks for are refused before they take memory."""
    state = milesial_state(False, False, 1)
    state["inc.double_conv.0.weight"] = torch.zeros(65536, 1, 1, 1)
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(ModelError, match="make up no such network"):
        checkpoints.load(tmp_path / "wide.pth")


def test_sidecar_settles_what_is_assumed(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(milesial_state(True, False, 2), path)
    assumed = checkpoints.load(path)
    side = sidecar.write(
        path,
        activation="none",
        normalization=[{"kind": "minmax"}],
        architecture={"align_corners": False},
    )
    assert side.name == "net.unet.json"
    told = checkpoints.load(path)
    assert {a.field for a in assumed.spec.assumed} == {
        *("activation", "normalization", "architecture.align_corners")
    }
    assert told.spec.assumed == ()
    assert told.spec.activation == "none"
    assert told.spec.normalization[0].kind == "minmax"
    assert told.geometry.exact
    assert told.digest != assumed.digest
    image = torch.randn(1, 3, 32, 32)
    assert not torch.equal(told(image), assumed(image))
    sidecar.write(path, class_names=["back", "front"])
    assert checkpoints.load(path).spec.activation == "none"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[1]", "a list"),
        ('{"family": "unet"}', "the field family"),
        ('{"activation": "relu"}', "cannot be used"),
        ('{"architecture": {"width": 5}}', "do not fit the weights"),
        ('{"architecture": {"magic": 5}}', "cannot be used"),
    ],
)
def test_wrong_sidecar(tmp_path, text, words):
    path = tmp_path / "net.pth"
    torch.save(milesial_state(True, False, 2), path)
    (tmp_path / "net.unet.json").write_text(text)
    with pytest.raises(ModelError, match=words) as error:
        checkpoints.load(path)
    assert "net.unet.json" in str(error.value)


def test_old_files_without_counters(tmp_path):
    network = unet()
    state = {k: v for k, v in network.module.state_dict().items() if "batches" not in k}
    torch.save(state, tmp_path / "old.pth")
    assert torch.equal(checkpoints.load(tmp_path / "old.pth")(IMAGE), network(IMAGE))
