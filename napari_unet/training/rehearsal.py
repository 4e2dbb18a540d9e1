"""Rehearsal: what a network knew before is practised along with the strokes.

Strokes are painted where a network errs, so one that learns them alone unlearns what it
was right about; mixing in what it learned before prevents that (Robins, Connection
Science 7, 1995). A checkpoint may bring such patches in its `.reference` file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.training.coding import Coding
from napari_unet.training.sampling import PatchSampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.networks.network import Network
    from napari_unet.training.augmentation import Augmentation
    from napari_unet.training.references import Reference


@dataclass(frozen=True)
class Rehearsal:
    """Where the patches come from, and what their targets stand for."""

    sampler: PatchSampler
    coding: Coding


def rehearsal_of(
    references: Sequence[Reference],
    network: Network,
    patch: tuple[int, ...],
    how: Augmentation,
) -> Rehearsal | None:
    """Make the rehearsal of a network, None where no reference brings one.

    Parameters
    ----------
    references : sequence of Reference
        Those that fit the network; all that bring patches have targets of one kind.
    network : Network
        What learns.
    patch : tuple of int
        Size of the patches.
    how : Augmentation
        What happens to them.
    """
    bringing = [r for r in references if r.rehearsed]
    if not bringing:
        return None
    # Rounds of one base bring the same patches: those of the oldest are enough.
    chosen = bringing[0]
    images = [image.numpy() for image, _ in chosen.rehearsed]
    targets = [target.numpy() for _, target in chosen.rehearsed]
    sampler = PatchSampler(images, targets, patch, how)
    return Rehearsal(sampler, Coding.of(network.spec, chosen.kind))
