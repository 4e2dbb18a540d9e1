"""A network given as a list of operations instead of code.

For files that tell the whole graph (ONNX, Keras): an allow-list of operations, each
made of torch's own layers, so that the graph is exact and can be traced for its
receptive field.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from napari_unet.config import Config
from napari_unet.networks.leaves import Leaf
from napari_unet.networks.windows import STILL, Slide, Window

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATIONS = (
    *("conv", "transposed", "batch_norm", "instance_norm", "group_norm"),
    *("max_pool", "average_pool", "mean", "resize", "pad", "concat"),
    *("add", "sub", "mul", "div", "constant", "activation", "prelu", "identity"),
)
_ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": lambda _: nn.SELU(),
    "gelu": lambda _: nn.GELU(),
    "silu": lambda _: nn.SiLU(),
    "mish": lambda _: nn.Mish(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "hard_sigmoid": lambda _: nn.Hardsigmoid(),
    "relu6": lambda _: nn.ReLU6(),
    "unit_clip": lambda _: nn.Hardtanh(0.0, 1.0),
    "hard_swish": lambda _: nn.Hardswish(),
    "tanh": lambda _: nn.Tanh(),
    "softplus": lambda _: nn.Softplus(),
    "softmax": lambda _: nn.Softmax(1),
}


class Operation(Config):
    """One step.

    Attributes
    ----------
    kind : str
        One of `OPERATIONS`.
    inputs : tuple of int
        Numbers of the steps it reads, -1 for the image.
    settings : dict
        What the layer is made with, see `_layer`.
    """

    kind: str
    inputs: tuple[int, ...]
    settings: dict[str, Any] = Field(default_factory=dict)


class ProgramSpec(Config):
    """A graph: each step reads the image or earlier steps; the last is the output."""

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    steps: tuple[Operation, ...] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        for n, step in enumerate(self.steps):
            if step.kind not in OPERATIONS:
                raise ValueError(f"unknown operation {step.kind}")
            if not step.inputs or not all(-1 <= i < n for i in step.inputs):
                raise ValueError(f"step {n} reads what is not there yet")
        return self


class Program(nn.Module):
    """Runs a `ProgramSpec`: (N, C, *spatial) to what its last step gives.

    The layer of step 3 is named ``n3``, so its weights are ``n3.weight`` and so on.
    """

    def __init__(self, spec: ProgramSpec) -> None:
        super().__init__()
        self.spec = spec
        for n, step in enumerate(spec.steps):
            layer = _layer(step, spec.ndim)
            if layer is not None:
                self.add_module(f"n{n}", layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the last step."""
        values: list[torch.Tensor] = []
        for n, step in enumerate(self.spec.steps):
            read = [x if i < 0 else values[i] for i in step.inputs]
            values.append(self._run(n, step, read))
        return values[-1]

    def _run(self, n: int, step: Operation, read: list[torch.Tensor]) -> torch.Tensor:
        if step.kind == "concat":
            return torch.cat(read, 1)
        if step.kind == "add":
            return read[0] + read[1]
        if step.kind == "sub":
            return read[0] - read[1]
        if step.kind == "mul":
            return read[0] * read[1]
        if step.kind == "div":
            return read[0] / read[1]
        result: torch.Tensor = self.get_submodule(f"n{n}")(read[0])
        return result


class Constant(Leaf):
    """Combine each channel with a number.

    Parameters
    ----------
    operation : str
        add, sub, mul or div.
    channels : int
        How many numbers there are, 1 for one for all.
    first : bool
        Whether the number comes first, as in 1 - x.
    """

    def __init__(self, operation: str, channels: int, first: bool = False) -> None:
        super().__init__()
        self.operation, self.first = operation, first
        self.value = nn.Parameter(torch.zeros(channels), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *spatial)."""
        value = self.value.view(1, -1, *[1] * (x.ndim - 2))
        a, b = (value, x) if self.first else (x, value)
        if self.operation in ("add", "sub"):
            return a + b if self.operation == "add" else a - b
        return a * b if self.operation == "mul" else a / b

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel."""
        return (STILL,) * ndim


class Pad(Leaf):
    """Add pixels around, or take them off where negative.

    Parameters
    ----------
    before, after : tuple of int
        One number for each spatial axis.
    fill : {"zeros", "lowest"}
        What is added: zeros, or minus infinity for a maximum that does not see it.
    """

    def __init__(
        self, before: tuple[int, ...], after: tuple[int, ...], fill: str = "zeros"
    ) -> None:
        super().__init__()
        self.before, self.after = tuple(before), tuple(after)
        self.value = {"zeros": 0.0, "lowest": -math.inf}[fill]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *spatial + before + after)."""
        pairs = list(zip(self.before, self.after, strict=True))[::-1]
        return F.pad(x, [n for pair in pairs for n in pair], value=self.value)

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel, shifted."""
        pairs = zip(self.before, self.after, strict=True)
        return tuple(Slide(1, 1, 1, b, a) for b, a in pairs)


def _layer(step: Operation, ndim: int) -> nn.Module | None:
    """Make the layer of a step; ValueError or TypeError where its settings do not fit.

    Settings are those of torch's layer; a padding may be a pair of tuples, before and
    after.
    """
    kind, settings = step.kind, dict(step.settings)
    if kind in ("concat", "add", "sub", "mul", "div"):
        return None
    if kind == "activation":
        return _ACTIVATIONS[settings["name"]](float(settings.get("slope", 0.01)))
    if kind == "prelu":
        return nn.PReLU(settings["num_parameters"])
    if kind == "constant":
        return Constant(**settings)
    if kind == "pad":
        return Pad(**settings)
    if kind == "identity":
        return nn.Identity()
    if kind == "group_norm":
        return nn.GroupNorm(**settings)
    if kind == "resize":
        factors = tuple(float(f) for f in settings.pop("scale_factor"))
        return nn.Upsample(scale_factor=factors, **settings)
    name, extra = _TORCH[kind]
    layer: nn.Module = getattr(nn, f"{name}{ndim}d")(**settings, **extra)
    return layer


_TORCH: dict[str, tuple[str, dict[str, Any]]] = {
    "conv": ("Conv", {}),
    "transposed": ("ConvTranspose", {}),
    "batch_norm": ("BatchNorm", {}),
    "instance_norm": ("InstanceNorm", {"affine": True}),
    "max_pool": ("MaxPool", {}),
    "average_pool": ("AvgPool", {}),
    "mean": ("AdaptiveAvgPool", {"output_size": 1}),
}
