"""Opening a checkpoint: from a path to a network, by what the file is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.checkpoints import sidecar
from napari_unet.checkpoints.container import Refusal, refuse, sniff
from napari_unet.checkpoints.draft import Draft, settings
from napari_unet.checkpoints.graphs import network_of
from napari_unet.checkpoints.native import METADATA, open_native
from napari_unet.checkpoints.packages import PACKAGES
from napari_unet.checkpoints.source import Folder, Zip, open_zip
from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.checkpoints.unwrap import check
from napari_unet.checkpoints.weights import read_weights
from napari_unet.files import digest
from napari_unet.networks.network import Network

if TYPE_CHECKING:
    from napari_unet.checkpoints.container import Kind
    from napari_unet.checkpoints.packages.base import Package
    from napari_unet.checkpoints.source import Source

_LEVELS_UP = 2
"""How far above a weights file the folder of its package is looked for."""


def load(model: str | Path | Network) -> Network:
    """Open a checkpoint of a known kind without running any code it holds.

    Parameters
    ----------
    model : path-like or Network
        A native checkpoint, a weights file of another program, a package (folder, zip
        archive or the weights inside it); a network is returned as it is.

    Returns
    -------
    Network
        On the CPU in float32. What the file does not say is in ``spec.assumed``.

    Raises
    ------
    ModelError
        If the file is damaged, refused or of no known kind, with the reason.
    """
    if isinstance(model, Network):
        return model
    path = Path(model)
    kind = sniff(path)
    if kind == "safetensors":
        native = _native(path)
        if native is not None:
            return native
    draft = _draft(path, kind)
    draft.path = path
    return network_of(draft)


def _draft(path: Path, kind: Kind) -> Draft:
    """Read a foreign file, with the package it is or belongs to."""
    if kind == "archive":
        with open_zip(path) as file:
            return _packaged(Zip(path, file))
    if kind in ("folder", "text"):
        return _packaged(Folder(path if kind == "folder" else path.parent))
    return _owned(path) or _bare(path)


def _bare(path: Path) -> Draft:
    """Read a weights file that stands alone."""
    words, found = read_weights(path, sidecar.read(path).get("weights", ""))
    draft = Draft(path, words, found, [digest(path)], settings(found))
    for package in PACKAGES:
        package.complete(draft)
    return draft


def _packaged(source: Source) -> Draft:
    """Read a package by what its names say it is."""
    package = _claimant(source)
    if package is not None:
        return package.draft(source)
    names = [n for n in source.names() if n.endswith((".pt", ".pth", ".ckpt"))]
    hint = f"Open a file inside it, such as {names[0]}." if names else ""
    kind = "a folder" if source.path.is_dir() else "a zip archive"
    raise refuse(source.path, Refusal(f"{kind} without a model description", hint))


def _claimant(source: Source) -> Package | None:
    return next((p for p in PACKAGES if p.claims(source)), None)


def _owned(path: Path) -> Draft | None:
    """Read a weights file with what the unpacked package around it says."""
    for folder in list(path.resolve().parents)[:_LEVELS_UP]:
        source, name = Folder(folder), path.resolve().relative_to(folder).as_posix()
        for package in PACKAGES:
            if package.claims(source) and package.holds(source, name):
                return package.draft(source, name)
    return None


def _native(path: Path) -> Network | None:
    """Open a native checkpoint, None if it is another program's safetensors."""
    data = path.read_bytes()
    tensors, metadata = read_tensors(data, path.name)
    if METADATA not in metadata:
        return None
    check(tensors, path.name)
    sha256 = hashlib.sha256(data).hexdigest()
    return open_native(tensors, metadata[METADATA], path.name, sha256)
