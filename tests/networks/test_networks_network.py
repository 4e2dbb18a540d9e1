from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.errors import DeviceError
from napari_unet.networks import device as devices
from napari_unet.networks.device import (
    choose_device,
    choose_precision,
    free_memory,
    is_out_of_memory,
    training_precision,
)
from napari_unet.networks.folding import fold_batch_norm
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec


def trained(module: nn.Module) -> nn.Module:
    """Give batch norms statistics that matter."""
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return module


def network(ndim: int = 2, **fields) -> Network:
    torch.manual_seed(0)
    spec = UNetSpec(ndim=ndim, widths=(4, 8, 8), **fields)
    return Network(
        trained(UNet(spec)), ModelSpec(ndim=ndim, in_channels=1, out_channels=2)
    )


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
def test_placed_copy_gives_the_same(ndim, upsampling):
    net = network(ndim, upsampling=upsampling)
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    placed = net.place("cpu", "float32")
    image = torch.randn(2, 1, *(16,) * ndim)
    logits = net(image)
    assert logits.std() > 0.01
    torch.testing.assert_close(placed(image), logits, atol=1e-5, rtol=0)
    norms = (nn.BatchNorm2d, nn.BatchNorm3d)
    assert not any(isinstance(m, norms) for m in placed.module.modules())
    assert any(isinstance(m, norms) for m in net.module.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert placed.geometry == net.geometry


def test_bfloat16_weights():
    net = network()
    placed = net.place("cpu", "bfloat16")
    image = torch.randn(1, 1, 16, 16)
    logits = placed(image)
    assert logits.dtype == torch.float32
    assert {p.dtype for p in placed.module.parameters()} == {torch.bfloat16}
    assert 0 < (logits - net(image)).abs().max() < 0.2
    assert placed.words.endswith("bfloat16")


def test_takes_numpy_that_torch_would_refuse():
    net = network()
    image = np.random.default_rng(0).normal(size=(1, 1, 8, 8))[..., ::-1]
    image.flags.writeable = False
    expected = net(torch.tensor(image.copy(), dtype=torch.float32))
    assert torch.equal(net(image), expected)


def test_facts():
    net = network()
    assert net.parameters == sum(p.numel() for p in net.module.parameters()) > 100
    assert net.device.type == "cpu"
    assert net.words.startswith("CPU, ")
    assert net.words.endswith(", float32")
    assert net.geometry is net.geometry
    assert not net.module.training
    assert net(torch.zeros(1, 1, 8, 8)).is_inference()


class Twice(nn.Module):
    """Uses one convolution twice, and one before and beside its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.na = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.b, self.nb = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.c, self.nc = nn.ConvTranspose2d(2, 2, 2, 2), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.na(self.a(self.a(x)))
        y = self.b(x)
        return self.nc(self.c(self.nb(y) + y))


def test_folding_leaves_shared_layers():
    net = trained(Twice()).eval()
    image = torch.randn(1, 2, 4, 4)
    expected = net(image)
    fold_batch_norm(net)
    assert isinstance(net.na, nn.BatchNorm2d)
    assert isinstance(net.nb, nn.BatchNorm2d)
    assert isinstance(net.nc, nn.Identity)
    torch.testing.assert_close(net(image), expected, atol=1e-5, rtol=1e-5)


class Untraceable(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else x


def test_folding_leaves_what_it_cannot_follow():
    net = Untraceable(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).eval()
    assert isinstance(fold_batch_norm(net)[1], nn.BatchNorm2d)


def test_devices():
    place = choose_device("cpu")
    assert place.device.type == "cpu"
    assert str(torch.get_num_threads()) in place.words
    with pytest.raises(DeviceError, match="unknown"):
        choose_device("tpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_absent_device_is_refused_with_the_reason(name):
    present = torch.cuda.is_available() if name == "cuda" else False
    if present or (name == "mps" and torch.backends.mps.is_available()):
        pytest.skip("this machine has one")
    with pytest.raises(DeviceError, match=r"PyTorch|macOS") as error:
        choose_device(name)
    assert "auto or cpu" in str(error.value)


def test_precisions_on_a_cpu():
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == torch.float32
    assert choose_precision("bfloat16", cpu) == torch.bfloat16
    with pytest.raises(DeviceError, match="float16"):
        choose_precision("float16", cpu)
    with pytest.raises(DeviceError, match="unknown"):
        choose_precision("int4", cpu)


@pytest.mark.parametrize(
    ("device", "ndim", "has", "dtype"),
    [
        ("cpu", 2, True, "bfloat16"),
        ("cpu", 2, False, "float32"),
        ("cpu", 3, True, "float32"),
        ("cuda", 2, True, "bfloat16"),
        ("cuda", 3, True, "bfloat16"),
        ("cuda", 3, False, "float32"),
    ],
)
def test_auto_precision_of_a_training(monkeypatch, device, ndim, has, dtype):
    monkeypatch.setattr(devices, "has_bfloat16", lambda _: has)
    place = torch.device(device)
    assert training_precision("auto", place, ndim) == getattr(torch, dtype)
    assert training_precision("float32", place, ndim) == torch.float32
    with pytest.raises(DeviceError, match="float16"):
        training_precision("float16", place, ndim)


def test_volumes_are_not_trained_in_bfloat16_on_a_cpu():
    cpu = torch.device("cpu")
    assert training_precision("bfloat16", cpu, 2) == torch.bfloat16
    with pytest.raises(DeviceError, match="wrong gradients"):
        training_precision("bfloat16", cpu, 3)


def test_precisions_on_a_gpu(monkeypatch):
    cuda = torch.device("cuda")
    for has in (True, False):
        monkeypatch.setattr(devices, "has_bfloat16", lambda _, has=has: has)
        assert choose_precision("auto", cuda) == torch.float32
        assert choose_precision("float16", cuda) == torch.float16
    with pytest.raises(DeviceError, match="no bfloat16"):
        choose_precision("bfloat16", cuda)


def test_free_memory_keeps_the_limit_of_the_group(monkeypatch, tmp_path):
    assert 0 < free_memory(torch.device("cpu")) < 2**50
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(devices, "_CGROUP", tmp_path)
    assert free_memory(torch.device("cpu")) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) > 2000


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Given groups=1, expected 3 channels"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory(error, says):
    assert is_out_of_memory(error) is says


def test_real_allocation_failure_is_out_of_memory():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


@pytest.mark.gpu
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)]
)
def test_on_a_gpu(precision, tolerance, ndim):
    """Float32 is no TF32: with that logits were wrong by a hundred times as much."""
    net = network(ndim)
    placed = net.place("cuda", precision)
    image = torch.randn(2, 1, *(32,) * ndim)
    logits = placed(image)
    assert logits.device.type == "cuda"
    assert "CUDA" in placed.words
    expected = copy.deepcopy(net.module).double()(image.double())
    off = (logits.cpu() - expected).abs().max() / expected.std()
    assert 0 < off < tolerance
    assert free_memory(placed.device) > 0
