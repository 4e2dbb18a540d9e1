"""Volumes that nnU-Net v1 itself has segmented, and the models it used.

``stored/nnunet_v1_volume.npz``, written by ``make_nnunet_v1_volume.py``, holds

``<variant>.<fold>.<name>``
    Weights, float16, in the order of the state dict; the model has them in float32.
``<variant>.labels``
    What ``nnunet.inference.predict.predict_cases`` wrote, uint8, (Z, Y, X).

`write` makes the trained-model folder, with pickles as nnU-Net v1 leaves them; the
volumes are those of ``nnunet_volume.py``. nnU-Net is not imported here.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo import nnunet_volume

STORED = Path(__file__).parent / "stored" / "nnunet_v1_volume.npz"
FINAL = "model_final_checkpoint.model"
_CT = {"mean": 90.0, "sd": 45.0, "percentile_00_5": 20.0, "percentile_99_5": 205.0}
_PREPROCESSORS = {2: "PreprocessorFor2D", 3: "GenericPreprocessor"}
_POOLS, _KERNELS = [[1, 2, 2], [2, 2, 2]], [[1, 3, 3], [3, 3, 3], [3, 3, 3]]


@dataclass(frozen=True)
class Variant:
    """A model of nnU-Net v1 and an image for it.

    Attributes
    ----------
    name : str
    schemes : tuple of str
        Normalisation of each channel.
    masks : tuple of bool
        Whether each looks at what is not zero.
    spacing : tuple of float
        Pixel size of the image (mm, ZYX).
    target : tuple of float
        That of the training, in the order of the network.
    transpose : tuple of int
        Which axis of the image each one of the network is.
    patch : tuple of int
        Two numbers for a network of planes.
    folds : int
    trainer : str
    """

    name: str
    schemes: tuple[str, ...]
    masks: tuple[bool, ...]
    spacing: tuple[float, ...]
    target: tuple[float, ...]
    transpose: tuple[int, ...] = (0, 1, 2)
    patch: tuple[int, ...] = (16, 32, 32)
    folds: int = 1
    trainer: str = "nnUNetTrainerV2"

    def __str__(self) -> str:
        return self.name

    @property
    def image(self) -> np.ndarray:
        """The volume, (C, Z, Y, X), int16."""
        return nnunet_volume.image(len(self.schemes))

    @property
    def regions(self) -> bool:
        """Whether output channels are regions that overlap."""
        return self.trainer.endswith("Regions")

    @property
    def labels(self) -> np.ndarray:
        """What nnU-Net made of the volume."""
        with np.load(STORED) as stored:
            found: np.ndarray = stored[f"{self.name}.labels"]
            return found

    @property
    def weights(self) -> list[dict[str, torch.Tensor]]:
        """State dict of each fold."""
        with np.load(STORED) as stored:
            return [
                {
                    key.removeprefix(head): torch.from_numpy(stored[key]).float()
                    for key in stored.files
                    if key.startswith(head)
                }
                for head in (f"{self.name}.{fold}." for fold in range(self.folds))
            ]


VARIANTS = [
    # far from cubic pixels: Z is resampled by itself; two folds
    Variant(
        "anisotropic", ("nonCT",), (True,), (4.0, 1.1, 1.0), (3.5, 0.9, 0.9), folds=2
    ),
    # only the training is far from cubic, along an axis that is another in the image
    Variant(
        *("ct", ("CT", "nonCT"), (False, False), (2.0, 1.0, 1.1), (3.4, 1.7, 0.9)),
        transpose=(1, 0, 2),
    ),
    # plane by plane; regions with a sigmoid each
    Variant(
        *("regions", ("CT2",), (True,), (2.9, 1.0, 1.0), (9.0, 1.2, 1.1)),
        patch=(32, 32),
        trainer="nnUNetTrainerV2BraTSRegions",
    ),
]


def plans(variant: Variant) -> dict[str, Any]:
    """Return plans as nnU-Net v1's planner pickles them, with a small network."""
    ndim, channels = len(variant.patch), range(len(variant.schemes))
    stage = {
        "batch_size": 2,
        "num_pool_per_axis": [1, 2, 2][-ndim:],
        "patch_size": np.array(variant.patch),
        "median_patient_size_in_voxels": np.array(nnunet_volume.SHAPE),
        "current_spacing": np.array(variant.target),
        "original_spacing": np.array(variant.target),
        "do_dummy_2D_data_aug": False,
        "pool_op_kernel_sizes": [pool[-ndim:] for pool in _POOLS],
        "conv_kernel_sizes": [kernel[-ndim:] for kernel in _KERNELS],
    }
    intensities = {n: {**_CT, "local_props": {"case": dict(_CT)}} for n in channels}
    return {
        "num_stages": 1,
        "num_modalities": len(channels),
        "modalities": dict(enumerate(variant.schemes)),
        "normalization_schemes": OrderedDict(enumerate(variant.schemes)),
        "dataset_properties": {
            "all_classes": [1, 2],
            "intensityproperties": OrderedDict(intensities),
            "all_spacings": [np.array(variant.spacing)],
        },
        "preprocessed_data_folder": "/data/nnUNet_preprocessed/Task001_Balls",
        "num_classes": np.int64(2),
        "all_classes": [1, 2],
        "base_num_features": 4,
        "use_mask_for_norm": OrderedDict(enumerate(map(np.bool_, variant.masks))),
        "keep_only_largest_region": None,
        "min_region_size_per_class": None,
        "min_size_per_class": None,
        "transpose_forward": list(variant.transpose),
        "transpose_backward": [int(n) for n in np.argsort(variant.transpose)],
        "data_identifier": "nnUNetData_plans_v2.1",
        "plans_per_stage": OrderedDict({0: stage}),
        "preprocessor_name": _PREPROCESSORS[ndim],
        "conv_per_stage": 2,
    }


def saved(variant: Variant, fold: int, **changes: Any) -> OrderedDict[str, Any]:
    """Return what nnUNetTrainer.save_checkpoint pickles beside a checkpoint."""
    arguments = ("plans.pkl", fold, "output", "data", True, 0, True, False, True)
    return OrderedDict(
        {
            "init": arguments,
            "name": variant.trainer,
            "class": f"<class 'nnunet.{variant.trainer}'>",
            "plans": {**plans(variant), **changes},
        }
    )


def write(
    folder: Path, variant: Variant, weights: list[dict[str, Any]], **changes: Any
) -> Path:
    """Write a trained-model folder as nnU-Net v1 does; plans may be changed."""
    for fold, state in enumerate(weights):
        place = folder / f"fold_{fold}"
        place.mkdir(parents=True)
        checkpoint = {
            "epoch": 1000,
            "state_dict": OrderedDict(state),
            "optimizer_state_dict": None,
            "lr_scheduler_state_dict": None,
            "plot_stuff": ([0.5], [0.5], [], [0.5]),
            "best_stuff": (0.5, 0.5, 0.5),
        }
        torch.save(checkpoint, place / FINAL)
        beside = pickle.dumps(saved(variant, fold, **changes))
        (place / f"{FINAL}.pkl").write_bytes(beside)
    (folder / "plans.pkl").write_bytes(pickle.dumps(plans(variant)))
    return folder
