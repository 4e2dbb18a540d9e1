"""Opening a stored case as the plugin opens a file, without the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.checkpoints.draft import Draft, finish
from napari_unet.checkpoints.unwrap import Found

if TYPE_CHECKING:
    from napari_unet.networks.network import Network
    from zoo.stored_cases import Stored


def opened(case: Stored) -> tuple[Network, float]:
    """Return the network of a case, and how far its output is from the library's."""
    network = open_with(case, case.facts["settings"])
    with torch.inference_mode():
        return network, case.difference(network.module(case.image))


def open_with(case: Stored, settings: dict[str, Any]) -> Network:
    """Open a case with some of its architecture settings told by a person."""
    draft = Draft(
        path=Path(f"{case}.pth"),
        container="PyTorch file",
        found=Found(case.state),
        digests=["0" * 64],
        hints=case.facts["hints"],
        told={"architecture": settings} if settings else {},
    )
    return finish(draft)
