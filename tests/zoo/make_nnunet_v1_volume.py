"""Train small nnU-Net v1 models, segment a volume with nnU-Net v1, store both.

``PYTHONPATH=tests python tests/zoo/make_nnunet_v1_volume.py``, in an environment with
``requirements/nnunet.txt``; takes some minutes on a processor. The format is told in
``nnunet_v1_volume.py``. The models are trained so that their classes are as far apart
as those of real ones; random weights would give many ties, which rounding decides.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

for name in ("nnUNet_raw_data_base", "nnUNet_preprocessed", "RESULTS_FOLDER"):
    os.environ[name] = tempfile.gettempdir()

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402
from nnunet.inference.predict import predict_cases  # noqa: E402
from nnunet.preprocessing import cropping, preprocessing  # noqa: E402
from nnunet.training.model_restore import recursive_find_python_class  # noqa: E402
from torch.nn import functional  # noqa: E402

from zoo import nnunet_v1_volume, nnunet_volume  # noqa: E402
from zoo.nnunet_v1_volume import VARIANTS, Variant  # noqa: E402

STEPS = 250


def trainer(variant: Variant, place: Path) -> Any:
    """Return nnU-Net's trainer of a variant, with a fresh network."""
    import nnunet

    folder = str(Path(nnunet.__path__[0]) / "training" / "network_training")
    module = "nnunet.training.network_training"
    kind = recursive_find_python_class([folder], variant.trainer, module)
    made = kind("plans.pkl", 0, str(place), None, True, 0, True, False, False)
    made.plans = nnunet_v1_volume.plans(variant)
    made.process_plans(made.plans)
    made.initialize_network()
    return made


def prepared(variant: Variant) -> tuple[np.ndarray, np.ndarray]:
    """Return image and classes as nnU-Net prepares them for training."""
    plans = nnunet_v1_volume.plans(variant)
    classes = nnunet_volume.truth()[None].astype(np.float32)
    properties = {"original_spacing": np.array(variant.spacing)}
    data, seg, properties = cropping.ImageCropper.crop(
        variant.image.astype(np.float32), properties, classes
    )
    order = (0, *(n + 1 for n in variant.transpose))
    kind = getattr(preprocessing, plans["preprocessor_name"])
    steps = kind(
        *(plans["normalization_schemes"], plans["use_mask_for_norm"]),
        *(list(variant.transpose), plans["dataset_properties"]["intensityproperties"]),
    )
    data, seg, _ = steps.resample_and_normalize(
        data.transpose(order),
        np.array(variant.target),
        properties,
        seg.transpose(order),
    )
    return data, seg


def train(variant: Variant, fold: int, place: Path) -> dict[str, torch.Tensor]:
    """Train a network on the volume and return its weights, rounded to float16."""
    torch.manual_seed(fold)
    network = trainer(variant, place).network
    images, classes = (padded(a, variant.patch) for a in prepared(variant))
    steps = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(STEPS):
        steps.param_groups[0]["lr"] = 1e-2 * (1 - step / STEPS) ** 0.9
        batch, target = patches(images, classes, variant.patch)
        steps.zero_grad()
        loss(network(batch)[0], target, variant.regions).backward()
        steps.step()
    return {k: v.half().float() for k, v in network.state_dict().items()}


def padded(array: np.ndarray, patch: tuple[int, ...]) -> torch.Tensor:
    """Return (C, Z, Y, X) with zeros after it up to the size of a patch."""
    size = (1,) * (3 - len(patch)) + patch
    lacking = [max(p - n, 0) for p, n in zip(size, array.shape[1:], strict=True)]
    sides = [side for n in lacking[::-1] for side in (0, n)]
    return functional.pad(torch.from_numpy(np.asarray(array, np.float32)), sides)


def patches(
    image: torch.Tensor, classes: torch.Tensor, patch: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return four patches (N, C, *spatial) at random places, and their classes."""
    size = (1,) * (3 - len(patch)) + patch
    images, targets = [], []
    for _ in range(4):
        starts = [
            int(torch.randint(n - p + 1, ()))
            for n, p in zip(image.shape[1:], size, strict=True)
        ]
        spans = (slice(s, s + p) for s, p in zip(starts, size, strict=True))
        where = (slice(None), *spans)
        axes = [a for a in (1, 2, 3) if torch.rand(()) < 0.5]
        images.append(image[where].flip(axes).reshape(-1, *patch))
        targets.append(classes[where].flip(axes).reshape(*patch))
    return torch.stack(images), torch.stack(targets).clamp(min=0).long()


def loss(logits: torch.Tensor, target: torch.Tensor, regions: bool) -> torch.Tensor:
    """Return the cross entropy of classes, or of each region."""
    if not regions:
        return functional.cross_entropy(logits, target)
    wanted = torch.stack([target > n for n in range(3)], 1).float()
    return functional.binary_cross_entropy_with_logits(logits, wanted)


def predict(variant: Variant, weights: list[dict[str, Any]], place: Path) -> np.ndarray:
    """Segment the volume as nnU-Net does, from a model folder and image files."""
    folder = nnunet_v1_volume.write(place / "model", variant, weights)
    files = []
    for number, channel in enumerate(variant.image):
        image = sitk.GetImageFromArray(channel)
        image.SetSpacing(variant.spacing[::-1])
        files.append(str(place / f"case_{number:04}.nii.gz"))
        sitk.WriteImage(image, files[-1])
    found = str(place / "found.nii.gz")
    folds = tuple(range(variant.folds))
    predict_cases(
        *(str(folder), [files], [found], folds, False, 1, 1),
        mixed_precision=False,
        checkpoint_name="model_final_checkpoint",
    )
    return sitk.GetArrayFromImage(sitk.ReadImage(found)).astype(np.uint8)


def main() -> None:
    """Write ``stored/nnunet_v1_volume.npz``."""
    arrays: dict[str, Any] = {}
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            weights = [train(variant, fold, place) for fold in range(variant.folds)]
            labels = predict(variant, weights, place)
        hit = (labels == nnunet_volume.truth()).mean()
        print(f"{variant}: {hit:.2%} of voxels as painted, {np.unique(labels)}")
        for fold, state in enumerate(weights):
            for key, value in state.items():
                arrays[f"{variant}.{fold}.{key}"] = value.half().numpy()
        arrays[f"{variant}.labels"] = labels
    np.savez_compressed(nnunet_v1_volume.STORED, **arrays)


if __name__ == "__main__":
    main()
