"""Network: a module with its spec, on a device, ready to run."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.networks.backends.accelerated import Accelerated
from napari_unet.networks.device import Placement, choose_device, choose_precision
from napari_unet.networks.folding import fold_batch_norm
from napari_unet.networks.receptive_field import Geometry, geometry

if TYPE_CHECKING:
    from torch import nn

    from napari_unet.networks.spec import ModelSpec


class Network:
    """A U-Net that can be called.

    Attributes
    ----------
    spec : ModelSpec
        What it is.
    module : torch.nn.Module
        Its layers in float32, in eval mode, as training and export need them; after
        `place` the layers as they run.
    digest : str
        SHA-256 of the checkpoint it came from, empty for a new network.
    dtype : torch.dtype
        Arithmetic of the module.
    """

    def __init__(self, module: nn.Module, spec: ModelSpec, digest: str = "") -> None:
        self.module = module.eval()
        self.spec = spec
        self.digest = digest
        self.dtype = torch.float32
        self._placement: Placement | None = None
        self._accelerated: Accelerated | None = None

    @cached_property
    def geometry(self) -> Geometry:
        """Receptive field, stride grid and lost margin."""
        return geometry(self.module, self.spec.ndim, self.spec.in_channels)

    @property
    def device(self) -> torch.device:
        """Where the module's weights are."""
        return next(self.module.parameters()).device

    @property
    def words(self) -> str:
        """Where and how it runs, such as ``"CPU, 2 threads, float32"``."""
        place = self._placement or choose_device(self.device.type)
        return f"{place.words}, {str(self.dtype).removeprefix('torch.')}"

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.module.parameters())

    def place(self, device: str = "auto", precision: str = "auto") -> Network:
        """Return a copy made ready for inference; this network stays as it is.

        Batch norm is folded into the convolutions and the weights are laid out channels
        last, in the dtype they compute in.

        Parameters
        ----------
        device : str
            auto, cpu, cuda or mps.
        precision : str
            auto, float32, bfloat16 or float16.

        Raises
        ------
        DeviceError
            If the device is absent or cannot compute so.
        """
        placement = choose_device(device)
        dtype = choose_precision(precision, placement.device)
        module = fold_batch_norm(copy.deepcopy(self.module).eval())
        module = module.requires_grad_(False).to(placement.device, dtype)
        module = module.to(memory_format=self._layout)  # type: ignore[call-overload]
        placed = Network(module, self.spec, self.digest)
        placed.dtype = dtype
        placed._placement = placement
        placed.__dict__["geometry"] = self.geometry
        return placed

    def accelerated(self, backend: str) -> Network:
        """Return this placed network with calls that a backend computes.

        Streaming goes through the layers of `module` one by one and stays as it is.

        Parameters
        ----------
        backend : {"auto", "eager", "compile", "openvino"}
            auto is eager: building takes seconds to minutes, and networks that stream
            gain nothing.

        Raises
        ------
        UsageError, DeviceError
            If OpenVINO is not installed, or asked for on a GPU.
        """
        if backend in ("auto", "eager"):
            return self
        made = copy.copy(self)
        made._accelerated = Accelerated(
            self.module, self.spec.model_dump_json(), backend
        )
        return made

    def take_notes(self) -> list[str]:
        """Return what the backend says since the last call."""
        if self._accelerated is None:
            return []
        notes, self._accelerated.notes = self._accelerated.notes, []
        return notes

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor | np.ndarray[Any, Any]) -> torch.Tensor:
        """Compute logits.

        Parameters
        ----------
        batch : torch.Tensor or numpy.ndarray
            Normalised input (N, in_channels, *spatial).

        Returns
        -------
        torch.Tensor
            (N, out_channels, *spatial) in float32, on the network's device.
        """
        forward = self.module if self._accelerated is None else self._accelerated
        logits: torch.Tensor = forward(self.to_input(batch))
        return logits.float()

    def to_input(self, batch: torch.Tensor | np.ndarray[Any, Any]) -> torch.Tensor:
        """Bring pixels (N, C, *spatial) to the module's device, type and layout."""
        image = _tensor(batch).to(self.device, self.dtype)
        if self._placement is not None:
            image = image.contiguous(memory_format=self._layout)
        return image

    @property
    def _layout(self) -> torch.memory_format:
        is_flat = self.spec.ndim == 2
        return torch.channels_last if is_flat else torch.channels_last_3d


def _tensor(batch: torch.Tensor | np.ndarray[Any, Any]) -> torch.Tensor:
    """Wrap an array, copying it only where torch could not use it as it is."""
    if isinstance(batch, torch.Tensor):
        return batch
    return torch.from_numpy(np.require(batch, np.float32, ["C", "W"]))
