"""Volumes that nnU-Net's own predictor has segmented, and the models it used.

``stored/nnunet_volume.npz``, written by ``make_nnunet_volume.py``, holds

``facts``
    JSON: for each variant (``"anisotropic"``, ``"ct"``, ``"regions"``) the entries
    ``plans`` and ``dataset`` as in plans.json and dataset.json, ``configuration``,
    ``spacing`` of the image (mm, ZYX), ``mirror`` axes, number of ``folds``, and
    ``schema``: [name, first name of the same tensor] of the state dict.
``<variant>.<fold>.<name>``
    Weights, float16; the model has them in float32.
``<variant>.labels``
    What ``nnUNetPredictor.predict_single_npy_array`` gave, uint8, (Z, Y, X).

`write` makes the trained-model folder, `image` the volume (C, Z, Y, X). Run by
`variants` in a test; neither nnU-Net nor this package is imported here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

STORED = Path(__file__).parent / "stored" / "nnunet_volume.npz"
SHAPE = (22, 52, 46)
_BORDERS = (slice(3, -2), slice(5, -7), slice(4, -3))


@dataclass(frozen=True)
class Variant:
    """A model and what nnU-Net's predictor made with it of its volume."""

    name: str
    facts: dict[str, Any]
    weights: list[dict[str, torch.Tensor]]
    labels: np.ndarray

    @property
    def spacing(self) -> tuple[float, ...]:
        """Pixel size of the volume (mm, ZYX)."""
        return tuple(self.facts["spacing"])

    @property
    def image(self) -> np.ndarray:
        """The volume, (C, Z, Y, X), int16."""
        return image(len(self.facts["dataset"]["channel_names"]))


def variants() -> list[Variant]:
    """Return the stored variants."""
    with np.load(STORED) as stored:
        facts = json.loads(str(stored["facts"]))
        return [_variant(name, entry, stored) for name, entry in facts.items()]


def _variant(name: str, facts: dict[str, Any], stored: Any) -> Variant:
    weights = []
    for fold in range(facts["folds"]):
        known = {
            first: torch.from_numpy(stored[f"{name}.{fold}.{first}"]).float()
            for _, first in facts["schema"]
        }
        weights.append({key: known[first] for key, first in facts["schema"]})
    return Variant(name, facts, weights, stored[f"{name}.labels"])


def image(channels: int) -> np.ndarray:
    """Return a volume of bright balls in a grey body amid nothing, (C, Z, Y, X), int16.

    The zeros around the body are what nnU-Net crops; a hole of zeros lies in it.
    """
    inner = tuple(np.zeros(SHAPE)[_BORDERS].shape)
    volume = np.zeros((channels, *SHAPE), np.int16)
    inside = truth()[_BORDERS]
    for channel in range(channels):
        grain = _noise(channel, inner)
        bright = np.array([60, 120, 190])[inside] * (1 - 0.3 * channel) + 30 * channel
        volume[channel][_BORDERS] = np.round(bright + 12 * grain)
    volume[:, 8:11, 20:26, 20:25] = 0
    return volume


def truth() -> np.ndarray:
    """Return the classes that the volume shows, (Z, Y, X): 0, 1, and 2 inside 1."""
    z, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    classes = np.zeros(SHAPE, np.int64)
    for cz, cy, cx, size in ((8, 16, 14, 8), (14, 36, 30, 10), (7, 32, 12, 6)):
        away = np.sqrt((2.0 * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
        classes[away < size] = 1
        classes[away < size / 2] = 2
    return classes


def _noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform values of variance 1 from raw bits, which never change."""
    bits = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return (((bits >> np.uint64(11)) * 2.0**-53 - 0.5) * np.sqrt(12.0)).reshape(shape)


def write(folder: Path, facts: dict[str, Any], weights: list[dict[str, Any]]) -> Path:
    """Write a trained-model folder as nnU-Net does.

    Parameters
    ----------
    folder : pathlib.Path
        To be made.
    facts : dict
        As stored.
    weights : list of dict
        State dict of each fold.
    """
    for fold, state in enumerate(weights):
        place = folder / f"fold_{fold}"
        place.mkdir(parents=True)
        arguments = {
            "plans": facts["plans"],
            "configuration": facts["configuration"],
            "fold": fold,
            "dataset_json": facts["dataset"],
            "device": torch.device("cpu"),
        }
        checkpoint = {
            "network_weights": state,
            "_best_ema": np.float64(0.5),
            "init_args": arguments,
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": tuple(facts["mirror"]),
        }
        torch.save(checkpoint, place / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(facts["plans"]))
    (folder / "dataset.json").write_text(json.dumps(facts["dataset"]))
    return folder
