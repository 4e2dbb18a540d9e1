"""How fast is the engine, against its peers and the network alone?

    python -m benchmarks.inference [--what 2d 3d stack] [--rounds 3] [--small]

One process, engines taking turns, order reversed every other round; the figures are
medians over rounds, ratios those of the rounds. Every engine gets the same network with
random weights. "plain" is the network as peers run it, "prepared" ours: batch norm
folded, channels last. Ours has the memory settings of its own processes, see
`napari_unet.execution.memory`. monai and nnunetv2 are left out where they are not
installed; CUDA is used with --device cuda. Labels are compared with the whole-image
forward.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.config import PredictConfig
from napari_unet.execution import memory
from napari_unet.images.intensity import Scaling
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference.predict import predict
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Engine = Callable[[np.ndarray], np.ndarray]

CASES = {
    "2d": ((4096, 4096), (2048, 2048), (32, 64, 128, 256, 512), (512, 512)),
    "3d": ((64, 512, 512), (32, 256, 256), (16, 32, 64, 128), (32, 128, 128)),
    "stack": ((200, 512, 512), (12, 512, 512), (32, 64, 128, 256, 512), (256, 256)),
}
"""Image, smaller image, widths of the levels, patch of the peers."""


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="smaller images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", help="engines whose names contain these")
    args = parser.parse_args()
    for name in args.what:
        size, small, widths, patch = CASES[name]
        shape = small if args.small else size
        print(f"\n{name}: {' x '.join(map(str, shape))}, widths {widths}", flush=True)
        bench = _Bench(shape, widths, patch, args.device, is_stack=name == "stack")
        engines = {
            key: engine
            for key, engine in bench.engines().items()
            if not args.only or any(part in key for part in args.only)
        }
        with torch.inference_mode():
            _table(bench.image, engines, args.rounds)


def _table(image: np.ndarray, engines: dict[str, Engine], rounds: int) -> None:
    """Run all engines in turn and print what they took."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    rise: dict[str, float] = {}
    labels: dict[str, np.ndarray] = {}
    for n in range(rounds):
        for name in list(engines)[:: 1 if n % 2 else -1]:
            with _Anonymous() as watch:
                start = time.perf_counter()
                labels[name] = engines[name](image)
                seconds[name].append(time.perf_counter() - start)
            rise[name] = max(rise.get(name, 0.0), watch.rise)
    first, *_ = engines
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[first], strict=True)]
        flips = float((labels[name] != labels[first]).mean())
        print(
            f"{name:32} {statistics.median(times):8.2f} s"
            f" {statistics.median(ratios):6.2f} of {first}"
            f" {flips:9.2e} flips {rise[name] / 1e6:7.0f} MB",
            flush=True,
        )


class _Bench:
    """The engines on one network and one image."""

    def __init__(
        self,
        shape: tuple[int, ...],
        widths: tuple[int, ...],
        patch: tuple[int, ...],
        device: str,
        is_stack: bool,
    ) -> None:
        self.ndim = 2 if is_stack else len(shape)
        self.patch, self.device, self.is_stack = patch, device, is_stack
        self.image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        self.network = _network(self.ndim, widths)
        self.plain = self.network.module.to(device)
        self.prepared = self.network.place(device, "float32")
        self.half = self.network.place(device, "bfloat16")

    def engines(self) -> dict[str, Engine]:
        """All engines by name; the first is what others are compared with."""
        found: dict[str, Engine] = {
            "whole, prepared": lambda x: self._each(x, self._prepared),
            "whole, plain": lambda x: self._each(x, self._plain),
            "ours, float32": lambda x: self._ours(x, "float32"),
            "ours, bfloat16": lambda x: self._ours(x, "bfloat16"),
        }
        for words, call in (("plain", self._plain), ("prepared", self._prepared)):
            found[f"naive loop, {words}"] = lambda x, c=call: self._each(
                x, lambda frame: _naive(frame, c, self.patch)
            )
            found |= self._monai(words, call) | self._nnunet(words, call)
        return found | self._monai("prepared bfloat16", self._half)

    def _each(self, image: np.ndarray, call: Callable[..., Any]) -> np.ndarray:
        """Labels of all frames."""
        frames = image if self.is_stack else image[None]
        found = [
            call(torch.from_numpy(frame)[None, None].to(self.device))
            .argmax(1)[0]
            .to(torch.uint8)
            .cpu()
            .numpy()
            for frame in frames
        ]
        return np.stack(found) if self.is_stack else found[0]

    def _plain(self, x: torch.Tensor) -> torch.Tensor:
        return self.plain(x)

    def _prepared(self, x: torch.Tensor) -> torch.Tensor:
        return self.prepared(x)

    def _half(self, x: torch.Tensor) -> torch.Tensor:
        return self.half(x)

    def _ours(self, image: np.ndarray, precision: str) -> np.ndarray:
        with _kept_memory():
            return self._predicted(image, precision)

    def _predicted(self, image: np.ndarray, precision: str) -> np.ndarray:
        axes = "ZYX"[-image.ndim :]
        config = PredictConfig(device=self.device, precision=precision)
        scaling = Scaling((1.0,), (0.0,), (False,))
        events = list(
            predict(
                ImageStack(image, axes),
                self.network,
                config,
                ArraySink(),
                scaling=scaling,
            )
        )
        return events[-1].result

    def _monai(self, words: str, call: Callable[..., Any]) -> dict[str, Engine]:
        try:
            from monai.inferers import sliding_window_inference
        except ImportError:
            return {}

        def run(frame: torch.Tensor, overlap: float, **more: Any) -> torch.Tensor:
            return sliding_window_inference(
                frame, self.patch, 1, call, overlap=overlap, mode="gaussian", **more
            )

        found: dict[str, Engine] = {
            f"MONAI 25 %, {words}": lambda x: self._each(x, lambda f: run(f, 0.25))
        }
        if words == "plain":
            found["MONAI 25 %, plain, buffered"] = lambda x: self._each(
                x, lambda f: run(f, 0.25, buffer_steps=4, buffer_dim=0)
            )
            if self.ndim == 3:
                found["MONAI 50 %, plain"] = lambda x: self._each(
                    x, lambda f: run(f, 0.5)
                )
        return found

    def _nnunet(self, words: str, call: Callable[..., Any]) -> dict[str, Engine]:
        try:
            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        except ImportError:
            return {}
        predictor = nnUNetPredictor(
            tile_step_size=0.75,
            use_gaussian=True,
            use_mirroring=False,
            perform_everything_on_device=self.device != "cpu",
            device=torch.device(self.device),
            allow_tqdm=False,
        )
        predictor.network = _Called(call)
        predictor.configuration_manager = SimpleNamespace(patch_size=list(self.patch))
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=2)
        predictor.allowed_mirroring_axes = None

        def run(frame: torch.Tensor) -> torch.Tensor:
            pixels = frame[0] if self.ndim == 3 else frame[0][:, None]
            logits = predictor.predict_sliding_window_return_logits(pixels)
            return (logits if self.ndim == 3 else logits[:, 0])[None].float()

        return {f"nnU-Net 25 %, {words}": lambda x: self._each(x, run)}


class _Called(torch.nn.Module):
    """A function as the module that nnU-Net asks for."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.call(x)


def _network(ndim: int, widths: tuple[int, ...]) -> Network:
    """Return a batch-norm U-Net with random weights and statistics."""
    torch.manual_seed(0)
    module = UNet(UNetSpec(ndim=ndim, out_channels=2, widths=widths)).eval()
    for layer in module.modules():
        if isinstance(layer, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            torch.nn.init.normal_(layer.running_mean, 0, 0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    _balance(module, ndim)
    spec = ModelSpec(name="random", ndim=ndim, in_channels=1, out_channels=2)
    return Network(module, spec, digest="random")


def _balance(module: UNet, ndim: int) -> None:
    """Shift the last layer until both classes are as frequent on noise."""
    with torch.inference_mode():
        noise = module(torch.randn((1, 1, *(32 * 2 ** (3 - ndim + 1),) * ndim)))
        shift = (noise[:, 1] - noise[:, 0]).median()
    module.head.bias.data[1] -= float(shift)


def _naive(
    frame: torch.Tensor, call: Callable[..., Any], patch: tuple[int, ...]
) -> torch.Tensor:
    """Patches with 25 % overlap, averaged in numpy as first scripts do."""
    image = frame[0, 0].cpu().numpy()
    total = np.zeros((2, *image.shape), np.float32)
    count = np.zeros(image.shape, np.float32)
    starts = [
        sorted({*range(0, n - p, p * 3 // 4), n - p})
        for n, p in zip(image.shape, patch, strict=True)
    ]
    for corner in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(
        -1, image.ndim
    ):
        box = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        pixels = torch.from_numpy(image[box].copy())[None, None].to(frame.device)
        total[(slice(None), *box)] += call(pixels)[0].cpu().numpy()
        count[box] += 1
    return torch.from_numpy(total / count)[None]


@contextmanager
def _kept_memory() -> Iterator[None]:
    """Run as our command line and our computing process do, and put things back.

    The peers' thresholds afterwards are the largest that glibc would come to by itself.
    """
    memory.keep()
    try:
        yield
    finally:
        memory.give_back()
        libc = ctypes.CDLL(None)
        for setting in ((-4, 65536), (-3, 32 << 20), (-1, 64 << 20)):
            libc.mallopt(*setting)


class _Anonymous:
    """Watches how far the anonymous memory of this process rises."""

    def __enter__(self) -> _Anonymous:
        self.start = self.peak = _anonymous()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    @property
    def rise(self) -> int:
        """Bytes above the start."""
        return self.peak - self.start

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.peak = max(self.peak, _anonymous())


def _anonymous() -> int:
    """RssAnon of this process in bytes, 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(n.split()[1]) * 1000 for n in lines if n.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
