"""Opening a stored case as the plugin opens a file, with its weights made anew."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from napari_unet.checkpoints import formats, weights
from napari_unet.checkpoints.container import sniff
from napari_unet.checkpoints.draft import Draft, finish
from napari_unet.checkpoints.loading import load
from napari_unet.checkpoints.oracle import activate
from napari_unet.checkpoints.unwrap import Found
from zoo import caffe_files, keras_files

if TYPE_CHECKING:
    from napari_unet.networks.network import Network
    from zoo.stored_cases import Stored


def opened(case: Stored) -> tuple[Network, float]:
    """Return the network of a case, and how far its output is from the library's.

    Ours is computed in float64, so that only the library's own rounding is left.
    """
    network = open_with(case, case.facts["settings"])
    module = copy.deepcopy(network.module).double()
    with torch.inference_mode():
        output = module(case.image.double())
        if "file" in case.facts:
            output = activate(output, _cut_off(network))
        return network, case.difference(output)


def open_with(case: Stored, settings: dict[str, Any]) -> Network:
    """Open a case with some of its architecture settings told by a person."""
    if "text" in case.facts["hints"]:
        return _described(case, case.facts["hints"]["text"])
    draft = Draft(
        path=Path(f"{case}.pth"),
        container="PyTorch file",
        found=_found(case),
        digests=["0" * 64],
        hints=case.facts["hints"],
        told={"architecture": settings} if settings else {},
    )
    draft.hints |= draft.found.hints
    return finish(draft)


def _found(case: Stored) -> Found:
    """Return the tensors: a state dict's, or those of a file of its own format."""
    file = case.facts.get("file")
    if file is None:
        return Found(case.state)
    with tempfile.TemporaryDirectory() as folder:
        path = keras_files.put_together(file, Path(folder) / f"net.{file['ending']}")
        return formats.read(path, sniff(path))


def _described(case: Stored, text: str) -> Network:
    """Open a case whose network is described in a file of its own."""
    values = {name: tensor.numpy() for name, tensor in case.state.items()}
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(weights, "read_foreign", formats.read),
    ):
        caffe_files.write_modeldef(Path(folder) / "net.modeldef.h5", text)
        path = Path(folder) / "net.caffemodel.h5"
        caffe_files.write_caffemodel(path, values)
        return load(path)


def _cut_off(network: Network) -> str:
    """Return the activation that ended the file's graph, none where it is assumed."""
    assumed = {a.field for a in network.spec.assumed}
    return "none" if "activation" in assumed else network.spec.activation
