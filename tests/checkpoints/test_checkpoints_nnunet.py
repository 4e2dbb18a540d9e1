from __future__ import annotations

import json
import zipfile

import nnunet_models as models
import pytest
import torch
from safetensors.torch import save_file
from zoo import nnunet_volume
from zoo.stored_cases import cases

from napari_unet import checkpoints
from napari_unet.checkpoints.families import by_name
from napari_unet.checkpoints.families.ensemble import parted
from napari_unet.checkpoints.identify import identify
from napari_unet.checkpoints.unwrap import plain
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")

IMAGE = (1, 2, 4, 8, 12)
CASES = cases("nnunet")


def image():
    return torch.randn(IMAGE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_export_has_exactly_the_sources_names(case):
    match = identify(case.state, case.facts["hints"], "case")
    emitted = match.family.emit(match.view.tensors, match.inferred.architecture)
    state = case.state
    assert list(emitted) == list(state)
    assert all(torch.equal(emitted[k], state[k]) for k in state)


def test_a_layer_stored_under_one_name_only_is_enough(tmp_path):
    state = models.weights(0, models.spec())
    once: dict[int, str] = {}
    for key, tensor in reversed(state.items()):
        once.setdefault(tensor.data_ptr(), key)
    kept = {k: state[k].clone() for k in sorted(once.values())}
    nested = {k for k in kept if k.startswith("decoder.encoder.")}
    assert nested
    assert len(kept) < len(state) / 2
    save_file(kept, tmp_path / "net.safetensors")
    torch.save(state, tmp_path / "net.pth")
    short = {k: v for k, v in state.items() if "all_modules" not in k}
    torch.save(short, tmp_path / "short.pth")
    outputs = [
        checkpoints.load(tmp_path / name)(image())
        for name in ("net.pth", "net.safetensors", "short.pth")
    ]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_names_of_one_layer_with_different_tensors_are_refused(tmp_path):
    state = models.weights(0, models.spec())
    key = "decoder.encoder.stages.0.0.convs.0.conv.weight"
    torch.save({**state, key: state[key] + 1}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match="nearest to nnU-Net v2"):
        checkpoints.load(tmp_path / "net.pth")


def test_a_folder_is_the_mean_of_its_folds(tmp_path):
    states = models.folder(tmp_path / models.NAME)
    network = checkpoints.load(tmp_path / models.NAME)
    single = []
    for n, state in enumerate(states):
        torch.save(state, tmp_path / f"{n}.pth")
        single.append(checkpoints.load(tmp_path / f"{n}.pth")(image()))
    assert (single[0] - single[1]).abs().max() > 0.1
    mean = (single[0] + single[1]) / 2
    assert (network(image()) - mean).abs().max() < 1e-6
    spec = network.spec
    assert spec.family == "ensemble"
    assert (spec.architecture["member"], spec.architecture["folds"]) == ("nnunet", 2)
    assert not spec.assumed
    assert "folds 0, 1" in spec.provenance["notes"][-1]
    emitted = by_name("ensemble").emit(network.module.state_dict(), spec.architecture)
    for part, state in zip(parted(emitted), states, strict=True):
        assert list(part) == list(state)
        assert all(torch.equal(part[k], state[k]) for k in state)


def test_an_ensemble_is_saved_and_opened_natively(tmp_path):
    models.folder(tmp_path / models.NAME)
    network = checkpoints.load(tmp_path / models.NAME)
    checkpoints.save(network, tmp_path / "a.safetensors")
    again = checkpoints.load(tmp_path / "a.safetensors")
    assert torch.equal(again(image()), network(image()))
    assert again.spec.recipe == network.spec.recipe
    placed = network.place("cpu", "float32")
    assert (placed(image()) - network(image())).abs().max() < 1e-5


def zipped(place, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in sorted(place.rglob("*")):
            if member.is_file():
                archive.write(member, member.relative_to(place))
    return path


@pytest.mark.parametrize("form", ["folder", "plans", "zip", "checkpoint", "alone"])
def test_every_way_in_says_the_same(tmp_path, form):
    place = tmp_path / "Dataset007_Little" / models.NAME
    models.folder(place, (0,))
    inside = place / "fold_0" / "checkpoint_final.pth"
    path = {
        "folder": lambda: place,
        "plans": lambda: place / "plans.json",
        "zip": lambda: zipped(tmp_path, tmp_path / "model.zip"),
        "checkpoint": lambda: inside,
        "alone": lambda: inside.rename(tmp_path / "alone.pth"),
    }[form]()
    network = checkpoints.load(path)
    spec = network.spec
    assert spec.name == "Dataset007_Little 3d_fullres"
    assert spec.family == "nnunet"
    assert spec.activation == "softmax"
    assert spec.class_names == ("background", "liver", "tumour")
    assert not spec.assumed
    ct, zscore = spec.normalization
    assert (ct.kind, ct.clip_low, ct.clip_high) == ("ct", -50.0, 200.0)
    assert (ct.mean, ct.std) == (90.0, 40.0)
    assert (zscore.kind, zscore.masked) == ("zscore", True)
    recipe = spec.recipe
    assert recipe.patch == (8, 16, 16)
    assert recipe.mirror == (0, 1, 2)
    assert recipe.crop_to_nonzero
    assert recipe.transpose == ()
    assert recipe.spacing == (3.0, 0.5, 0.5)
    orders = recipe.order_data, recipe.order_logits, recipe.order_z, recipe.separate_z
    assert orders == (3, 1, 0, None)
    assert recipe.label_values == (0, 1, 2)
    assert recipe.region_labels == ()


def test_regions_are_painted_in_order(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "rim": [1]}
    written = models.dataset(labels=labels, regions_class_order=[1, 2, 3])
    models.folder(tmp_path / "m", (0,), written_dataset=written, mirror=None)
    spec = checkpoints.load(tmp_path / "m").spec
    assert spec.activation == "sigmoid"
    assert spec.class_names == ("whole", "core", "rim")
    assert spec.recipe.region_labels == (1, 2, 3)
    assert spec.recipe.label_values == ()
    assert spec.recipe.mirror == ()


def test_plans_from_before_version_2_4(tmp_path):
    old = models.plans(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=3,
        unet_max_num_features=4,
        conv_kernel_sizes=[[1, 3, 3], [3, 3, 3]],
        pool_op_kernel_sizes=[[1, 1, 1], [1, 2, 2]],
        n_conv_per_stage_encoder=[1, 2],
        n_conv_per_stage_decoder=[1],
        num_pool_per_axis=[0, 1, 1],
    )
    del old["configurations"]["3d_base"]["architecture"]
    old["foreground_intensity_properties_by_modality"] = old.pop(
        "foreground_intensity_properties_per_channel"
    )
    old["transpose_forward"] = [1, 0, 2]
    models.folder(tmp_path / "old", (0,), written_plans=old)
    models.folder(tmp_path / "new", (0,))
    networks = [checkpoints.load(tmp_path / name) for name in ("old", "new")]
    assert networks[0].spec.architecture == networks[1].spec.architecture
    assert networks[0].spec.normalization == networks[1].spec.normalization
    assert networks[0].spec.recipe.transpose == (1, 0, 2)


def test_plans_decide_what_the_weights_do_not_show(tmp_path):
    written = models.plans()
    kwargs = written["configurations"]["3d_base"]["architecture"]["arch_kwargs"]
    kwargs["nonlin"], kwargs["nonlin_kwargs"] = "torch.nn.ReLU", {"inplace": True}
    kwargs["norm_op_kwargs"] = {"eps": 1e-3, "affine": True}
    models.folder(tmp_path / "m", (0,), written_plans=written)
    architecture = checkpoints.load(tmp_path / "m").spec.architecture
    assert architecture["activation"] == "relu"
    assert architecture["eps"] == 1e-3


def test_final_rather_than_best_and_folds_rather_than_all(tmp_path):
    place = tmp_path / "m"
    models.folder(place, (0, 1))
    for name, number in (("fold_0", 5), ("fold_2", 6)):
        models.checkpoint(place / name / "checkpoint_best.pth", number)
    models.checkpoint(place / "fold_all" / "checkpoint_final.pth", 7)
    assert checkpoints.load(place).spec.architecture["folds"] == 2
    for path in place.rglob("fold_[0-9]/checkpoint_final.pth"):
        path.unlink()
    assert checkpoints.load(place).spec.family == "nnunet"
    (place / "fold_all" / "checkpoint_final.pth").unlink()
    assert checkpoints.load(place).spec.architecture["folds"] == 2


def test_an_archive_with_several_configurations_leaves_the_choice(tmp_path):
    other = "nnUNetTrainer__nnUNetPlans__2d"
    models.folder(tmp_path / "in" / models.NAME, (0,))
    models.folder(tmp_path / "in" / other, (0,), configuration="2d")
    path = zipped(tmp_path / "in", tmp_path / "model.zip")
    spec = checkpoints.load(path).spec
    assert spec.name.endswith("3d_fullres")
    (assumed,) = spec.assumed
    assert (assumed.field, assumed.value) == ("weights", models.NAME)
    assert assumed.alternatives == (other,)
    assert checkpoints.tell(path, {"weights": other}).spec.name.endswith("2d")
    with pytest.raises(ModelError, match="no configuration 1d"):
        checkpoints.tell(path, {"weights": "1d"})


def changed(place, **settings):
    """Write a folder whose plans differ in some settings."""
    models.folder(place, (0,), written_plans=models.plans(**settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"previous_stage": "3d_lowres"}, "second stage of a cascade"),
        (
            {"architecture": {"network_class_name": "os.system", "arch_kwargs": {}}},
            "a network that is not nnU-Net's own: found os.system",
        ),
        (
            {"normalization_schemes": ["MyNormalization", "NoNormalization"]},
            "a normalisation that is not nnU-Net's own: found MyNormalization",
        ),
        (
            {
                "normalization_schemes": ["NoNormalization"],
                "use_mask_for_norm": [False],
            },
            "2 input channels, expected 1",
        ),
        ({"resampling_fn_data": "mine"}, "a resampling that is not nnU-Net's own"),
        ({"patch_size": None}, "cannot be used"),
        ({"inherits_from": "3d_fullres"}, "inherits from itself"),
    ],
)
def test_plans_that_are_refused(no_mark, settings, words):
    changed(no_mark / "m", **settings)
    with pytest.raises(ModelError, match=words):
        checkpoints.load(no_mark / "m")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0, "a": 1}, "3 output channels .*expected 2"),
        ({"background": 0, "a": 1, "b": 3}, "not 0, 1, 2"),
        ({"background": 0, "a": [1, 2], "b": 2}, "regions_class_order"),
        (None, "cannot be used"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels, words):
    written = models.dataset(labels=labels)
    models.folder(tmp_path / "m", (0,), written_dataset=written)
    with pytest.raises(ModelError, match=words):
        checkpoints.load(tmp_path / "m")


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, '{"configurations": 1}'])
def test_plans_that_are_none(tmp_path, text):
    models.folder(tmp_path / "m", (0,))
    (tmp_path / "m" / "plans.json").write_text(text)
    with pytest.raises(ModelError):
        checkpoints.load(tmp_path / "m")


def test_folds_of_different_shapes_are_refused(tmp_path):
    models.folder(tmp_path / "m", (0,))
    path = tmp_path / "m" / "fold_1" / "checkpoint_final.pth"
    models.checkpoint(path, 1, shape=models.spec(widths=[3, 5]))
    with pytest.raises(ModelError, match=r"folds\.1\."):
        checkpoints.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "spacing"),
    [
        ({"image_reader_writer": "NaturalImage2DIO"}, ()),
        ({"image_reader_writer": "Tiff3DIO"}, (3.0, 0.5, 0.5)),
        ({}, (3.0, 0.5, 0.5)),
    ],
)
def test_images_without_a_size_are_not_resampled(tmp_path, change, spacing):
    written = {**models.plans(), **change}
    models.folder(tmp_path / "m", (0,), written_plans=written)
    assert checkpoints.load(tmp_path / "m").spec.recipe.spacing == spacing


def test_inspect_of_a_folder_is_json(tmp_path):
    models.folder(tmp_path / "m")
    report = checkpoints.inspect(tmp_path / "m")
    assert json.loads(json.dumps(report)) == report
    assert report["exact"] is False


@pytest.mark.parametrize("variant", nnunet_volume.variants(), ids=lambda v: v.name)
def test_models_that_nnunet_itself_ran_open(tmp_path, variant):
    place = nnunet_volume.write(tmp_path / "m", variant.facts, variant.weights)
    spec = checkpoints.load(place).spec
    assert spec.family == ("ensemble" if variant.facts["folds"] > 1 else "nnunet")
    assert not spec.assumed
    (settings,) = variant.facts["plans"]["configurations"].values()
    assert spec.recipe.patch == tuple(settings["patch_size"])
    assert spec.recipe.spacing == tuple(settings["spacing"])
    assert spec.recipe.mirror == tuple(variant.facts["mirror"])
    assert len(spec.normalization) == spec.in_channels == len(variant.image)
    assert variant.labels.shape == variant.image.shape[1:]


def test_what_lies_beside_the_weights_is_cut_to_a_sane_size():
    value = [1.0] * 500
    for _ in range(11):
        value = [value] * 500  # 500 ** 12 numbers, in a few kilobytes
    cut = plain({"many": value, "plans": models.plans()})
    assert len(json.dumps(cut)) < 10_000_000
    kept = plain({"init_args": {"plans": models.plans(), "many": value}})
    assert kept["init_args"]["plans"] == models.plans()
