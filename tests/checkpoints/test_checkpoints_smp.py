from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import pytest
import torch
from checkpoints.tiny_networks import lively
from safetensors.torch import save_file
from zoo.stored_cases import Stored, cases

from napari_unet.checkpoints.draft import Draft, finish
from napari_unet.checkpoints.families.base import Shapes
from napari_unet.checkpoints.families.smp import Smp
from napari_unet.checkpoints.loading import load
from napari_unet.checkpoints.unwrap import Found
from napari_unet.errors import ModelError
from napari_unet.networks.receptive_field import geometry

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "in_channels": 3,
    "out_channels": 2,
    "encoder": "mobilenet_v2",
    "decoder_channels": [8, 8, 4],
}
CONFIG = {
    "_model_class": "Unet",
    "activation": "sigmoid",
    "aux_params": None,
    "classes": 2,
    "decoder_attention_type": None,
    "decoder_channels": [8, 8, 4],
    "decoder_interpolation": "nearest",
    "decoder_use_norm": "batchnorm",
    "encoder_depth": 3,
    "encoder_name": "mobilenet_v2",
    "encoder_weights": "imagenet",
    "in_channels": 3,
}


def on_meta(shapes: dict[str, tuple[int, ...]]) -> Shapes:
    return Shapes({k: torch.empty(s, device="meta") for k, s in shapes.items()})


def built(**changes) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a network."""
    with torch.device("meta"):
        state = Smp().build({**SMALL, **changes}).state_dict()
    return {k: tuple(v.shape) for k, v in state.items()}


def infer(shapes: dict[str, tuple[int, ...]], **hints):
    return Smp().infer(on_meta(shapes), hints)


@pytest.mark.parametrize("case", cases("smp"), ids=str)
def test_names_are_given_back_as_the_library_has_them(case: Stored):
    stored = {row[0]: tuple(row[1]) for row in case.facts["schema"]}
    architecture = infer(stored, **case.facts["hints"]).architecture
    with torch.device("meta"):
        state = Smp().build(architecture).state_dict()
    emitted = Smp().emit(state, architecture)
    assert {k: tuple(v.shape) for k, v in emitted.items()} == stored


@pytest.mark.parametrize(
    "encoder",
    ["resnet50", "resnext50_32x4d", "resnet152", "resnext101_32x8d", "efficientnet-b5"],
)
def test_encoders_of_the_same_names_are_told_apart(encoder):
    assert infer(built(encoder=encoder)).architecture["encoder"] == encoder


def test_encoder_of_unknown_width_is_refused():
    shapes = built(encoder="resnet50")
    shapes["encoder.layer1.0.conv2.weight"] = (128, 128, 3, 3)  # a wide ResNet
    with pytest.raises(ModelError, match=r"names or sizes.*resnet50"):
        infer(shapes)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("encoder.features.0.weight", "a VGG"),
        ("encoder.model.conv1.weight", "a timm encoder"),
        ("encoder.conv_stem.weight", "a timm EfficientNet"),
        ("encoder.layer0.conv1.weight", "SE-ResNeXt"),
        ("decoder.blocks.x_0_0.conv1.0.weight", "UnetPlusPlus"),
        ("decoder.p5.weight", "FPN"),
    ],
)
def test_its_other_networks_are_refused_by_name(key, name, tmp_path):
    kept = ("segmentation_head.0.weight", "decoder.blocks.0.conv1.0.weight")
    shapes = dict.fromkeys((*kept, key, "encoder.conv1.weight"), (2, 3, 1, 1))
    state = {k: torch.ones(s) for k, s in shapes.items()}
    draft = Draft(tmp_path / "net.pth", "PyTorch file", Found(state), ["0" * 64])
    with pytest.raises(ModelError, match=name):
        finish(draft)


def test_settings_of_a_training_program_are_no_more_than_hints():
    found = infer(built(), activation="gelu", decoder_interpolation=["?"])
    assert "activation" in {a.field for a in found.assumed}
    assert found.architecture["interpolation"] == "nearest"


def test_what_the_file_leaves_open_is_assumed():
    assumed = {a.field: a for a in infer(built()).assumed}
    assert set(assumed) == {
        "activation",
        "normalization",
        "architecture.interpolation",
    }
    red = assumed["normalization"].value[0]
    for byte in (0, 255):  # ImageNet's red, from 0 to 1
        scaled = red["gain"] * byte + red["offset"]
        assert scaled == pytest.approx((byte / 255 - 0.485) / 0.229)
    grey = {a.field: a for a in infer(built(in_channels=1)).assumed}
    assert grey["normalization"].value == [{"kind": "zscore"}]


def test_tiles_with_the_halo_give_the_whole_output():
    net = lively(Smp().build(SMALL)).double()
    found = geometry(net, 2, 3)
    (before, after), stride = found.halo[1], found.stride[1]
    assert found.exact
    assert stride == 8
    before, after = (-(-n // stride) * stride for n in (before, after))
    image = torch.randn(1, 3, 32, 3 * (before + after), dtype=torch.double)
    start, stop = before + stride, before + 5 * stride
    with torch.inference_mode():
        whole = net(image)[..., start:stop]
        tile = net(image[..., start - before : stop + after])
        torch.testing.assert_close(tile[..., before:-after], whole)
        closer = net(image[..., start - before + 3 * stride : stop + after])
    assert (closer[..., before - 3 * stride : -after] - whole).abs().max() > 1e-6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as `save_pretrained` writes it."""
    inside = tmp_path / "saved"
    inside.mkdir()
    state = lively(Smp().build(SMALL)).state_dict()
    save_file(
        {k: v.contiguous() for k, v in state.items()}, inside / "model.safetensors"
    )
    (inside / "config.json").write_text(json.dumps(CONFIG))
    (inside / "README.md").write_text("# Model Card\n")
    return inside


def configure(folder: Path, **changes) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))


@pytest.mark.parametrize("member", ["", "config.json", "model.safetensors"])
def test_saved_folder_leaves_only_the_scaling_open(folder, member):
    network = load(folder / member if member else folder)
    assert network.spec.family == "smp"
    assert network.spec.activation == "sigmoid"
    assert [a.field for a in network.spec.assumed] == ["normalization"]
    assert network.spec.provenance["container"].startswith(
        "segmentation_models_pytorch folder"
    )


def test_saved_folder_in_a_zip_archive(folder, tmp_path):
    path = tmp_path / "saved.zip"
    with zipfile.ZipFile(path, "w") as file:
        for member in folder.iterdir():
            file.write(member, f"saved/{member.name}")
    assert load(path).spec.architecture == load(folder).spec.architecture


def test_configuration_decides_and_is_part_of_the_digest(folder):
    before = load(folder)
    configure(folder, decoder_interpolation="bilinear", activation=None)
    after = load(folder)
    assert after.spec.architecture["interpolation"] == "bilinear"
    assert {a.field for a in after.spec.assumed} == {"normalization", "activation"}
    assert after.digest != before.digest


def test_other_network_class_is_refused(folder):
    configure(folder, _model_class="UnetPlusPlus")
    for path in (folder, folder / "model.safetensors"):
        with pytest.raises(ModelError, match=r"UnetPlusPlus.*expected Unet"):
            load(path)


@pytest.mark.parametrize(
    "setting",
    [
        {"activation": "tanh"},
        {"decoder_use_norm": "inplace"},
        {"decoder_use_norm": {"type": "layernorm", "eps": 1e-2}},
        {"output_stride": 16},
        {"decoder_interpolation": "lanczos"},
    ],
)
def test_settings_that_are_not_built_are_refused(folder, setting):
    (name, _), *_ = setting.items()
    configure(folder, **setting)
    with pytest.raises(ModelError, match=f"found {name}"):
        load(folder)


def test_configuration_of_another_library(folder):
    (folder / "config.json").write_text('{"model_type": "vit", "hidden_size": 8}')
    with pytest.raises(ModelError, match=r"model_type.*by itself"):
        load(folder)
    alone = load(folder / "model.safetensors")
    assert alone.spec.provenance["container"] == "safetensors"


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_damaged_configuration(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match="no settings"):
        load(folder)
