"""Backends against the module itself; those that are absent are skipped, saying so."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.config import PredictConfig
from napari_unet.errors import DeviceError, UNetError, UsageError
from napari_unet.events import Warned
from napari_unet.images.intensity import Scaling
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference.predict import predict
from napari_unet.networks.backends import accelerated, openvino_program
from napari_unet.networks.backends.folder import build_folder
from napari_unet.networks.backends.stepwise import StepwiseNorm, stepwise
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="openvino not installed")
needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler"
)
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    place = tmp_path / "cache"
    monkeypatch.setattr(
        *("napari_unet.networks.backends.folder.platformdirs.user_cache_dir",),
        lambda *_, **__: str(place / "napari-unet"),
    )
    return place / "napari-unet" / "built"


def network(**fields) -> Network:
    torch.manual_seed(0)
    spec = UNetSpec(**{"widths": (4, 6, 8), **fields})
    model = ModelSpec(
        ndim=spec.ndim,
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        activation="softmax",
    )
    return Network(UNet(spec), model, "d1g")


def same(placed: Network, backend: str, shape: tuple[int, ...]) -> None:
    """Compare a first and a second call with the module's own."""
    fast = placed.accelerated(backend)
    for seed in (0, 1):
        torch.manual_seed(seed)
        image = torch.randn(shape)
        torch.testing.assert_close(fast(image), placed(image), atol=1e-5, rtol=0)
    assert fast.take_notes() == []


@needs_openvino
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"norm": "instance", "upsampling": "linear", "in_channels": 3},
        {"norm": "group", "groups": 2},
        {"padding": "valid", "norm": "none"},
        {"ndim": 3, "widths": (4, 6), "norm": "instance"},
    ],
    ids=str,
)
def test_openvino_gives_the_module_s_values(fields) -> None:
    net = network(**fields)
    size = (124, 108) if fields.get("padding") else (32, 48, 16)[: net.spec.ndim]
    same(net.place("cpu", "float32"), "openvino", (2, net.spec.in_channels, *size))


@needs_openvino
@pytest.mark.parametrize("norm", ["instance", "group"])
def test_openvino_keeps_its_digits_over_a_large_patch(norm) -> None:
    net = network(ndim=3, widths=(4, 8), norm=norm, groups=2)
    same(net.place("cpu", "float32"), "openvino", (1, 1, 32, 128, 128))


@pytest.mark.parametrize(
    "layer",
    [
        nn.InstanceNorm2d(6, affine=True),
        nn.InstanceNorm2d(6, eps=1e-3),
        nn.GroupNorm(3, 6),
        nn.GroupNorm(1, 6, affine=False),
    ],
    ids=str,
)
def test_norms_in_steps_are_the_same_norms(layer) -> None:
    for weight in layer.parameters():
        nn.init.normal_(weight)
    image = torch.randn(2, 6, 13, 10) * 3 + 5
    holder = stepwise(nn.Sequential(copy.deepcopy(layer)))
    assert isinstance(holder[0], StepwiseNorm)
    with torch.no_grad():
        torch.testing.assert_close(holder(image), layer(image), atol=1e-5, rtol=0)


def test_norms_with_statistics_of_their_own_stay() -> None:
    layer = nn.InstanceNorm2d(6, track_running_stats=True)
    assert stepwise(nn.Sequential(layer))[0] is layer


@needs_openvino
def test_openvino_computes_in_bfloat16_where_asked() -> None:
    placed = network().place("cpu", "bfloat16")
    fast, image = placed.accelerated("openvino"), torch.randn(1, 1, 32, 32)
    fast(image)
    apart = (fast(image) - placed(image)).abs().max()
    assert apart < 0.02
    assert fast.take_notes() == []


@needs_openvino
def test_openvino_does_not_report_its_use() -> None:
    network().place("cpu", "float32").accelerated("openvino")(torch.randn(1, 1, 16, 16))
    assert sys.modules["openvino_telemetry"] is None


@needs_openvino
def test_a_program_is_built_once(cache, monkeypatch) -> None:
    placed, image = network().place("cpu", "float32"), torch.randn(1, 1, 32, 32)
    built: list[str] = []
    convert = openvino_program._convert
    monkeypatch.setattr(
        openvino_program,
        "_convert",
        lambda *args: (built.append("once"), convert(*args)),
    )
    for _ in range(2):
        placed.accelerated("openvino")(image)
    assert built == ["once"]
    assert len(list(cache.iterdir())) == 1
    other = network()
    nn.init.ones_(next(other.module.parameters()))
    other.place("cpu", "float32").accelerated("openvino")(image)
    placed.accelerated("openvino")(image[..., :16])
    assert built == ["once"] * 3


@needs_compiler
def test_compiled_layers_give_the_module_s_values(cache) -> None:
    """One network, since a build takes seconds; with instance norm, where it pays."""
    placed = network(norm="instance", widths=(4, 6)).place("cpu", "float32")
    work = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    same(placed, "compile", (1, 1, 16, 24))
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == work
    (folder,) = cache.iterdir()
    assert [path.name for path in folder.iterdir()] == ["program.pt2"]
    before = (folder / "program.pt2").stat().st_mtime_ns
    same(placed, "compile", (1, 1, 16, 24))
    assert (folder / "program.pt2").stat().st_mtime_ns == before


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_eager_is_the_module_itself(backend: str) -> None:
    placed = network().place("cpu", "float32")
    assert placed.accelerated(backend) is placed


def run(network: Network, **settings) -> tuple[np.ndarray, list[str]]:
    image = np.random.default_rng(0).normal(size=(2, 70, 90)).astype("f4")
    config = PredictConfig(device="cpu", kind="logits", tiling="blend", tile=(48,))
    config = config.model_copy(update=settings)
    as_is = Scaling((1.0,), (0.0,), (False,))
    stack = ImageStack(image, "TYX")
    events = list(predict(stack, network, config, ArraySink(), scaling=as_is))
    told = [e.message for e in events if isinstance(e, Warned)]
    return events[-1].result, told


def failing(error: Exception):
    def build(module, image, facts):
        raise error

    return build


def wrong(module, image, facts):
    return lambda batch: module(batch) + 0.01


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            failing(RuntimeError("\nno C++ compiler found\nat line 3")),
            "no C++ compiler",
        ),
        (failing(KeyError("an operator")), "an operator"),
        (wrong, "its values differ by 0.01"),
    ],
)
def test_what_cannot_be_built_runs_as_it_is_and_that_is_said(
    monkeypatch, build, says: str
) -> None:
    net = network(norm="instance")
    expected, _ = run(net)
    monkeypatch.setitem(accelerated._BUILDERS, "compile", build)
    found, told = run(net, backend="compile")
    np.testing.assert_array_equal(found, expected)
    (said,) = [text for text in told if "cannot be compiled" in text]
    assert says in said


def test_out_of_memory_is_left_to_the_engine(monkeypatch) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setitem(accelerated._BUILDERS, "compile", failing(error))
    fast = network().place("cpu", "float32").accelerated("compile")
    with pytest.raises(torch.OutOfMemoryError):
        fast(torch.randn(1, 1, 16, 16))


def test_many_shapes_are_not_all_built(monkeypatch) -> None:
    built: list[tuple[int, ...]] = []

    def build(module, image, facts):
        built.append(tuple(image.shape))
        return module

    monkeypatch.setitem(accelerated._BUILDERS, "compile", build)
    fast = network().place("cpu", "float32").accelerated("compile")
    for n in (16, 16, 20, 24, 28, 32, 32):
        fast(torch.randn(1, 1, 16, n))
    assert len(built) == 4
    assert ["too many shapes" in note for note in fast.take_notes()] == [True]


@pytest.mark.parametrize("tta", ["none", "flips"])
def test_a_run_uses_the_backend_of_its_settings(monkeypatch, tta: str) -> None:
    calls: list[int] = []

    def build(module, image, facts):
        return lambda batch: (calls.append(1), module(batch))[1]

    net = network(norm="instance")
    expected, _ = run(net, tta=tta)
    monkeypatch.setitem(accelerated._BUILDERS, "compile", build)
    found, told = run(net, backend="compile", tta=tta)
    np.testing.assert_array_equal(found, expected)
    assert len(calls) > 3
    assert not told


def test_streaming_says_that_it_uses_none() -> None:
    _, told = run(network(), backend="compile", tiling="stream", tile=None)
    assert "backend compile is not used" in " ".join(told)


def test_openvino_is_for_the_processor_and_must_be_there(monkeypatch) -> None:
    placed = network().place("cpu", "float32")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"unet-napari\[openvino\]"):
        placed.accelerated("openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    meta = Network(placed.module.to("meta"), placed.spec)
    with pytest.raises(DeviceError, match="--backend compile"):
        meta.accelerated("openvino")


@posix
def test_the_folder_is_private_and_named_by_what_is_built(cache) -> None:
    layers, image = nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 4, 4)
    folder = build_folder(layers, image, "spec", "x 1")
    assert folder.parent == cache
    assert [p.stat().st_mode & 0o777 for p in (cache, folder)] == [0o700, 0o700]
    assert build_folder(layers, image, "spec", "x 1") == folder
    others = [
        build_folder(nn.Conv2d(1, 1, 1), image, "spec", "x 1"),
        build_folder(layers, image[..., :2], "spec", "x 1"),
        build_folder(layers, image.to(torch.bfloat16), "spec", "x 1"),
        build_folder(layers, image, "spec", "x 2"),
        build_folder(layers, image, "other spec", "x 1"),
    ]
    assert len({folder, *others}) == 6


@posix
@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_a_folder_open_to_others_is_refused(cache, mode: int, inner: bool) -> None:
    layers, image = nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 4, 4)
    folder = build_folder(layers, image, "spec", "x 1")
    (folder if inner else cache).chmod(mode)
    with pytest.raises(UNetError, match="open to other users"):
        build_folder(layers, image, "spec", "x 1")


@posix
def test_a_link_in_place_of_the_folder_is_refused(cache, tmp_path) -> None:
    cache.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    cache.symlink_to(elsewhere)
    with pytest.raises(UNetError, match="no folder"):
        build_folder(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 4, 4), "spec", "x 1")


@posix
def test_the_oldest_programs_go(cache, monkeypatch) -> None:
    monkeypatch.setattr("napari_unet.networks.backends.folder._MOST", 3)
    layers = nn.Conv2d(1, 1, 1)
    made = []
    for n in range(1, 6):
        made.append(build_folder(layers, torch.zeros(1, 1, 4, n), "spec", "x 1"))
        os.utime(made[-1], (n, n))
    assert sorted(cache.iterdir()) == sorted(made[2:])
