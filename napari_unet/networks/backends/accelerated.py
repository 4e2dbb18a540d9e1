"""A module whose forward pass is built by a backend, shape by shape, and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_unet.errors import DeviceError
from napari_unet.networks.backends import compiled, openvino_program
from napari_unet.networks.device import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    Forward = Callable[[torch.Tensor], torch.Tensor]

_BUILDERS = {"compile": compiled.build, "openvino": openvino_program.build}
_NAMES = {"compile": "compiled", "openvino": "run by OpenVINO"}
_MOST_SHAPES = 4
"""Shapes that are built; a run has one, and a few more where the memory is short."""
_TOLERANCE = {torch.float32: 1e-4}
_ROUGH = 5e-2
"""Most difference to the module over the largest output; in half precision."""


class Accelerated:
    """Runs a module by a backend where that works, else as it is, and says so.

    The first output of each shape is compared with that of the module itself.

    Parameters
    ----------
    module : torch.nn.Module
        Layers as they run: placed and folded.
    facts : str
        All that decides what the layers do beside their weights.
    backend : {"compile", "openvino"}
        What builds the forward pass.

    Attributes
    ----------
    notes : list of str
        What the user should be told.

    Raises
    ------
    UsageError
        If OpenVINO is asked for and not installed.
    DeviceError
        If OpenVINO is asked for on a GPU.
    """

    def __init__(self, module: nn.Module, facts: str, backend: str) -> None:
        if backend == "openvino":
            openvino_program.check()
            _check_cpu(module)
        self.notes: list[str] = []
        self._module = module
        self._facts = facts
        self._backend = backend
        self._built: dict[tuple[int, ...], Forward] = {}

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the module's output, (N, C, *spatial)."""
        shape = tuple(image.shape)
        if shape in self._built:
            return self._built[shape](image)
        self._built[shape], result = self._first(image)
        return result

    def _first(self, image: torch.Tensor) -> tuple[Forward, torch.Tensor]:
        """Build for a shape, and compute it in both ways."""
        expected: torch.Tensor = self._module(image)
        if len(self._built) >= _MOST_SHAPES:
            return self._as_it_is("its tiles have too many shapes"), expected
        try:
            build = _BUILDERS[self._backend]
            forward = build(self._module, image, self._facts)
            apart = float((forward(image).float() - expected.float()).abs().max())
        except Exception as error:  # compilers raise anything
            if is_out_of_memory(error):
                raise
            return self._as_it_is(_reason(error)), expected
        most = _TOLERANCE.get(image.dtype, _ROUGH) * float(expected.abs().max())
        if not apart <= most:
            return self._as_it_is(f"its values differ by {apart:.1g}"), expected
        return forward, expected

    def _as_it_is(self, reason: str) -> Forward:
        self.notes.append(
            f"The network cannot be {_NAMES[self._backend]} and runs as it is: {reason}"
        )
        return self._module


def _check_cpu(module: nn.Module) -> None:
    device = next(module.parameters(), torch.zeros(1)).device
    if device.type != "cpu":
        raise DeviceError(
            "OpenVINO computes on the CPU here",
            found=f"the device {device.type}",
            hint="Use --backend compile, or --device cpu.",
        )


def _reason(error: Exception) -> str:
    """First line that an error says."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
