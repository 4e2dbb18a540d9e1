"""torch.export packages, read as data, against torch's own loader."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
import torch
from graph_networks import NETWORKS, exported, network, whole
from tiny_networks import lively, unet
from torch import nn

from napari_unet import checkpoints
from napari_unet.checkpoints.exports import export
from napari_unet.checkpoints.families.milesial import Milesial
from napari_unet.checkpoints.probe import probe
from napari_unet.config import ExportConfig
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")


def gap(opened, expected, image):
    return float((whole(opened, image) - expected).abs().max())


@pytest.mark.parametrize("way", ["fixed", "free", "apart"])
@pytest.mark.parametrize("name", NETWORKS)
def test_output_is_torchs(tmp_path, name, way):
    module, small, large = network(name)
    opened = checkpoints.load(exported(module, small, tmp_path / "net.pt2", way))
    assert opened.spec.family == "program"
    again = torch.export.load(tmp_path / "net.pt2").module()
    assert gap(opened, again(small), small) <= 1e-6
    assert gap(opened, module(large), large) <= 1e-6
    fixed = [n for n in opened.spec.provenance["notes"] if "16 x 24" in n]
    assert bool(fixed) == (way == "fixed")


@pytest.mark.parametrize("fields", [{}, {"ndim": 3}, {"padding": "valid"}])
def test_our_own_export_comes_back(tmp_path, fields):
    network = unet(**fields)
    export(network, tmp_path / "net.pt2", ExportConfig())
    again = checkpoints.load(tmp_path / "net.pt2")
    assert probe(network).difference(again.module) == 0
    assert again.spec.family == "unet"
    assert again.geometry == network.geometry


def milesial(align_corners=True):
    architecture = {**Milesial.typical, "width": 4, "depth": 2, "bilinear": True}
    return lively(Milesial().build({**architecture, "align_corners": align_corners}))


@pytest.mark.parametrize("align_corners", [True, False])
def test_graph_settles_what_names_leave_open(tmp_path, align_corners):
    module, image = milesial(align_corners), torch.randn(2, 3, 16, 24)
    opened = checkpoints.load(exported(module, image, tmp_path / "net.pt2", "fixed"))
    assert opened.spec.family == "milesial"
    assert opened.spec.architecture["align_corners"] is align_corners
    assert not [a for a in opened.spec.assumed if "architecture" in a.field]
    assert any("graph" in n for n in opened.spec.provenance["notes"])
    assert torch.equal(opened(image), module(image))


def test_graph_counts_where_it_is_not_the_familys(tmp_path):
    """The names are a known network's, but the code was changed."""
    module, image = milesial(), torch.randn(2, 3, 16, 24)
    for block in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        for n, layer in enumerate(block):
            if isinstance(layer, nn.ReLU):
                block[n] = nn.LeakyReLU(0.3)
    opened = checkpoints.load(exported(module, image, tmp_path / "net.pt2", "fixed"))
    assert opened.spec.family == "program"
    assert torch.equal(opened(image), module(image))


def old_layout(source, target):
    """Write a package as torch 2.1 to 2.7 did."""
    with zipfile.ZipFile(source) as new, zipfile.ZipFile(target, "w") as old:
        graph = new.read("net/models/model.json")
        old.writestr("version", "8.2")
        old.writestr("serialized_exported_program.json", graph)
        program = torch.export.load(source)
        for name, tensors in {
            "state_dict": program.state_dict,
            "constants": program.constants,
            "example_inputs": {},
        }.items():
            data = io.BytesIO()
            torch.save(dict(tensors), data)
            old.writestr(f"serialized_{name}.pt", data.getvalue())


def middle_layout(source, target):
    """Write the weights as one torch file inside the package."""
    data = io.BytesIO()
    torch.save(dict(torch.export.load(source).state_dict), data)
    with zipfile.ZipFile(source) as new, zipfile.ZipFile(target, "w") as old:
        for name in new.namelist():
            if "/weights/" not in name:
                old.writestr(name, new.read(name))
        old.writestr("net/data/weights/model.pt", data.getvalue())


@pytest.mark.parametrize("layout", [old_layout, middle_layout])
def test_older_layouts(tmp_path, layout):
    module, small, large = network("mixed")
    layout(exported(module, small, tmp_path / "net.pt2"), tmp_path / "old.pt2")
    opened = checkpoints.load(tmp_path / "old.pt2")
    assert gap(opened, module(large), large) <= 1e-6


def assert_refused(tmp_path, module, image, words):
    path = exported(module, image, tmp_path / "net.pt2", "fixed")
    with pytest.raises(ModelError, match=words):
        checkpoints.load(path)


class Ending(nn.Module):
    """A convolution and something behind it."""

    def __init__(self, end):
        super().__init__()
        self.odd_name, self.end = nn.Conv2d(1, 4, 3, padding=1), end

    def forward(self, x):
        return self.end(self.odd_name(x))


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (torch.sin, "the operator sin"),
        (lambda x: x.transpose(2, 3), "the operator transpose"),
        (lambda x: x.softmax(2), "softmax over space"),
        (lambda x: torch.cat([x, x], 2), "not of channels"),
        (lambda x: x.sum() + x[:, :, :1], "the operator sum"),
        (lambda x: x.mean((2, 3)), "no image"),
        (lambda x: nn.functional.interpolate(x, (20, 20)), "no whole multiple"),
    ],
)
def test_what_is_not_carried_out_is_named(tmp_path, end, words):
    assert_refused(tmp_path, Ending(end), torch.zeros(1, 1, 16, 16), words)


def test_training_mode_is_refused(tmp_path):
    class Training(nn.Module):
        def __init__(self):
            super().__init__()
            self.odd_name, self.odd_norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.odd_norm(self.odd_name(x))

    image = torch.zeros(2, 1, 16, 16)
    assert_refused(
        tmp_path, Training().train(), image, "training|weights that are changed"
    )


def test_an_operation_in_place_is_seen_by_all_who_read(tmp_path):
    def end(x):
        y = x * 2
        torch.relu_(x)
        return y + x

    module, image = lively(Ending(end)), torch.randn(2, 1, 8, 8)
    opened = checkpoints.load(exported(module, image, tmp_path / "net.pt2"))
    assert torch.equal(opened(image), module(image))


@pytest.mark.parametrize("first", [True, False])
def test_an_operation_in_place_on_a_part_is_refused(tmp_path, first):
    def end(x):
        part = x[:, :2]
        torch.relu_(part if first else x)
        return torch.cat([x, part], 1)

    words = "in place on a part"
    assert_refused(tmp_path, Ending(end), torch.zeros(1, 1, 8, 8), words)


def test_growth_without_measure_is_refused(tmp_path):
    def end(x):
        return nn.functional.interpolate(x, scale_factor=64)

    words = "grows without measure"
    assert_refused(tmp_path, Ending(end), torch.zeros(1, 1, 8, 8), words)


def changed(tmp_path, change):
    """Write a package whose graph was changed."""
    module, small, _ = network("mixed")
    exported(module, small, tmp_path / "net.pt2")
    path = tmp_path / "other.pt2"
    with zipfile.ZipFile(tmp_path / "net.pt2") as a, zipfile.ZipFile(path, "w") as b:
        for name in a.namelist():
            data = a.read(name)
            if name.endswith("models/model.json"):
                facts = json.loads(data)
                data = json.dumps(change(facts) or facts)
            b.writestr(name, data)
    return path


def other_space(facts):
    facts["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.evil.run"


def lost_weight(facts):
    specs = facts["graph_module"]["signature"]["input_specs"]
    specs[0]["parameter"]["parameter_name"] = "gone"


def two_images(facts):
    specs = facts["graph_module"]["signature"]["input_specs"]
    specs.append(specs[-1])


def huge_kernel(facts):
    for node in facts["graph_module"]["graph"]["nodes"]:
        for entry in node["inputs"]:
            if entry["name"] == "stride":
                entry["arg"] = {"as_ints": [1 << 62, 1 << 62]}


def empty(facts):
    facts.clear()
    return {"graph_module": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_space, "the operator torch.ops.evil.run"),
        (lost_weight, "KeyError.*gone"),
        (two_images, "2 inputs"),
        (huge_kernel, "does not fit"),
        (empty, "does not fit"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(tmp_path, change, words):
    with pytest.raises(ModelError, match=words):
        checkpoints.load(changed(tmp_path, change))
