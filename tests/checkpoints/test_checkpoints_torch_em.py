"""torch_em: training checkpoints full of pickled objects, packages, near misses."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import yaml
from test_checkpoints_bioimageio import package
from tiny_networks import lively

from napari_unet import checkpoints
from napari_unet.checkpoints.families import by_name
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")

FAMILY = by_name("torch_em")
SMALL = {
    **{"ndim": 3, "in_channels": 1, "out_channels": 2, "widths": [4, 8, 16]},
    **{"strides": [[1, 2, 2], [2, 2, 2]], "kernels": [[3, 3, 3]] * 3},
}


@pytest.fixture
def foreign(monkeypatch):
    """Make two classes of a module that is gone when the file is read."""
    module = ModuleType("torch_em")
    for name in ("SegmentationDataset", "ConvBlock3d"):
        setattr(module, name, type(name, (), {"__module__": "torch_em"}))
    monkeypatch.setitem(sys.modules, "torch_em", module)
    return module


def trainer_file(path, foreign, **kwargs):
    """Write a file as torch_em's trainer does, its data set and classes in it."""
    dataset = foreign.SegmentationDataset()
    dataset.raw_path, dataset.rois = "raw.h5", [slice(0, 4)]
    module = lively(FAMILY.build(SMALL))
    torch.save(
        {
            **{"iteration": 10, "epoch": 1, "best_metric": 0.5},
            "model_state": module.state_dict(),
            "optimizer_state": {"state": {}, "param_groups": []},
            "init": {
                "model_class": "torch_em.model.unet.AnisotropicUNet",
                "model_kwargs": {"conv_block_impl": foreign.ConvBlock3d, **kwargs},
                "train_dataset": dataset,
                "train_loader_kwargs": {"batch_size": 1},
            },
        },
        path,
    )
    return module


def test_trainer_file_is_read_with_its_own_arguments(tmp_path, foreign, monkeypatch):
    module = trainer_file(
        *(tmp_path / "best.pt", foreign),
        **{"scale_factors": SMALL["strides"], "final_activation": "Sigmoid"},
    )
    monkeypatch.delitem(sys.modules, "torch_em")
    network = checkpoints.load(tmp_path / "best.pt")
    assert {a.field for a in network.spec.assumed} == {"normalization"}
    assert network.spec.activation == "sigmoid"
    assert network.spec.architecture["strides"] == SMALL["strides"]
    image = torch.randn(1, 1, 4, 8, 8)
    with torch.inference_mode():
        assert torch.equal(network.module(image), module(image))


def test_an_activation_that_is_not_known_is_refused(tmp_path, foreign):
    trainer_file(tmp_path / "best.pt", foreign, final_activation="Hardshrink")
    with pytest.raises(ModelError, match="not one of the known kinds"):
        checkpoints.load(tmp_path / "best.pt")


def test_activation_inside_the_network_is_part_of_a_packages_proof(tmp_path):
    facts = package(tmp_path / "little", sigmoid=True)
    facts["outputs"][0]["postprocessing"] = []
    entry = facts["weights"]["pytorch_state_dict"]["architecture"]
    entry["kwargs"] = {**entry["kwargs"], "final_activation": "Sigmoid"}
    text = yaml.safe_dump(facts)
    (tmp_path / "little" / "bioimageio.yaml").write_text(text)
    report = checkpoints.inspect(tmp_path / "little")
    assert report["test"]["passed"] is True
    assert report["activation"] == "sigmoid"


def test_pooling_is_assumed_only_without_the_classs_arguments(tmp_path, foreign):
    for name, kwargs in (("told", {"depth": 2}), ("untold", {})):
        trainer_file(tmp_path / f"{name}.pt", foreign, **kwargs)
        assumed = checkpoints.load(tmp_path / f"{name}.pt").spec.assumed
        fields = {a.field for a in assumed}
        assert ("architecture.strides" in fields) is (name == "untold")


def test_near_miss_names_this_family(tmp_path):
    state = lively(FAMILY.build(SMALL)).state_dict()
    state["decoder.attention.weight"] = torch.ones(1, 4, 1, 1, 1)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"nearest to torch_em.*attention"):
        checkpoints.load(tmp_path / "net.pt")
