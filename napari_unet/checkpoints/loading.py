"""Opening a checkpoint: from a path to a network, by what the file is."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints import bioimageio
from napari_unet.checkpoints.archive import Folder, Zip, open_zip
from napari_unet.checkpoints.container import Kind, sniff
from napari_unet.checkpoints.draft import Draft, Tests, finish
from napari_unet.checkpoints.native import METADATA, open_native
from napari_unet.checkpoints.quarantine import read_foreign
from napari_unet.checkpoints.tensorfile import read_tensors
from napari_unet.checkpoints.unwrap import Found, check, to_float32
from napari_unet.files import digest
from napari_unet.networks.network import Network
from napari_unet.networks.spec import Assumption

if TYPE_CHECKING:
    from napari_unet.checkpoints.archive import Source

_MOST_WEIGHTS = 1 << 34


def load(model: str | Path | Network) -> Network:
    """Open a checkpoint of a known kind without running any code it holds.

    Parameters
    ----------
    model : path-like or Network
        A native checkpoint, a PyTorch or safetensors file, a bioimage.io package
        (folder, zip or the weights inside it); a network is returned as it is.

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
    if kind == "package":
        return finish(_packaged(path))
    folder = bioimageio.owner(path)
    if folder is not None:
        return finish(_from_package(path, folder))
    if kind == "safetensors":
        return _safetensors(path)
    found = read_foreign(path, kind)
    return finish(Draft(path, _WORDS[kind], found, [digest(path)], _settings(found)))


_WORDS: dict[Kind, str] = {
    "torch": "PyTorch file",
    "legacy": "PyTorch file from before 1.6",
    "safetensors": "safetensors",
}


def _safetensors(path: Path) -> Network:
    """Open a native checkpoint, or bare tensors."""
    data = path.read_bytes()
    tensors, metadata = read_tensors(data, path.name)
    sha256 = hashlib.sha256(data).hexdigest()
    if METADATA in metadata:
        check(tensors, path.name)
        return open_native(tensors, metadata[METADATA], path.name, sha256)
    return finish(Draft(path, "safetensors", _bare(tensors, path.name), [sha256]))


def _bare(tensors: dict[str, Any], name: str) -> Found:
    """Check tensors that came without a wrapper."""
    check(tensors, name)
    found = Found(tensors)
    to_float32(found)
    return found


def _packaged(path: Path) -> Draft:
    """Open a package: a folder, its description, or a zip archive."""
    if path.is_dir():
        return _from_package(path, Folder(path))
    if path.suffix in (".yaml", ".yml"):
        return _from_package(path, Folder(path.parent))
    with open_zip(path) as file:
        return _from_package(path, Zip(path, file))


def _from_package(path: Path, source: Source) -> Draft:
    package = bioimageio.describe(source)
    data = bioimageio.verified(source, package.weights, package.sha256, _MOST_WEIGHTS)
    kind, found = _weights(data, package.weights)
    found.notes += package.notes
    described = source.read(source.description() or "", _MOST_WEIGHTS)
    draft = Draft(
        path,
        f"bioimage.io package, {_WORDS[kind]}",
        found,
        [hashlib.sha256(part).hexdigest() for part in (data, described)],
        {**_settings(found), **package.hints},
        {"name": package.name, "normalization": package.normalization},
    )
    if package.class_names:
        draft.fields["class_names"] = package.class_names
    if package.activation != "none":
        draft.fields["activation"] = package.activation
    elif not package.hints.get("final_activation"):
        draft.assumed.append(_UNDECLARED)
    if package.test_inputs and package.test_outputs:
        draft.tests = Tests(
            bioimageio.arrays(source, package.test_inputs),
            bioimageio.arrays(source, package.test_outputs),
            package.activation,
            package.tolerance,
        )
    return draft


_UNDECLARED = Assumption(
    field="activation",
    value="none",
    alternatives=("sigmoid", "softmax"),
    reason="the description names no activation after the network",
)


def _weights(data: bytes, name: str) -> tuple[Kind, Found]:
    """Read the weights file of a package from memory, through a private copy."""
    with tempfile.TemporaryDirectory(prefix="napari-unet-") as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(data)
        kind = sniff(path)
        if kind != "safetensors":
            return kind, read_foreign(path, kind)
    return kind, _bare(read_tensors(data, name)[0], name)


def _settings(found: Found) -> dict[str, Any]:
    """Return the network's own settings where the training program saved them."""
    settings: dict[str, Any] = {}
    init = found.extras.get("init")
    for place in (
        found.extras.get("hyper_parameters"),
        init.get("model_kwargs") if isinstance(init, dict) else None,
    ):
        if isinstance(place, dict):
            settings.update(place)
    return settings
