"""Instances from interior and boundary: a seeded watershed on the foreground.

The boundary class lies inside the outline of an object, so interior and boundary
together are the object and touching objects are parted by their boundaries (the scheme
of the DSB 2018 nuclei winners and of torch_em and bioimage.io nuclei models).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.measure import label
from skimage.segmentation import watershed

from napari_unet.errors import ModelError
from napari_unet.tasks.task import probabilities

if TYPE_CHECKING:
    from napari_unet.networks.spec import ModelSpec


class Instances:
    """A network with the softmax channels background, interior and boundary.

    Parameters
    ----------
    spec : ModelSpec
        Of the network.

    Raises
    ------
    ModelError
        If it does not have three channels.
    """

    falls_apart = True

    def __init__(self, spec: ModelSpec) -> None:
        if spec.out_channels != 3:
            raise ModelError(
                f"The model {spec.name} cannot tell objects apart",
                found=f"{spec.out_channels} output channels",
                expected="3: background, interior and boundary",
            )
        self._activation = spec.activation
        self._smallest = spec.smallest

    def check(self, kind: str) -> None:
        """Allow all kinds."""

    def classes(self) -> int:
        """Return 1: interior and boundary are one label."""
        return 1

    def labels(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """1 where interior and boundary together reach the threshold."""
        values = probabilities(logits, self._activation)
        return (values[1] + values[2] >= threshold).to(torch.uint8)

    def evidence(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Probabilities of interior and boundary, (2, *spatial)."""
        return probabilities(logits, self._activation)[1:]

    def evidence_bytes(self) -> int:
        """Bytes of `evidence` per pixel."""
        return 8

    def foreground(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Where interior and boundary together reach the threshold."""
        found: np.ndarray = evidence[0] + evidence[1] >= threshold
        return found

    def separate(self, evidence: np.ndarray, threshold: float) -> np.ndarray:
        """Flood the foreground from the interiors, most certain pixels first.

        Seeds are the parts where interior is the most probable class. A part of the
        foreground without a seed, such as an object so small that it is all boundary,
        becomes an object too. Objects smaller than the network's own `smallest` are
        left out.

        Parameters
        ----------
        evidence : numpy.ndarray
            (2, *spatial) float32, see `evidence`.
        threshold : float
            Probability from which a pixel is foreground.

        Returns
        -------
        numpy.ndarray
            (*spatial) int32, 0 and 1, 2 ... without gaps.
        """
        interior, boundary = evidence
        foreground = self.foreground(evidence, threshold)
        sure = foreground & (interior > boundary)
        sure &= interior > 1 - interior - boundary
        seeds, count = label(sure, background=0, return_num=True, connectivity=1)
        parts = label(foreground, background=0)
        seeded = np.zeros(int(parts.max()) + 1, bool)
        seeded[parts[seeds > 0]] = True
        missed = foreground & ~seeded[parts]
        objects: np.ndarray = watershed(-interior, seeds, mask=foreground & ~missed)
        objects[missed] = count + label(missed)[missed]
        return _without_small(objects, self._smallest).astype(np.int32, copy=False)


def _without_small(objects: np.ndarray, smallest: int) -> np.ndarray:
    """Take out objects of fewer pixels, and close the gaps between the numbers."""
    kept = np.bincount(objects.ravel()) >= smallest
    kept[0] = False
    if kept[1:].all():
        return objects
    names = np.where(kept, np.cumsum(kept), 0)
    renumbered: np.ndarray = names[objects]
    return renumbered
