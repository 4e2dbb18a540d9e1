"""Every way of wrapping weights, under every prefix, in every container."""

from __future__ import annotations

import zipfile
from collections import OrderedDict

import pytest
import torch
from hostile.files import rezip
from safetensors.torch import save_file
from tiny_networks import unet

from napari_unet import checkpoints
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")

PREFIXES = [
    *("", "module.", "_orig_mod.", "model.", "net.", "network.", "unet.", "_model."),
    *("generator.", "seg_model.", "_fsdp_wrapped_module.", "model._orig_mod."),
    *("module.model.", "_orig_mod.module.net.", "module._fsdp_wrapped_module."),
]


def nested(*keys):
    def wrap(state):
        for key in reversed(keys):
            state = {"epoch": 3, key: state, "optimizer": {"state": {}, "lr": 0.1}}
        return state

    return wrap


def lightning(state):
    return {
        **{"epoch": 1, "global_step": 10, "pytorch-lightning_version": "2.6.6"},
        **{"loops": {}, "callbacks": {}, "lr_schedulers": [], "state_dict": state},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(4, 1, 3, 3)}}}],
        "hyper_parameters": {"lr": 1e-3},
    }


def averaged(state):
    """As torch.optim.swa_utils.AveragedModel saves itself."""
    return OrderedDict(
        [
            ("n_averaged", torch.tensor(3)),
            *((f"module.{k}", v) for k, v in state.items()),
        ]
    )


NESTS = [
    *("state_dict", "model_state_dict", "model_state", "model", "network_weights"),
    *("net", "network", "weights", "params", "generator", "module", "student"),
    *("model_ema", "ema_state_dict", "ema", "averaged_model", "teacher"),
]
WRAPPERS = {
    "bare": dict,
    **{key: nested(key) for key in NESTS},
    "two-deep": nested("checkpoint", "net"),
    "lightning": lightning,
    "averaged": averaged,
    "ordered": OrderedDict,
}


def zipped(tree, path):
    torch.save(tree, path)


def legacy(tree, path):
    torch.save(tree, path, _use_new_zipfile_serialization=False)


def from_cuda(tree, path):
    """As a file saved on a GPU: each storage says cuda:0."""
    good = path.with_name("cpu.pth")
    torch.save(tree, good)
    here, there = b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"
    rezip(
        good,
        path,
        lambda n, b: b.replace(here, there) if n.endswith("data.pkl") else b,
    )
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        assert there in archive.read(name)


CONTAINERS = [zipped, legacy, from_cuda]


@pytest.fixture(scope="module")
def state():
    return unet().module.state_dict()


def assert_same(path, state, prefix):
    network = checkpoints.load(path)
    found = network.module.state_dict()
    assert list(found) == list(state)
    assert all(torch.equal(found[k], v) for k, v in state.items())
    taken_off = network.spec.provenance["prefix"]
    for word in ("_orig_mod.", "_fsdp_wrapped_module."):
        prefix = prefix.replace(word, "")
    assert taken_off in (prefix, f"module.{prefix}")


@pytest.mark.parametrize("write", CONTAINERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_torch_files(tmp_path, state, write, wrapper):
    for prefix in PREFIXES:
        tree = WRAPPERS[wrapper]({prefix + k: v for k, v in state.items()})
        write(tree, tmp_path / "model.any")
        assert_same(tmp_path / "model.any", state, prefix)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_safetensors(tmp_path, state, prefix):
    save_file({prefix + k: v for k, v in state.items()}, tmp_path / "model.any")
    network = checkpoints.load(tmp_path / "model.any")
    found = network.module.state_dict()
    assert all(torch.equal(found[k], v) for k, v in state.items())


@pytest.mark.parametrize("write", CONTAINERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path, state, write, dtype):
    half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    for wrapper in WRAPPERS.values():
        write(wrapper({f"module.{k}": v for k, v in half.items()}), tmp_path / "m")
        found = checkpoints.load(tmp_path / "m").module.state_dict()
        assert all(torch.equal(found[k], v.to(found[k])) for k, v in half.items())


def whole_modules():
    module = unet().module
    return [
        module,
        torch.nn.DataParallel(module),
        torch.nn.ModuleDict({"model": module}),
    ]


@pytest.mark.parametrize("write", [zipped, from_cuda], ids=lambda f: f.__name__)
def test_whole_modules(tmp_path, state, write):
    for tree in whole_modules():
        write({"epoch": 3, "net": tree}, tmp_path / "m")
        found = checkpoints.load(tmp_path / "m").module.state_dict()
        assert all(torch.equal(found[k], v) for k, v in state.items())


def test_whole_modules_of_the_old_format_are_told(tmp_path):
    for tree in whole_modules():
        legacy(tree, tmp_path / "m")
        with pytest.raises(ModelError, match=r"format of before PyTorch 1\.6"):
            checkpoints.load(tmp_path / "m")
