from __future__ import annotations

import dataclasses
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from zoo import nnunet_v1_volume as first

from napari_unet import checkpoints
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process", "no_mark")

ANISOTROPIC, CT, REGIONS = first.VARIANTS
FINAL = f"fold_0/{first.FINAL}"


def model(place, variant=CT, *, trainer=None, stage=None, **changes):
    """Write a model folder; `stage` changes the plans of its one stage."""
    variant = dataclasses.replace(variant, trainer=trainer or variant.trainer)
    if stage is not None:
        (own,) = first.plans(variant)["plans_per_stage"].values()
        changes["plans_per_stage"] = {0: {**own, **stage}}
    return first.write(place, variant, variant.weights[:1], **changes)


def zipped(place, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in sorted(place.rglob("*")):
            if member.is_file():
                archive.write(member, member.relative_to(place))
    return path


def image(variant):
    shape = (1, len(variant.schemes), *variant.patch)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("form", ["folder", "zip", "checkpoint"])
def test_every_way_in_says_the_same(tmp_path, form):
    inside = "3d_fullres/Task001_Balls/nnUNetTrainerV2__nnUNetPlansv2.1"
    place = model(tmp_path / "in" / inside)
    path = {"folder": place, "checkpoint": place / FINAL}.get(form)
    spec = checkpoints.load(path or zipped(tmp_path / "in", tmp_path / "m.zip")).spec
    assert (spec.family, spec.name) == ("nnunet_v1", "Task001_Balls 3d_fullres")
    assert spec.activation == "softmax"
    assert not spec.assumed
    ct, zscore = spec.normalization
    assert (ct.kind, ct.clip_low, ct.clip_high) == ("ct", 20.0, 205.0)
    assert (ct.mean, ct.std, ct.own, ct.masked) == (90.0, 45.0, False, False)
    assert (zscore.kind, zscore.masked) == ("zscore", False)
    recipe = spec.recipe
    assert recipe.procedure == "nnunet_v1"
    assert (recipe.patch, recipe.mirror) == ((16, 32, 32), (0, 1, 2))
    assert (recipe.transpose, recipe.spacing) == ((1, 0, 2), (3.4, 1.7, 0.9))
    orders = recipe.order_data, recipe.order_logits, recipe.order_z, recipe.separate_z
    assert orders == (3, 1, 0, None)
    assert recipe.label_values == (0, 1, 2)


def test_a_folder_is_the_mean_of_the_probabilities_of_its_folds(tmp_path):
    place = first.write(tmp_path / "m", ANISOTROPIC, ANISOTROPIC.weights)
    network, probe = checkpoints.load(place), image(ANISOTROPIC)
    single = [
        checkpoints.load(place / f"fold_{n}" / first.FINAL)(probe).softmax(1)
        for n in range(2)
    ]
    mean = (single[0] + single[1]) / 2
    assert (single[0] - single[1]).abs().max() > 0.1
    assert (network(probe).softmax(1) - mean).abs().max() < 1e-6
    assert network.spec.architecture["averaged"] == "softmax"
    assert "probabilities of folds 0, 1" in network.spec.provenance["notes"][-1]
    checkpoints.save(network, tmp_path / "a.safetensors")
    again = checkpoints.load(tmp_path / "a.safetensors")
    assert torch.equal(again(probe), network(probe))
    assert again.spec.recipe == network.spec.recipe
    assert not again.geometry.exact


def test_regions_of_folds_are_averaged_as_sigmoids(tmp_path):
    weights = REGIONS.weights * 2
    variant = dataclasses.replace(REGIONS, folds=2)
    network = checkpoints.load(first.write(tmp_path / "m", variant, weights))
    alone = checkpoints.load(tmp_path / "m" / FINAL)
    spec, probe = network.spec, image(REGIONS)
    assert (network(probe).sigmoid() - alone(probe).sigmoid()).abs().max() < 1e-6
    assert spec.activation == "sigmoid"
    assert spec.class_names == ("whole tumour", "tumour core", "enhancing tumour")
    assert spec.recipe.region_labels == (1, 2, 3)
    assert (spec.recipe.mirror, spec.recipe.spacing) == ((0, 1), (1.2, 1.1))
    assert spec.normalization[0].own
    assert spec.name == "Task001_Balls 2d"


def test_final_rather_than_best_and_folds_rather_than_all(tmp_path):
    place = model(tmp_path / "m")
    (place / "fold_0").rename(place / "all")
    assert checkpoints.load(place).spec.provenance["sha256"]
    for name in ("model_best", "model_latest"):
        for end in (".model", ".model.pkl"):
            data = (place / "all" / f"model_final_checkpoint{end}").read_bytes()
            (place / "all" / f"{name}{end}").write_bytes(data)
    first.write(tmp_path / "n", CT, CT.weights)
    (tmp_path / "n" / "fold_0").rename(place / "fold_3")
    assert checkpoints.load(place).spec.family == "nnunet_v1"


def test_an_archive_with_several_configurations_leaves_the_choice(tmp_path):
    names = [f"{kind}/Task001/T__P" for kind in ("2d", "3d_fullres")]
    for name, variant in zip(names, (REGIONS, CT), strict=True):
        model(tmp_path / "in" / name, variant)
    path = zipped(tmp_path / "in", tmp_path / "model.zip")
    (assumed,) = checkpoints.load(path).spec.assumed
    assert (assumed.field, assumed.value) == ("weights", names[1])
    assert checkpoints.tell(path, {"weights": names[0]}).spec.ndim == 2


@pytest.mark.parametrize(
    ("trainer", "settings"),
    [
        ("nnUNetTrainer", {"slope": 0.01, "order": "norm-act"}),
        ("nnUNetTrainerV2_ReLU_biasInSegOutput", {"slope": 0.0}),
        ("nnUNetTrainerV2_LReLU_slope_2en1", {"slope": 0.2}),
        ("nnUNetTrainerV2_ReLU_convReLUIN", {"slope": 0.0, "order": "act-norm"}),
        ("nnUNetTrainerV2_lReLU_convlReLUIN", {"slope": 0.01, "order": "act-norm"}),
        ("nnUNetTrainerV2BraTSRegions_BN", {"slope": 0.01}),
    ],
)
def test_the_trainer_decides_what_the_weights_do_not_show(tmp_path, trainer, settings):
    spec = checkpoints.load(model(tmp_path / "m", trainer=trainer)).spec
    assert spec.architecture.items() >= settings.items()
    assert not spec.assumed
    assert spec.recipe.mirror == (0, 1, 2)


def test_a_trainer_that_is_not_known_leaves_it_open(tmp_path):
    spec = checkpoints.load(model(tmp_path / "m", trainer="MyTrainer")).spec
    assert "architecture.slope" in {a.field for a in spec.assumed}
    assert "trained by MyTrainer" in " ".join(spec.provenance["notes"])


@pytest.mark.parametrize(
    "trainer", ["nnUNetTrainerV2_noMirroring", "nnUNetTrainerNoDA"]
)
def test_a_network_trained_without_flips_is_run_without(tmp_path, trainer):
    spec = checkpoints.load(model(tmp_path / "m", trainer=trainer)).spec
    assert spec.recipe.mirror == ()
    assert "without flips" in " ".join(spec.provenance["notes"])


@pytest.mark.parametrize(
    ("name", "stage", "spacing", "order"),
    [
        ("GenericPreprocessor_linearResampling", {}, (3.4, 1.7, 0.9), 1),
        ("PreprocessorFor3D_NoResampling", {}, (), 3),
        (
            "PreprocessorFor3D_LeaveOriginalZSpacing",
            {"current_spacing": np.array([np.nan, 1.7, 0.9])},
            (1.7, 0.9),
            3,
        ),
        (None, {}, (3.4, 1.7, 0.9), 3),
    ],
)
def test_preprocessors(tmp_path, name, stage, spacing, order):
    place = model(tmp_path / "m", stage=stage, preprocessor_name=name)
    recipe = checkpoints.load(place).spec.recipe
    assert (recipe.spacing, recipe.order_data) == (spacing, order)


def test_postprocessing_is_told(tmp_path):
    place = model(tmp_path / "m")
    side = place / "postprocessing.json"
    side.write_text(json.dumps({"for_which_classes": []}))
    assert not checkpoints.load(place).spec.provenance["notes"]
    side.write_text(json.dumps({"for_which_classes": [1]}))
    notes = checkpoints.load(place).spec.provenance["notes"]
    assert "largest object" in " ".join(notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainer": "nnUNetTrainerV2CascadeFullRes"}, "second stage of a cascade"),
        ({"trainer": "nnUNetTrainerV2_GN"}, "layers that are not built here"),
        ({"trainer": "nnUNetTrainerV2BraTSRegions", "num_classes": 2}, ""),
        ({"preprocessor_name": "Mine"}, "preprocessor that is not followed"),
        ({"num_classes": 3}, "3 output channels .*expected 4"),
        ({"num_modalities": 1}, "2 input channels, expected 1"),
        ({"normalization_schemes": {}}, "cannot be used: found KeyError"),
        ({"plans_per_stage": {}}, "cannot be used"),
        ({"plans_per_stage": [1]}, "cannot be used"),
        ({"stage": {"patch_size": None}}, "cannot be used"),
        ({"dataset_properties": None}, "cannot be used"),
        (
            {
                "segmentation_export_params": {
                    **{"force_separate_z": True, "interpolation_order": 1},
                    "interpolation_order_z": 0,
                }
            },
            "resampled along Z in different ways",
        ),
    ],
)
def test_models_that_are_refused(tmp_path, changes, words):
    place = model(tmp_path / "m", **changes)
    if not words:  # three regions for three classes: the weights fit
        assert checkpoints.load(place).spec.activation == "sigmoid"
        return
    with pytest.raises(ModelError, match=words):
        checkpoints.load(place)


def test_the_stage_is_that_of_the_trainer(tmp_path):
    place = model(tmp_path / "m")
    plans = first.plans(CT)
    (stage,) = plans["plans_per_stage"].values()
    lower = {**stage, "current_spacing": np.array([6.0, 3.0, 2.0])}
    plans["plans_per_stage"] = {0: lower, 1: stage}
    saved = {"name": "nnUNetTrainerV2", "plans": plans}
    beside = place / f"{FINAL}.pkl"
    for number, spacing, name in ((0, 6.0, "3d_lowres"), (1, 3.4, "3d_fullres")):
        init = ("plans.pkl", 0, "", "", True, number, True, False, True)
        beside.write_bytes(pickle.dumps({**saved, "init": init}))
        spec = checkpoints.load(place).spec
        assert (spec.recipe.spacing[0], spec.name.split()[1]) == (spacing, name)
    beside.write_bytes(pickle.dumps({**saved, "init": ()}))
    with pytest.raises(ModelError, match="2 stages, and none of them named"):
        checkpoints.load(place)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02].", b"cos\nsystem\n(S'touch MARK'\ntR."]
)
def test_pickles_that_are_none(tmp_path, data):
    place = model(tmp_path / "m")
    (place / f"{FINAL}.pkl").write_bytes(data)
    with pytest.raises(ModelError):
        checkpoints.load(place)


def test_inspect_is_json(tmp_path):
    report = checkpoints.inspect(model(tmp_path / "m"))
    assert json.loads(json.dumps(report)) == report
