"""Traced TorchScript of networks that no family knows: its text is read, not run."""

from __future__ import annotations

import warnings
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_networks import NETWORKS, network, traced, whole
from shared import shared
from tiny_networks import lively
from torch import nn

from napari_unet import checkpoints
from napari_unet.checkpoints.draft import Draft
from napari_unet.checkpoints.formats import torchscript_file
from napari_unet.checkpoints.formats.script_text import Script
from napari_unet.checkpoints.formats.tape import Refused
from napari_unet.checkpoints.graphs import network_of
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.mark.parametrize("name", NETWORKS)
def test_output_is_torchs(tmp_path, name):
    module, small, large = network(name)
    opened = checkpoints.load(traced(module, small, tmp_path / "net.pt"))
    assert opened.spec.family == "program"
    for image in (small, large):
        gap = (whole(opened, image) - module(image)).abs().max()
        assert float(gap) <= 1e-6
    assert not any("made for" in n for n in opened.spec.provenance["notes"])


class Fixed(nn.Module):
    """Up-samples to the size it was written for."""

    def __init__(self, size):
        super().__init__()
        self.size, self.odd_name = size, nn.Conv2d(1, 2, 3, padding=1)
        self.other = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.odd_name(x)
        y = F.interpolate(F.max_pool2d(x, 2), self.size, mode="bilinear")
        return self.other(torch.cat([x, y], 1))


def test_up_sampling_to_a_fixed_size_is_by_a_factor(tmp_path):
    module, image = lively(Fixed((16, 24))), torch.randn(1, 1, 16, 24)
    opened = checkpoints.load(traced(module, image, tmp_path / "net.pt"))
    assert torch.equal(opened(image), module(image))
    notes = opened.spec.provenance["notes"]
    assert "made for images of 16 x 24 pixels" in notes
    assert any("by a factor" in note for note in notes)
    module.size, large = (32, 40), torch.randn(1, 1, 32, 40)
    assert torch.equal(opened(large), module(large))


class Scripted(nn.Module):
    """Asks of types and settings, which is known beforehand, and counts a loop."""

    def __init__(self):
        super().__init__()
        self.odd_name, self.deep = nn.Conv2d(1, 2, 3, padding=1), True
        self.up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True)
        self.inside = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())

    def forward(self, x):
        x = self.odd_name(x)
        if self.deep:
            kept = [x]
            for _ in range(2):
                kept.append(self.inside(kept[-1]))
            x = torch.cat(kept, 1)
        return self.up(x)


def test_scripts_that_ask_only_what_is_known(tmp_path):
    module, image = lively(Scripted()), torch.randn(1, 1, 8, 12)
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(module).save(tmp_path / "net.pt")
    opened = checkpoints.load(tmp_path / "net.pt")
    assert torch.equal(opened(image), module(image))


class Asking(Scripted):
    def forward(self, x):
        x = self.odd_name(x)
        if float(x.max()) > 0:
            x = self.inside(x)
        return self.up(x)


def test_scripts_that_ask_of_the_image_are_refused(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(lively(Asking())).save(tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"cannot be carried out: found the operator"):
        checkpoints.load(tmp_path / "net.pt")


def rewritten(tmp_path, old, new):
    """Trace a network and change the text of its program."""
    module, image, _ = network("mixed")
    traced(module, image, tmp_path / "net.pt")
    path = tmp_path / "other.pt"
    with zipfile.ZipFile(tmp_path / "net.pt") as a, zipfile.ZipFile(path, "w") as b:
        for name in a.namelist():
            data = a.read(name)
            if "graph_networks" in name and name.endswith(".py"):
                assert old.encode() in data
                data = data.replace(old.encode(), new.encode())
            b.writestr(name, data)
    return path


LINE = "    return torch.softmax("


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os", "control flow: Import"),
        ("while True:\n      pass", "control flow: While"),
        ("for q in [1]:\n      pass", "a loop"),
        ("a = eval('1')", "a call of eval"),
        ("a = __import__('os')", "a call of __import__"),
        ("a = (lambda: 1)()", "a call of"),
        ("a = x.__class__", "an attribute __class__"),
        ("a = self.odd", "an attribute odd"),
        ("a = torch.from_file('MARK', True, 4)", "the operator from_file"),
        ("a = ops.aten.save(x, 'MARK')", "the operator save"),
        ("a = [q for q in [1]]", "an expression of kind ListComp"),
        ("a = 10 ** 10 ** 10", "an expression of kind BinOp"),
        (f"a = {'9' * 40}", "a number without measure"),
        (f"a = {'9' * 9000}", "no TorchScript"),
        (f"a = {'(' * 100}1{')' * 100}", "nested too deeply"),
        (f"a = x{'.a' * 20000}", "nested too deeply"),
        (f"a = {'-' * 9000}1", "nested too deeply|does not fit|no TorchScript"),
        ("for q in range(9000000000000000000):\n      a = 1", "over 200000 lines"),
        ("a = (self).forward(x, )", "nested calls|does not fit"),
        ("a = torch.max_pool2d(x, [4611686018427387904], [1])", "does not fit"),
        ("a = unknown", "does not fit"),
    ],
)
def test_a_text_that_is_more_than_a_traced_network_is_refused(
    tmp_path, no_mark, line, words
):
    path = rewritten(tmp_path, LINE, f"    {line}\n{LINE}")
    with pytest.raises(ModelError, match=words):
        checkpoints.load(path)


def test_a_bomb_of_calls_ends(tmp_path):
    """Each function calls the one before it twice."""
    lines = ["def f0(x: Tensor) -> Tensor:\n  return x"]
    for n in range(1, 60):
        head = f"def f{n}(x: Tensor) -> Tensor:"
        before = f"__torch__.a.f{n - 1}"
        lines.append(f"{head}\n  y = {before}(x)\n  return {before}(y)")
    script = Script({"__torch__.a": "\n".join(lines)}, [])
    node = script.methods["__torch__.a.f59"]
    from napari_unet.checkpoints.formats.script_text import _Walk
    from napari_unet.checkpoints.formats.tape import Tape

    tape = Tape([1, 1, 8, 8])
    with pytest.raises(Refused, match="lines"):
        _Walk(script, tape).function(node, [tape.image])


@pytest.mark.real
def test_the_graph_of_a_real_script_gives_its_stored_output():
    """Its names are a known family's; here the graph alone is opened."""
    folder = shared("weights", "bioimageio_nuclei_broad")
    path = folder / "weights_torchscript.pt"
    found = torchscript_file.read(path)
    found.tensors = {
        f"net.{k}" if "encoders" not in k else k.replace("encoders", "odd"): t
        for k, t in found.tensors.items()
    }
    names = found.hints["program"]["weights"]
    found.hints["program"]["weights"] = {
        step: k if k in found.tensors else _renamed(k) for step, k in names.items()
    }
    draft = Draft(path, "TorchScript", found, ["0"], dict(found.hints), told={})
    opened = network_of(draft)
    assert opened.spec.family == "program"
    image = np.load(folder / "test_input.npy").astype(np.float64)
    image = ((image - image.mean()) / (image.std() + 1e-6)).astype(np.float32)
    expected = np.load(folder / "test_output.npy")
    assert np.abs(opened(image).sigmoid().numpy() - expected).max() <= 1e-5


def _renamed(key):
    return f"net.{key}" if "encoders" not in key else key.replace("encoders", "odd")
