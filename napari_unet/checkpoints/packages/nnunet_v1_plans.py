"""What nnU-Net v1's plans and trainer say, in our words.

Follows nnunet 1.7.1 (nnUNetTrainer.process_plans, GenericPreprocessor,
segmentation_export). Names of classes are compared with lists and never looked up.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.families.ensemble import AVERAGED
from napari_unet.checkpoints.families.nnunet_v1 import SETTINGS
from napari_unet.checkpoints.packages.nnunet_plans import Described
from napari_unet.checkpoints.unwrap import plain
from napari_unet.errors import ModelError
from napari_unet.images.intensity import Normalization
from napari_unet.networks.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN = "nnUNetTrainer"
_STAGE = 5
"""Place of the stage among the trainer's arguments."""
_WANTED = (
    *("plans_per_stage", "num_classes", "num_modalities", "normalization_schemes"),
    *("use_mask_for_norm", "transpose_forward", "preprocessor_name"),
    *("segmentation_export_params", "preprocessed_data_folder"),
)
_NUMBERS = ("mean", "sd", "percentile_00_5", "percentile_99_5")
_SPLINES = {
    **{"GenericPreprocessor": 3, "GenericPreprocessor_linearResampling": 1},
    **{"PreprocessorFor2D": 3, "PreprocessorFor3D_LeaveOriginalZSpacing": 3},
    **{"PreprocessorFor3D_NoResampling": 3},
}
"""Preprocessors that are followed, with the order of their splines."""
_IN_PLANE = ("PreprocessorFor2D", "PreprocessorFor3D_LeaveOriginalZSpacing")
_NEVER = "PreprocessorFor3D_NoResampling"
_EXPORT = (None, 1, 0)
_SLOPES = {"ReLU": 0.0, "2en1": 0.2}
_ACTIVATION_FIRST = ("convReLUIN", "convlReLUIN")
_UNBUILT = ("GN", "FRN", "GeLU", "Mish", "NoNormalization", "ResencUNet")
_UNFLIPPED = ("noMirroring", "noDA", "NoDA")
_BRATS = "nnUNetTrainerV2BraTSRegions"
_REGIONS = {"whole tumour": 1, "tumour core": 2, "enhancing tumour": 3}


def picked(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is needed of a ``.model.pkl``, JSON-able.

    Parameters
    ----------
    saved : mapping
        Its tree: ``name`` of the trainer, ``init``, its arguments, and ``plans``.

    Raises
    ------
    KeyError, TypeError, AttributeError
        If it is none.
    """
    plans = saved["plans"]
    intensities = plans["dataset_properties"].get("intensityproperties") or {}
    return {
        "name": plain(saved.get("name")),
        "init": plain(saved.get("init")),
        **{key: plain(plans[key]) for key in _WANTED if key in plans},
        "intensities": {
            str(key): {name: plain(found.get(name)) for name in _NUMBERS}
            for key, found in intensities.items()
        },
    }


def describe(plans: Mapping[str, Any]) -> Described:
    """Read the plans of a trained model.

    Parameters
    ----------
    plans : mapping
        As `picked` gives them.

    Raises
    ------
    ModelError
        If the model needs what is not done here: the result of another network, layers
        or steps that are not nnU-Net's usual ones.
    KeyError, TypeError, ValueError
        If an entry is missing or of another kind.
    """
    trainer = str(plans.get("name") or _OWN)
    _refuse_unbuilt(trainer)
    number, stage = _stage(plans)
    patch = tuple(int(n) for n in stage["patch_size"])
    names = _regions(trainer)
    activation = "sigmoid" if names else "softmax"
    heads = len(names) or int(plans["num_classes"]) + 1
    flips = not any(word in trainer for word in _UNFLIPPED)
    fields = {
        "name": _name(plans, patch, number),
        "activation": activation,
        "class_names": tuple(names),
        "normalization": _normalizations(plans),
        "recipe": Recipe(
            procedure="nnunet_v1",
            patch=patch,
            mirror=tuple(range(len(patch))) if flips else (),
            crop_to_nonzero=True,
            transpose=_transpose(plans),
            **_resampling(plans, stage, len(patch)),
            region_labels=tuple(names.values()),
            label_values=() if names else tuple(range(heads)),
        ),
    }
    hints = {AVERAGED: activation, SETTINGS: _settings(trainer)}
    notes = () if flips else ("trained without flips, and run without them",)
    return Described(hints, fields, notes)


def _refuse_unbuilt(trainer: str) -> None:
    """Refuse a cascade and trainers of networks with other layers."""
    if "Cascade" in trainer:
        raise ModelError(
            "The model is the second stage of a cascade",
            found="a network that needs the result of 3d_lowres",
            expected="a network that needs the image alone",
            hint="Open 3d_fullres, 3d_lowres or 2d of the same task.",
        )
    unbuilt = [word for word in _UNBUILT if word in trainer.split("_")]
    if unbuilt:
        raise ModelError(
            "The model has layers that are not built here",
            found=f"the trainer {trainer}",
            expected="instance or batch norm and (leaky) ReLU",
        )


def _stage(plans: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the stage that was trained: its number from the last, and its plans."""
    stages = plans["plans_per_stage"]
    arguments = plans.get("init") or ()
    chosen = arguments[_STAGE] if len(arguments) > _STAGE else None
    if chosen is None and len(stages) > 1:
        raise ValueError(f"{len(stages)} stages, and none of them named")
    key = str(next(iter(stages)) if chosen is None else chosen)
    return len(stages) - 1 - list(stages).index(key), stages[key]


def _name(plans: Mapping[str, Any], patch: tuple[int, ...], before: int) -> str:
    """Return the task and the configuration."""
    task = PurePosixPath(str(plans.get("preprocessed_data_folder", ""))).name
    full = "3d_lowres" if before else "3d_fullres"
    return f"{task} {'2d' if len(patch) == 2 else full}".strip()


def _regions(trainer: str) -> dict[str, int]:
    """Return regions that overlap, by name, with the labels painted for them."""
    is_brats = trainer.startswith(_BRATS) and trainer != f"{_BRATS}_BN"
    return _REGIONS if is_brats else {}


def _settings(trainer: str) -> dict[str, Any]:
    """Return what a trainer of nnU-Net decides and the weights do not show."""
    if not trainer.startswith(_OWN):
        return {}
    words = trainer.split("_")
    return {
        "downsampling": "stride",
        "slope": next((s for word, s in _SLOPES.items() if word in words), 0.01),
        "order": "act-norm" if set(words) & set(_ACTIVATION_FIRST) else "norm-act",
    }


def _normalizations(plans: Mapping[str, Any]) -> tuple[Normalization, ...]:
    """Return the normalisation of each input channel."""
    return tuple(
        _normalization(
            str(plans["normalization_schemes"][str(n)]),
            bool(plans["use_mask_for_norm"][str(n)]),
            plans["intensities"].get(str(n), {}),
        )
        for n in range(int(plans["num_modalities"]))
    )


def _normalization(
    scheme: str, mask: bool, intensities: Mapping[str, Any]
) -> Normalization:
    """Return one normalisation; names that are not known mean z-score there."""
    if scheme == "noNorm":
        return Normalization(kind="none")
    if scheme not in ("CT", "CT2"):
        return Normalization(kind="zscore", eps=1e-8, masked=mask)
    own = scheme == "CT2"
    return Normalization(
        kind="ct",
        masked=mask,
        own=own,
        clip_low=intensities["percentile_00_5"],
        clip_high=intensities["percentile_99_5"],
        mean=0.0 if own else intensities["mean"],
        std=1.0 if own else intensities["sd"],
    )


def _transpose(plans: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the order of the axes in the network, empty if it is ZYX."""
    order = tuple(int(n) for n in plans.get("transpose_forward") or (0, 1, 2))
    return () if order == (0, 1, 2) else order


def _resampling(
    plans: Mapping[str, Any], stage: Mapping[str, Any], ndim: int
) -> dict[str, Any]:
    """Return the fields of the recipe about pixel size."""
    usual = "PreprocessorFor2D" if ndim == 2 else "GenericPreprocessor"
    name = plans.get("preprocessor_name") or usual
    if name not in _SPLINES:
        raise ModelError(
            "The plans name a preprocessor that is not followed here",
            found=str(name),
            expected=", ".join(_SPLINES),
        )
    told = plans.get("segmentation_export_params") or {}
    keys = ("force_separate_z", "interpolation_order", "interpolation_order_z")
    separate, order, order_z = (
        told.get(key, usual) for key, usual in zip(keys, _EXPORT, strict=True)
    )
    if (separate, order_z) != (None, 0):
        raise ValueError("images and results are resampled along Z in different ways")
    spacing = stage["current_spacing"][1 if name in _IN_PLANE else 0 :]
    return {
        "spacing": () if name == _NEVER else tuple(float(s) for s in spacing),
        "order_data": _SPLINES[name],
        "order_logits": order,
    }
