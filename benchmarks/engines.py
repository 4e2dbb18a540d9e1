"""Ours and its peers on one network and one image, from file to file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import torch

from benchmarks.measuring import kept_memory
from napari_unet.config import PredictConfig
from napari_unet.images.intensity import Scaling
from napari_unet.images.readers import open_image
from napari_unet.images.sinks import sink_for
from napari_unet.inference.predict import predict
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.measuring import Engine

    Call = Callable[[torch.Tensor], torch.Tensor]

_MIDDLE, _SPREAD = 2000.0, 300.0
"""Of the image's intensities; what every engine brings to 0 and 1."""


class Engines:
    """The engines on one network and one image.

    Each reads a compressed TIFF file and writes its labels as another; only ours
    reads and writes in parts. Labels are returned to be compared.

    Parameters
    ----------
    folder : pathlib.Path
        For the image and the results.
    shape : tuple of int
        Of the image, noise of 16 bits.
    widths : tuple of int
        Channels of the network's levels.
    patch : tuple of int
        Patches of the peers.
    device : str
        Where all run.
    is_stack : bool
        Whether the network is a 2D one that gets plane after plane.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, ...],
        widths: tuple[int, ...],
        patch: tuple[int, ...],
        device: str = "cpu",
        is_stack: bool = False,
    ) -> None:
        self.ndim = 2 if is_stack else len(shape)
        self.patch, self.device, self.is_stack = patch, device, is_stack
        self.folder, self.path = folder, folder / "image.tif"
        _write_image(self.path, shape)
        self.network = random_network(self.ndim, widths)
        self.plain = self.network.module.to(device)
        self.prepared = self.network.place(device, "float32")
        self.half = self.network.place(device, "bfloat16")

    def all(self) -> dict[str, Engine]:
        """All engines by name; the first is what others are compared with."""
        prepared, plain = self.prepared, self.plain
        found: dict[str, Engine] = {
            "whole, prepared": lambda: self._each(prepared),
            "whole, prepared, no files": self._forward,
            "whole, plain": lambda: self._each(plain),
            "ours, float32": lambda: self._ours("float32"),
            "ours, bfloat16": lambda: self._ours("bfloat16"),
        }
        for words, call in (("plain", plain), ("prepared", prepared)):
            found[f"naive loop, {words}"] = lambda c=call: self._each(
                lambda frame: _naive(frame, c, self.patch)
            )
            found |= self._monai(words, call) | self._nnunet(words, call)
        return found | self._monai("prepared bfloat16", self.half)

    def _ours(self, precision: str) -> np.ndarray:
        target = self.folder / "ours.ome.tif"
        config = PredictConfig(device=self.device, precision=precision)
        scaling = Scaling((1 / _SPREAD,), (-_MIDDLE / _SPREAD,), (False,))
        with kept_memory(), open_image(self.path, axes=self._axes) as stack:
            sink = sink_for(target)
            for _ in predict(stack, self.network, config, sink, scaling=scaling):
                pass
        return tifffile.imread(target)

    @property
    def _axes(self) -> str:
        return "ZYX" if self.is_stack else "ZYX"[-self.ndim :]

    def _each(self, call: Call) -> np.ndarray:
        """Labels of all frames, as a script would find them."""
        image = tifffile.imread(self.path).astype(np.float32)
        labels = self._labels((image - _MIDDLE) / _SPREAD, call)
        tifffile.imwrite(
            self.folder / "peer.tif",
            labels,
            photometric="minisblack",
            compression="zlib",
            tile=(256, 256),
        )
        return labels

    def _forward(self) -> np.ndarray:
        """Labels without reading and writing of files; the image is in memory."""
        if not hasattr(self, "_image"):
            image = tifffile.imread(self.path).astype(np.float32)
            self._image = (image - _MIDDLE) / _SPREAD
        return self._labels(self._image, self.prepared)

    def _labels(self, image: np.ndarray, call: Call) -> np.ndarray:
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

    def _monai(self, words: str, call: Call) -> dict[str, Engine]:
        try:
            from monai.inferers import sliding_window_inference
        except ImportError:
            return {}

        def run(overlap: float, **more: Any) -> np.ndarray:
            return self._each(
                lambda frame: sliding_window_inference(
                    frame, self.patch, 1, call, overlap=overlap, mode="gaussian", **more
                )
            )

        found: dict[str, Engine] = {f"MONAI 25 %, {words}": lambda: run(0.25)}
        if words == "plain":
            found["MONAI 25 %, plain, buffered"] = lambda: run(
                0.25, buffer_steps=4, buffer_dim=0
            )
            if self.ndim == 3:
                found["MONAI 50 %, plain"] = lambda: run(0.5)
        return found

    def _nnunet(self, words: str, call: Call) -> dict[str, Engine]:
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

        return {f"nnU-Net 25 %, {words}": lambda: self._each(run)}


class _Called(torch.nn.Module):
    """A function as the module that nnU-Net asks for."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.call(x)


def _write_image(path: Path, shape: tuple[int, ...]) -> None:
    """Write noise of 16 bits, compressed in tiles as microscopes store it."""
    noise = np.random.default_rng(0).normal(_MIDDLE, _SPREAD, shape)
    pixels = noise.clip(0, 65535).astype(np.uint16)
    tifffile.imwrite(
        path, pixels, photometric="minisblack", compression="zlib", tile=(256, 256)
    )


def random_network(ndim: int, widths: tuple[int, ...]) -> Network:
    """Return a batch-norm U-Net with random weights and statistics."""
    torch.manual_seed(0)
    unet = UNetSpec(ndim=ndim, out_channels=2, widths=widths)
    module = UNet(unet).eval()
    for layer in module.modules():
        if isinstance(layer, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            torch.nn.init.normal_(layer.running_mean, 0, 0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    _balance(module, ndim)
    spec = ModelSpec(
        name="random",
        ndim=ndim,
        in_channels=1,
        out_channels=2,
        architecture=unet.model_dump(mode="json"),
    )
    return Network(module, spec, digest="random")


def _balance(module: UNet, ndim: int) -> None:
    """Shift the last layer until both classes are as frequent on noise."""
    with torch.inference_mode():
        noise = module(torch.randn((1, 1, *(32 * 2 ** (3 - ndim + 1),) * ndim)))
        shift = (noise[:, 1] - noise[:, 0]).median()
    module.head.bias.data[1] -= float(shift)


def _naive(frame: torch.Tensor, call: Call, patch: tuple[int, ...]) -> torch.Tensor:
    """Patches with 25 % overlap, averaged in numpy as first scripts do."""
    image = frame[0, 0].cpu().numpy()
    total = np.zeros((2, *image.shape), np.float32)
    count = np.zeros(image.shape, np.float32)
    starts = [
        sorted({*range(0, n - p, p * 3 // 4), n - p})
        for n, p in zip(image.shape, patch, strict=True)
    ]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), -1)
    for corner in corners.reshape(-1, image.ndim):
        box = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        pixels = torch.from_numpy(image[box].copy())[None, None].to(frame.device)
        total[(slice(None), *box)] += call(pixels)[0].cpu().numpy()
        count[box] += 1
    return torch.from_numpy(total / count)[None]
