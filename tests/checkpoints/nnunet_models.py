"""Trained nnU-Net models with small networks, written as nnU-Net writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from zoo import recipe

from napari_unet.checkpoints.families.nnunet import NNUNetFamily
from napari_unet.checkpoints.families.nnunet_modules import NNUNet, NNUNetSpec

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
CT = {"mean": 90.0, "std": 40.0, "percentile_00_5": -50.0, "percentile_99_5": 200.0}


def spec(**changes: Any) -> NNUNetSpec:
    """Shape of the network that `plans` describes."""
    return NNUNetSpec(
        **{
            **{"ndim": 3, "in_channels": 2, "out_channels": 3, "widths": [3, 4]},
            **{"strides": [[1, 1, 1], [1, 2, 2]], "kernels": [[1, 3, 3], [3, 3, 3]]},
            **{"convs": [1, 2], "decoder_convs": [1]},
            **changes,
        }
    )


def plans(**changes: Any) -> dict[str, Any]:
    """Plans of two configurations, one of which inherits from the other."""
    resampling = {"is_seg": False, "order_z": 0, "force_separate_z": None}
    settings = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [8, 16, 16],
        "spacing": [3.0, 0.5, 0.5],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, True],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "order": 3},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet."
            "PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [3, 4],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
                "strides": [[1, 1, 1], [1, 2, 2]],
                "n_conv_per_stage": [1, 2],
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changes,
    }
    return {
        "dataset_name": "Dataset007_Little",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": CT, "1": CT},
        "configurations": {
            "3d_base": settings,
            "3d_fullres": {"inherits_from": "3d_base"},
            "2d": {"inherits_from": "3d_base"},
        },
    }


def dataset(**changes: Any) -> dict[str, Any]:
    """dataset.json with two labels and one that is ignored."""
    return {
        "channel_names": {"0": "CT", "1": "MRI"},
        "labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **changes,
    }


def weights(fold: int, shape: NNUNetSpec) -> dict[str, torch.Tensor]:
    """Weights of a fold, under nnU-Net's names, each layer up to four times."""
    module = NNUNet(shape)
    own = module.state_dict()
    schema = [(f"{fold}.{k}", tuple(v.shape), "float32") for k, v in own.items()]
    filled = recipe.fill(schema)
    values = {k: torch.from_numpy(filled[f"{fold}.{k}"]) for k in own}
    return NNUNetFamily().emit(values, shape.model_dump(mode="json"))


def checkpoint(
    path: Path,
    fold: int,
    *,
    shape: NNUNetSpec | None = None,
    configuration: str = "3d_fullres",
    written_plans: dict[str, Any] | None = None,
    written_dataset: dict[str, Any] | None = None,
    mirror: tuple[int, ...] | None = (0, 1, 2),
) -> dict[str, torch.Tensor]:
    """Save what nnUNetTrainer.save_checkpoint does, and return the weights."""
    state = weights(fold, shape or spec())
    scores = [np.float64(0.5 + 0.001 * n) for n in range(400)]
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {
        "network_weights": state,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
        "grad_scaler_state": None,
        "logging": {
            "ema_fg_dice": scores,
            "dice_per_class_or_region": [[s] * 2 for s in scores],
        },
        "_best_ema": np.float32(0.8),
        "current_epoch": 400,
        "init_args": {
            "plans": written_plans or plans(),
            "configuration": configuration,
            "fold": fold,
            "dataset_json": written_dataset or dataset(),
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": mirror,
    }
    torch.save(saved, path)
    return state


def folder(
    place: Path, folds: tuple[int, ...] = (0, 1), kind: str = "final", **options: Any
) -> list[dict[str, torch.Tensor]]:
    """Write a model folder and return the weights of its folds."""
    place.mkdir(parents=True, exist_ok=True)
    facts = options.get("written_plans") or plans()
    (place / "plans.json").write_text(json.dumps(facts))
    labels = options.get("written_dataset") or dataset()
    (place / "dataset.json").write_text(json.dumps(labels))
    return [
        checkpoint(place / f"fold_{n}" / f"checkpoint_{kind}.pth", n, **options)
        for n in folds
    ]
