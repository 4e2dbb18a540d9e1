from __future__ import annotations

import shutil
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from shared import shared
from tiny_networks import lively, unet
from torch import nn

from napari_unet import checkpoints
from napari_unet.checkpoints.families.milesial import Milesial
from napari_unet.checkpoints.families.nuclei_broad import NucleiBroad
from napari_unet.checkpoints.oracle import compare
from napari_unet.checkpoints.weights import read_weights
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")
NUCLEI = "bioimageio_nuclei_broad"


def scripted(module, path, image=None):
    with warnings.catch_warnings(action="ignore"):
        made = (
            torch.jit.script(module)
            if image is None
            else torch.jit.trace(module, image)
        )
        made.save(path)
    return path


@pytest.mark.parametrize("traced", [False, True])
def test_torchscript_weights_are_the_modules(tmp_path, traced):
    module = lively(NucleiBroad().build(NucleiBroad.typical))
    image = torch.randn(1, 1, 16, 24)
    path = scripted(module, tmp_path / "net.pt", image if traced else None)
    network = checkpoints.load(path)
    assert network.spec.family == "nuclei_broad"
    assert torch.equal(network(image), module(image))
    assert network.geometry.exact


@pytest.mark.parametrize("align_corners", [True, False])
def test_torchscript_program_settles_what_names_leave_open(tmp_path, align_corners):
    architecture = {**Milesial.typical, "width": 4, "depth": 2, "bilinear": True}
    module = lively(Milesial().build({**architecture, "align_corners": align_corners}))
    image = torch.randn(1, 3, 16, 16)
    network = checkpoints.load(scripted(module, tmp_path / "net.pt", image))
    assert network.spec.architecture["align_corners"] is align_corners
    assumed = {a.field for a in network.spec.assumed}
    assert "architecture.align_corners" not in assumed
    assert torch.equal(network(image), module(image))


def test_torchscript_without_weights_is_damaged(tmp_path):
    path = scripted(unet().module, tmp_path / "net.pt", torch.zeros(1, 1, 8, 8))
    with (
        zipfile.ZipFile(path) as whole,
        zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut,
    ):
        for name in whole.namelist():
            if "/data/" not in name:
                cut.writestr(name, whole.read(name))
    with pytest.raises(ModelError, match="damaged"):
        checkpoints.load(tmp_path / "cut.pt")


def test_names_that_safetensors_left_out_come_back(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(1, 2, 3)
            self.two = nn.ModuleList([self.one])

    module = Twice()
    save_model(module, str(tmp_path / "net.safetensors"))
    _, found = read_weights(tmp_path / "net.safetensors")
    state = module.state_dict()
    assert set(found.tensors) == set(state)
    assert all(torch.equal(found.tensors[k], state[k]) for k in state)


def difference(network, folder):
    """Largest difference of the probabilities from the stored ones."""
    return compare(
        network,
        [np.load(folder / "test_input.npy")],
        [np.load(folder / "test_output.npy")],
        "sigmoid",
        (0.0, 1e-5),
    )


@pytest.mark.real
@pytest.mark.parametrize(
    "name", ["state_dict.pt", "state_dict.safetensors", "weights_torchscript.pt"]
)
def test_nuclei_broad_gives_its_stored_output(name):
    folder = shared("weights", NUCLEI)
    network = checkpoints.load(folder / name)
    check = difference(network, folder)
    assert check.passed, check
    assert network.spec.family == "nuclei_broad"
    assert network.geometry.exact


@pytest.mark.real
def test_relu_in_the_gap_would_be_told(tmp_path):
    """The control: the usual block is far off, so the test above proves the gap."""
    folder = shared("weights", NUCLEI)
    network = checkpoints.load(folder / "state_dict.pt")
    for block in (*network.module.encoders, network.module.base):
        block[0] = nn.Sequential(block[0], nn.ReLU())
    assert difference(network, folder).difference > 0.1


@pytest.mark.real
def test_traced_multi_tensor_has_the_same_weights(tmp_path):
    folder = shared("weights", "bioimageio_multi_tensor")
    alone = tmp_path / "net.pt"
    shutil.copy(folder / "weights_torchscript_traced.pt", alone)
    traced, whole = checkpoints.load(alone), checkpoints.load(folder)
    assert traced.spec.family == whole.spec.family
    image = torch.randn(1, 2, 64, 64)
    assert torch.equal(traced(image), whole(image))
