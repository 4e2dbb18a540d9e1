"""Store what nnU-Net v2's own functions make of small volumes, step by step.

``python tests/zoo/make_nnunet_steps.py``, in an environment with
``requirements/nnunet.txt``. Writes ``stored/nnunet_steps.npz``: ``facts`` (JSON: the
cases of each step) and the arrays ``<step>.<number>``; the inputs are those of
``nnunet_steps.py``.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

for name in ("raw", "preprocessed", "results"):
    os.environ[f"nnUNet_{name}"] = tempfile.gettempdir()

import nnunet_steps  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.inference.sliding_window_prediction import (  # noqa: E402
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero  # noqa: E402
from nnunetv2.preprocessing.normalization.default_normalization_schemes import (  # noqa: E402
    CTNormalization,
    RescaleTo01Normalization,
    RGBTo01Normalization,
    ZScoreNormalization,
)
from nnunetv2.preprocessing.resampling.default_resampling import (  # noqa: E402
    compute_new_shape,
    resample_data_or_seg_to_shape,
)

RESAMPLE: list[dict[str, Any]] = [
    # all axes at once, finer and coarser
    {"shape": [7, 9, 8], "old": [1.5, 1.2, 1.0], "new": [1.0, 1.4, 0.9]},
    {"shape": [7, 9, 8], "old": [1.5, 1.2, 1.0], "new": [2.0, 2.0, 2.0], "order": 1},
    # the image is far from cubic; then only the training is
    {"shape": [7, 9, 8], "old": [4.0, 1.0, 1.0], "new": [3.1, 0.8, 1.2]},
    {"shape": [9, 8, 7], "old": [1.0, 1.0, 1.0], "new": [0.8, 0.8, 3.5]},
    {"shape": [9, 7, 8], "old": [1.0, 4.0, 1.0], "new": [1.2, 3.0, 0.9]},
    # halves between two slices
    {"shape": [10, 6, 6], "old": [4.0, 1.0, 1.0], "new": [8.0, 1.0, 1.0]},
    {"shape": [9, 6, 6], "old": [5.0, 1.0, 1.0], "new": [7.5, 1.2, 1.0], "order": 1},
    # between slices with splines of order 1; two equally wide axes; as asked
    {"shape": [7, 6, 6], "old": [4.0, 1.0, 1.0], "new": [3.0, 1.2, 1.0], "order_z": 1},
    {"shape": [6, 7, 8], "old": [1.0, 4.0, 4.0], "new": [1.0, 3.0, 3.0]},
    {"shape": [7, 6, 6], "old": [4.0, 1.0, 1.0], "new": [3, 1, 1.2], "separate": False},
    {"shape": [7, 6, 6], "old": [2.0, 1.0, 1.0], "new": [3, 1, 1.2], "separate": True},
    # one plane of an image without depth
    {"shape": [1, 9, 8], "old": [999.0, 1.0, 1.0], "new": [999.0, 1.3, 0.8]},
]
SHAPES = [
    [[335, 195, 498], [0.55, 3.85, 3.1], [0.1, 0.7, 0.4]],
    [[5, 7, 9], [1.5, 0.5, 2.5], [1.0, 1.0, 1.0]],
    [[512, 133, 97], [0.7421875, 1.25, 5.0], [0.8, 0.8, 2.5]],
]
STARTS = [[[110, 64], 0.5], [[64, 64], 0.5], [[97, 28], 0.5], [[200, 31], 0.25]]
PATCHES = [[16, 32, 24], [28, 20], [5, 64, 7]]
CT = {
    "mean": 40.25,
    "std": 18.5,
    "percentile_00_5": 5.5,
    "percentile_99_5": 80.75,
}


def resampled(case: dict[str, Any]) -> np.ndarray:
    """Resample with nnU-Net's default function."""
    shape = compute_new_shape(case["shape"], case["old"], case["new"])
    found = resample_data_or_seg_to_shape(
        nnunet_steps.noise(2, case["shape"]).astype(np.float32),
        *(shape, case["old"], case["new"]),
        is_seg=False,
        order=case.get("order", 3),
        order_z=case.get("order_z", 0),
        force_separate_z=case.get("separate"),
    )
    return np.asarray(found, np.float32)


def normalised() -> dict[str, np.ndarray]:
    """Scale the cropped volume in each of nnU-Net's ways."""
    data, seg, _ = crop_to_nonzero(nnunet_steps.volume().astype(np.float32))
    schemes = {
        "ct": CTNormalization(False, CT),
        "masked": ZScoreNormalization(True, {}),
        "zscore": ZScoreNormalization(False, {}),
        "minmax": RescaleTo01Normalization(False, {}),
        "rgb": RGBTo01Normalization(False, {}),
    }
    return {
        f"normalise.{name}": scheme.run(data[0].copy(), seg[0])
        for name, scheme in schemes.items()
    }


def main() -> None:
    """Write ``stored/nnunet_steps.npz``."""
    data, seg, box = crop_to_nonzero(nnunet_steps.volume().astype(np.float32))
    arrays = {"crop.box": np.array(box), "crop.mask": seg[0] >= 0, **normalised()}
    arrays |= {f"resample.{n}": resampled(c) for n, c in enumerate(RESAMPLE)}
    arrays |= {
        f"shape.{n}": compute_new_shape(*c).astype(int) for n, c in enumerate(SHAPES)
    }
    for n, ((length, patch), overlap) in enumerate(STARTS):
        steps = compute_steps_for_sliding_window((length,), (patch,), 1 - overlap)
        arrays[f"starts.{n}"] = np.array(steps[0])
    for n, patch in enumerate(PATCHES):
        window = compute_gaussian(
            tuple(patch), 1 / 8, value_scaling_factor=10, device=torch.device("cpu")
        )
        arrays[f"window.{n}"] = window.numpy()
    facts = {
        **{"resample": RESAMPLE, "shape": SHAPES, "starts": STARTS},
        **{"window": PATCHES, "ct": CT},
    }
    np.savez_compressed(
        nnunet_steps.STORED, facts=np.array(json.dumps(facts)), **arrays
    )
    print(f"{nnunet_steps.STORED.stat().st_size:,} bytes, crop to {data.shape}")


if __name__ == "__main__":
    main()
