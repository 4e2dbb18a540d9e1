"""BiaPy: what its checkpoints tell, old configurations, what is refused."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from tiny_networks import lively

from napari_unet import checkpoints
from napari_unet.checkpoints.families import by_name
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")

FAMILY = by_name("biapy")
SMALL = {
    **{"ndim": 2, "in_channels": 1, "out_channels": 1, "heads": [1]},
    **{"widths": [4, 8], "risen": [4], "convs": [2, 2]},
    **{"kernels": [[3, 3]] * 2, "strides": [[2, 2]], "norm": "batch"},
}
ARGUMENTS = {
    **{"activation": "relu", "normalization": "bn", "yx_down": [2], "z_down": [2]},
    **{"output_channels": [1], "head_activations": ["ce_sigmoid"]},
}
UNSET = {"MEAN_VAL": [-1.0], "STD_VAL": [-1.0]}
NO_CLIP = {"ENABLE": False, "LOWER_PERC": -1.0, "UPPER_PERC": -1.0}


def built(**changes):
    return lively(FAMILY.build({**SMALL, "activation": "relu", **changes}))


def config(**normalization):
    scaling = {
        **{"PERC_CLIP": NO_CLIP, "TYPE": "zero_mean_unit_variance"},
        **{"ZERO_MEAN_UNIT_VAR": UNSET, **normalization},
    }
    problem = {"TYPE": "SEMANTIC_SEG", "NDIM": "2D"}
    return {"DATA": {"NORMALIZATION": scaling}, "PROBLEM": problem}


def saved(path, module, cfg, **arguments):
    """Write a checkpoint as BiaPy's `save_model` does."""
    torch.save(
        {
            "model_build_kwargs": {**ARGUMENTS, **arguments},
            "model": module.state_dict(),
            "optimizer": [{"state": {}, "param_groups": []}],
            "epoch": 3,
            "cfg": cfg,
            "biapy_version": "3.7.1",
        },
        path,
    )
    return path


def test_checkpoint_leaves_nothing_open(tmp_path):
    module = built()
    network = checkpoints.load(saved(tmp_path / "a.pth", module, config()))
    assert network.spec.assumed == ()
    assert network.spec.activation == "sigmoid"
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(network.module(image), module(image))


def test_configuration_in_a_class_of_yacs_is_read(tmp_path, monkeypatch):
    """Releases before 3.7 pickled it as a subclass of dict."""
    package, module = ModuleType("yacs"), ModuleType("yacs.config")
    node = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    module.CfgNode = node
    monkeypatch.setitem(sys.modules, "yacs", package)
    monkeypatch.setitem(sys.modules, "yacs.config", module)

    def nodes(value):
        if not isinstance(value, dict):
            return value
        made = node({k: nodes(v) for k, v in value.items()})
        made.__dict__["__immutable__"] = True
        return made

    cfg = nodes(config(TYPE="scale_range"))
    path = saved(tmp_path / "a.pth", built(legacy=True), cfg)
    monkeypatch.delitem(sys.modules, "yacs.config")
    monkeypatch.delitem(sys.modules, "yacs")
    spec = checkpoints.load(path).spec
    assert spec.architecture["legacy"] is True
    assert [n.kind for n in spec.normalization] == ["minmax"]


@pytest.mark.parametrize(
    ("normalization", "wanted"),
    [
        ({}, {"kind": "zscore", "joint": False}),
        (
            {"ZERO_MEAN_UNIT_VAR": {"MEAN_VAL": [10.0], "STD_VAL": [2.0]}},
            {"kind": "linear", "gain": 0.5, "offset": -5.0},
        ),
        (
            {
                "TYPE": "scale_range",
                "PERC_CLIP": {"ENABLE": True, "LOWER_PERC": 1, "UPPER_PERC": 99},
            },
            {"kind": "percentile", "low": 1, "high": 99, "clip": True},
        ),
    ],
)
def test_scaling_is_that_of_the_configuration(tmp_path, normalization, wanted):
    path = saved(tmp_path / "a.pth", built(), config(**normalization))
    found = checkpoints.load(path).spec.normalization[0].model_dump()
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    "normalization", [{"TYPE": "div"}, {"PERC_CLIP": {"ENABLE": True}}]
)
def test_scaling_that_is_not_built_stays_open(tmp_path, normalization):
    path = saved(tmp_path / "a.pth", built(), config(**normalization))
    fields = {a.field for a in checkpoints.load(path).spec.assumed}
    assert fields == {"normalization"}


def test_restoration_is_told_by_the_problem(tmp_path):
    cfg = config()
    cfg["PROBLEM"]["TYPE"] = "DENOISING"
    spec = checkpoints.load(saved(tmp_path / "a.pth", built(), cfg)).spec
    assert (spec.task, spec.activation) == ("restoration", "none")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("post_upsampling.weight", (4, 4, 2, 2)),
        ("up_paths.0.0.attention_gate.w_g.0.weight", (2, 4, 1, 1)),
    ],
)
def test_near_misses_name_what_is_too_much(tmp_path, name, shape):
    state = {**built().state_dict(), name: torch.ones(shape)}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=f"nearest to BiaPy.*{name}"):
        checkpoints.load(tmp_path / "a.pth")
