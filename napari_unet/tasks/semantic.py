"""Semantic segmentation: a class per pixel, objects by connected components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.measure import label

from napari_unet.tasks.task import probabilities

if TYPE_CHECKING:
    from napari_unet.networks.spec import ModelSpec


def class_names(spec: ModelSpec) -> dict[int, str]:
    """Name of each class that a label image may hold, "" where it is unknown.

    Parameters
    ----------
    spec : ModelSpec
        Of the network; one that finds objects has a single class.
    """
    if spec.task != "semantic":
        return {1: ""}
    recipe = spec.recipe
    first = int(spec.out_channels == 1 or spec.activation == "sigmoid")
    plain = tuple(range(first, first + spec.out_channels))
    ids = (recipe and (recipe.region_labels or recipe.label_values)) or plain
    names = spec.class_names or ("",) * len(ids)
    return {i: name for i, name in zip(ids, names, strict=True) if i > 0}


class Semantic:
    """A network with one channel per class.

    Softmax: channel 0 is background and channel k label k; with two channels the
    foreground starts at the threshold. Sigmoid: channel k is label k + 1 where it is
    the largest and reaches the threshold. A network whose module gives probabilities
    itself is read as softmax, or as sigmoid where it has one channel. A recipe may give
    the channels other labels, or have them painted one over another.

    Parameters
    ----------
    spec : ModelSpec
        Of the network.
    """

    falls_apart = True

    def __init__(self, spec: ModelSpec) -> None:
        self._activation = spec.activation
        self._channels = spec.out_channels
        self._exclusive = spec.out_channels > 1 and spec.activation != "sigmoid"
        self._painted = spec.recipe.region_labels if spec.recipe else ()
        values = spec.recipe.label_values if spec.recipe else ()
        self._values = () if values == tuple(range(len(values))) else values

    def check(self, kind: str) -> None:
        """Allow all kinds."""

    def classes(self) -> int:
        """Return the largest label id."""
        named = self._painted or self._values
        return max(named) if named else self._channels - self._exclusive

    def labels(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Class ids (*spatial) of logits (C, *spatial)."""
        if self._painted:
            return self._paint(probabilities(logits, self._activation) > threshold)
        ids = self._ids(logits, threshold)
        if not self._values:
            return ids
        return torch.tensor(self._values, device=ids.device)[ids.long()]

    def _paint(self, regions: torch.Tensor) -> torch.Tensor:
        """Paint the labels of regions (C, *spatial), the later over the earlier."""
        painted = torch.zeros(regions.shape[1:], dtype=torch.int64).to(regions.device)
        for region, label_id in zip(regions, self._painted, strict=True):
            painted[region] = label_id
        return painted

    def _ids(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Class ids (*spatial) by the number of their channel."""
        if self._exclusive and self._channels > 2:
            return logits.argmax(0)
        values = probabilities(logits, self._activation)
        if self._exclusive:
            return (values[1] >= threshold).to(torch.uint8)
        best, channel = values.max(0)
        return torch.where(best >= threshold, channel + 1, 0)

    def evidence(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Class ids (1, *spatial)."""
        ids = self.labels(logits, threshold)
        return ids.to(torch.uint8 if self.classes() <= 255 else torch.int32)[None]

    def evidence_bytes(self) -> int:
        """Bytes of `evidence` per pixel."""
        return 1 if self.classes() <= 255 else 4

    def foreground(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Where there is a class."""
        found: np.ndarray = evidence[0] > 0
        return found

    def separate(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Part into connected components of one class; corners connect."""
        objects: np.ndarray = label(evidence[0], background=0)
        return objects.astype(np.int32, copy=False)
