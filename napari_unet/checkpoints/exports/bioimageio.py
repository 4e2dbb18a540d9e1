"""A bioimage.io model package, format 0.5, as a zip archive.

Its state dict is rebuilt by `napari_unet.checkpoints.rebuild`, for programs that have
this package; ONNX beside it is for all others. The test tensors are this network's.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from napari_unet.checkpoints.exports import compiled
from napari_unet.checkpoints.exports.description import (
    describe,
    documentation,
    limits,
    sizes,
)
from napari_unet.checkpoints.exports.proof import Written
from napari_unet.checkpoints.exports.tensors import emit
from napari_unet.checkpoints.loading import load
from napari_unet.checkpoints.oracle import activate, normalized
from napari_unet.checkpoints.probe import lengths
from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from napari_unet.config import ExportConfig
    from napari_unet.networks.network import Network

_OPSET = 18


def write(network: Network, part: Path, config: ExportConfig) -> Written:
    """Write the package and open it again; its test tensors are the proof.

    Raises
    ------
    ModelError
        If the format cannot say how this network's input is scaled.
    """
    members, notes = _members(network, config)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    description = describe(network, config, hashes, _weights(network, hashes))
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    members["rdf.yaml"] = text.encode()
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    test = load(part).spec.provenance["test"]
    return Written(test["difference"], [*notes, *limits(network)])


def _members(
    network: Network, config: ExportConfig
) -> tuple[dict[str, bytes], list[str]]:
    """Make the files of the package but its description."""
    image, output = _tests(network)
    members = {
        "weights.pt": _saved(emit(network)),
        "test_input.npy": _npy(image),
        "test_output.npy": _npy(output),
        "README.md": documentation(network, config).encode(),
    }
    try:
        members["weights.onnx"], notes = _onnx(network, config)
    except UNetError as error:
        notes = [f"Without ONNX weights: {error}"]
    return members, notes


def _onnx(network: Network, config: ExportConfig) -> tuple[bytes, list[str]]:
    with TemporaryDirectory(prefix="napari-unet-") as folder:
        path = Path(folder) / "weights.onnx"
        notes = compiled.onnx(network, path, config).notes
        return path.read_bytes(), [f"ONNX weights: {note}" for note in notes]


def _tests(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Make an input as an image has it, and the network's result for it."""
    spec = network.spec
    shape = (1, spec.in_channels, *lengths(network, sizes(network)))
    is_raw = all(norm.kind == "none" for norm in spec.normalization)
    noise = np.random.default_rng(0).gamma(2.0, 1.0 if is_raw else 100.0, shape)
    image = noise.astype(np.float32)
    with torch.inference_mode():
        raw = network.module(torch.from_numpy(normalized(image, spec.normalization)))
    return image, activate(raw, spec.activation).numpy()


def _weights(network: Network, hashes: dict[str, str]) -> dict[str, Any]:
    """Describe the weights."""
    spec = network.spec
    described: dict[str, Any] = {
        "pytorch_state_dict": {
            "source": "weights.pt",
            "sha256": hashes["weights.pt"],
            "pytorch_version": torch.__version__.partition("+")[0],
            "architecture": {
                "import_from": "napari_unet.checkpoints.rebuild",
                "callable": "rebuild",
                "kwargs": {
                    "family": spec.family,
                    "architecture": spec.model_dump(mode="json")["architecture"],
                },
            },
        }
    }
    if "weights.onnx" in hashes:
        described["onnx"] = {
            "source": "weights.onnx",
            "sha256": hashes["weights.onnx"],
            "opset_version": _OPSET,
            "parent": "pytorch_state_dict",
        }
    return described


def _saved(tensors: dict[str, torch.Tensor]) -> bytes:
    data = io.BytesIO()
    torch.save(tensors, data)
    return data.getvalue()


def _npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()
