"""Train small nnU-Net v2 models, segment a volume with nnUNetPredictor, store both.

``python tests/zoo/make_nnunet_volume.py``, in an environment with
``requirements/nnunet.txt``; takes some minutes on a processor. The format is told in
``nnunet_volume.py``. The models are trained so that their classes are as far apart as
those of real ones; random weights would give many ties, which rounding decides.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from pathlib import Path
from typing import Any

for name in ("raw", "preprocessed", "results"):
    os.environ[f"nnUNet_{name}"] = tempfile.gettempdir()
os.environ["nnUNet_def_n_proc"] = "1"

import nnunet_volume  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.preprocessing.preprocessors.default_preprocessor import (  # noqa: E402
    DefaultPreprocessor,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

STEPS = 250
ARCHITECTURES = "dynamic_network_architectures.architectures.unet"
LABELS = {"background": 0, "ball": 1, "core": 2}
REGIONS = {"background": 0, "ball": [1, 2], "core": 2}
CT = {"mean": 90.0, "std": 45.0, "percentile_00_5": 20.0, "percentile_99_5": 205.0}


def configuration(ndim: int, spacing: list[float], **changes: Any) -> dict[str, Any]:
    """Return a configuration as nnU-Net's planner writes it, with a small network."""
    flat = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    operations = f"torch.nn.modules.{{}}{ndim}d"
    arguments = {
        "n_stages": 3,
        "features_per_stage": [6, 8, 10],
        "conv_op": operations.format("conv.Conv"),
        "kernel_sizes": [[1, 3, 3][-ndim:], [3] * ndim, [3] * ndim],
        "strides": [[1] * ndim, [1, 2, 2][-ndim:], [2] * ndim],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": operations.format("instancenorm.InstanceNorm"),
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resample = "resample_data_or_seg_to_shape"
    settings = {
        "data_identifier": "nnUNetPlans",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 32, 32][-ndim:],
        "spacing": spacing,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [True],
        "resampling_fn_data": resample,
        "resampling_fn_data_kwargs": {**flat, "order": 3},
        "resampling_fn_seg": resample,
        "resampling_fn_seg_kwargs": {**flat, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": resample,
        "resampling_fn_probabilities_kwargs": {**flat, "order": 1},
        "batch_dice": False,
        **changes,
    }
    kind = settings.pop("kind", "PlainConvUNet")
    if kind == "ResidualEncoderUNet":
        arguments["n_blocks_per_stage"] = arguments.pop("n_conv_per_stage")
    settings["architecture"] = {
        "network_class_name": f"{ARCHITECTURES}.{kind}",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    return settings


def variant(
    name: str, settings: dict[str, Any], transpose: list[int], **facts: Any
) -> dict[str, Any]:
    """Return what is stored of a variant besides the weights."""
    channels = len(settings["normalization_schemes"])
    plans = {
        "dataset_name": "Dataset001_Balls",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": transpose,
        "transpose_backward": [int(n) for n in np.argsort(transpose)],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(n): CT for n in range(channels)
        },
        "configurations": {name: settings},
    }
    dataset = {
        "channel_names": {str(n): f"channel {n}" for n in range(channels)},
        "labels": LABELS,
        "numTraining": 1,
        "file_ending": ".nii.gz",
        **facts.pop("dataset", {}),
    }
    return {"plans": plans, "dataset": dataset, "configuration": name, **facts}


VARIANTS = {
    # far from cubic pixels: Z is resampled by itself; two folds; all axes mirrored
    "anisotropic": variant(
        "3d_fullres",
        configuration(3, [3.5, 0.9, 0.9]),
        [0, 1, 2],
        spacing=[4.0, 1.1, 1.0],
        mirror=[0, 1, 2],
        folds=2,
    ),
    # nearly cubic: resampled in one go; axes in another order; two channels
    "ct": variant(
        "3d_fullres",
        configuration(
            *(3, [1.2, 1.1, 2.0]),
            kind="ResidualEncoderUNet",
            normalization_schemes=["CTNormalization", "ZScoreNormalization"],
            use_mask_for_norm=[False, False],
        ),
        [1, 2, 0],
        spacing=[2.2, 1.0, 1.0],
        mirror=[0, 1],
        folds=1,
    ),
    # plane by plane; regions with a sigmoid each
    "regions": variant(
        "2d",
        configuration(2, [1.2, 1.1]),
        [0, 1, 2],
        spacing=[3.0, 1.0, 1.0],
        mirror=[0, 1],
        folds=1,
        dataset={"labels": REGIONS, "regions_class_order": [1, 2]},
    ),
}


def train(facts: dict[str, Any], fold: int) -> dict[str, torch.Tensor]:
    """Train a network on the volume and return its weights, rounded to float16."""
    torch.manual_seed(fold)
    plans = PlansManager(copy.deepcopy(facts["plans"]))
    settings = plans.get_configuration(facts["configuration"])
    labels = plans.get_label_manager(facts["dataset"])
    image = nnunet_volume.image(len(facts["dataset"]["channel_names"]))
    data, seg, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        image.astype(np.float32),
        nnunet_volume.truth()[None].astype(np.int16),
        {"spacing": facts["spacing"]},
        *(plans, settings, facts["dataset"]),
    )
    network = nnUNetTrainer.build_network_architecture(
        *(plans, settings, len(image), labels.num_segmentation_heads), False
    )
    images, classes = (
        padded(data, settings.patch_size),
        padded(seg, settings.patch_size),
    )
    steps = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(STEPS):
        steps.param_groups[0]["lr"] = 1e-2 * (1 - step / STEPS) ** 0.9
        batch, target = patches(images, classes, settings.patch_size)
        steps.zero_grad()
        loss(network(batch), target, labels.has_regions).backward()
        steps.step()
    state = network.state_dict()
    return {k: v.half().float() for k, v in state.items()}


def padded(array: np.ndarray, patch: list[int]) -> torch.Tensor:
    """Return (C, Z, Y, X) with zeros after it up to the size of a patch."""
    lacking = [
        max(p - n, 0) for p, n in zip(patch[::-1], array.shape[::-1], strict=False)
    ]
    sides = [side for n in lacking for side in (0, n)]
    tensor = torch.from_numpy(np.asarray(array, np.float32))
    return torch.nn.functional.pad(tensor, sides)


def patches(
    image: torch.Tensor, classes: torch.Tensor, patch: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return four patches (N, C, *spatial) at random places, and their classes."""
    size = [1] * (3 - len(patch)) + list(patch)
    images, targets = [], []
    for _ in range(4):
        starts = [
            int(torch.randint(n - p + 1, ()))
            for n, p in zip(image.shape[1:], size, strict=True)
        ]
        where = (
            slice(None),
            *(slice(s, s + p) for s, p in zip(starts, size, strict=True)),
        )
        axes = [a for a in (1, 2, 3) if torch.rand(()) < 0.5]
        images.append(image[where].flip(axes).reshape(-1, *patch))
        targets.append(classes[where].flip(axes).reshape(*patch))
    return torch.stack(images), torch.stack(targets).clamp(min=0).long()


def loss(logits: torch.Tensor, target: torch.Tensor, regions: bool) -> torch.Tensor:
    """Return the cross entropy of classes, or of each region."""
    if not regions:
        return torch.nn.functional.cross_entropy(logits, target)
    wanted = torch.stack([target > 0, target > 1], 1).float()
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)


def predict(facts: dict[str, Any], weights: list[dict[str, Any]]) -> np.ndarray:
    """Segment the volume as nnU-Net does, from a model folder."""
    predictor = nnUNetPredictor(
        device=torch.device("cpu"), use_mirroring=True, allow_tqdm=False
    )
    with tempfile.TemporaryDirectory() as place:
        folder = nnunet_volume.write(Path(place) / "model", facts, weights)
        predictor.initialize_from_trained_model_folder(
            str(folder), tuple(range(facts["folds"])), "checkpoint_final.pth"
        )
    image = nnunet_volume.image(len(facts["dataset"]["channel_names"]))
    found = predictor.predict_single_npy_array(
        image.astype(np.float32), {"spacing": facts["spacing"]}
    )
    return np.asarray(found, np.uint8)


def main() -> None:
    """Write ``stored/nnunet_volume.npz``."""
    arrays: dict[str, Any] = {}
    for name, facts in VARIANTS.items():
        weights = [train(facts, fold) for fold in range(facts["folds"])]
        labels = predict(facts, weights)
        assert len(np.unique(labels)) == 3, f"{name}: {np.unique(labels)}"
        hit = (labels == nnunet_volume.truth()).mean()
        print(f"{name}: {hit:.2%} of voxels as painted")
        facts["schema"] = schema(weights[0], facts)
        firsts = sorted({first for _, first in facts["schema"]})
        for fold, state in enumerate(weights):
            for key in firsts:
                arrays[f"{name}.{fold}.{key}"] = state[key].half().numpy()
        arrays[f"{name}.labels"] = labels
    facts_text = np.array(json.dumps(VARIANTS))
    np.savez_compressed(nnunet_volume.STORED, facts=facts_text, **arrays)


def schema(state: dict[str, torch.Tensor], facts: dict[str, Any]) -> list[list[str]]:
    """Return the names of a state dict, each with the first of the same tensor."""
    plans = PlansManager(copy.deepcopy(facts["plans"]))
    settings = plans.get_configuration(facts["configuration"])
    channels = len(facts["dataset"]["channel_names"])
    heads = plans.get_label_manager(facts["dataset"]).num_segmentation_heads
    network = nnUNetTrainer.build_network_architecture(
        plans, settings, channels, heads, False
    )
    first: dict[int, str] = {}
    own = network.state_dict()
    assert list(own) == list(state)
    return [[key, first.setdefault(v.data_ptr(), key)] for key, v in own.items()]


if __name__ == "__main__":
    main()
