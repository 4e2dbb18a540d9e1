"""A network given as a list of operations instead of code.

For files that tell the whole graph (ONNX, torch.export, TorchScript): an allow-list of
operations, each made of torch's own layers, so that the graph is exact and can be
traced for its receptive field.
"""

from __future__ import annotations

import operator
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
    *("max_pool", "average_pool", "mean", "maximum", "resize", "pad", "concat"),
    *("add", "sub", "mul", "div", "constant", "activation", "clip", "prelu"),
    *("channels", "identity"),
)
_ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": lambda _: nn.SELU(),
    "gelu": lambda _: nn.GELU(),
    "gelu_tanh": lambda _: nn.GELU("tanh"),
    "silu": lambda _: nn.SiLU(),
    "mish": lambda _: nn.Mish(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "hard_sigmoid": lambda _: nn.Hardsigmoid(),
    "hard_swish": lambda _: nn.Hardswish(),
    "tanh": lambda _: nn.Tanh(),
    "softplus": lambda _: nn.Softplus(),
    "softmax": lambda _: nn.Softmax(1),
    "erf": lambda _: ErrorFunction(),
    "log_softmax": lambda _: nn.LogSoftmax(1),
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
        What the layer is made with, see `make_layer`.
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
            layer = make_layer(step, spec.ndim)
            if layer is not None:
                self.add_module(f"n{n}", layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the last step."""
        values: list[torch.Tensor] = []
        for n, step in enumerate(self.spec.steps):
            read = [x if i < 0 else values[i] for i in step.inputs]
            layer = getattr(self, f"n{n}", None)
            values.append(carry_out(step.kind, layer, read))
        return values[-1]


def carry_out(
    kind: str, layer: nn.Module | None, read: list[torch.Tensor]
) -> torch.Tensor:
    """Return what a step gives for its inputs.

    Parameters
    ----------
    kind : str
        One of `OPERATIONS`.
    layer : torch.nn.Module, optional
        As `make_layer` made it.
    read : list of torch.Tensor
        The inputs, (N, C, *spatial) each.
    """
    if layer is not None:
        result: torch.Tensor = layer(read[0])
        return result
    if kind == "concat":
        return torch.cat(read, 1)
    combined: torch.Tensor = _SUMS[kind](read[0], read[1])
    return combined


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


class ErrorFunction(Leaf):
    """The error function, of which some exporters make GELU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *spatial)."""
        return torch.erf(x)

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel."""
        return (STILL,) * ndim


class Pad(Leaf):
    """Add pixels around, or take pixels off where negative.

    Parameters
    ----------
    before, after : tuple of int
        One number for each spatial axis.
    value : float or str
        What is added; ``"-inf"`` before a maximum, which it never is.
    mode : str
        constant, reflect or replicate.
    """

    def __init__(
        self,
        before: tuple[int, ...],
        after: tuple[int, ...],
        value: float | str = 0.0,
        mode: str = "constant",
    ) -> None:
        super().__init__()
        self.before, self.after = tuple(before), tuple(after)
        self.value, self.mode = float(value), mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, *spatial + before + after)."""
        pairs = list(zip(self.before, self.after, strict=True))[::-1]
        sides = [n for pair in pairs for n in pair]
        if self.mode != "constant":
            return F.pad(x, sides, self.mode)
        return F.pad(x, sides, value=self.value)

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel, shifted."""
        pairs = zip(self.before, self.after, strict=True)
        return tuple(Slide(1, 1, 1, b, a) for b, a in pairs)


class Channels(Leaf):
    """Take some of the channels.

    Parameters
    ----------
    start, stop : int
        The first one, and the one behind the last.
    """

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, stop - start, *spatial)."""
        return x[:, self.start : self.stop]

    def windows(self, ndim: int) -> tuple[Window, ...]:
        """One pixel."""
        return (STILL,) * ndim


def make_layer(step: Operation, ndim: int) -> nn.Module | None:
    """Make the layer of a step, None for those that join inputs.

    Parameters
    ----------
    step : Operation
        Its settings are those of torch's layer.
    ndim : int
        Number of spatial axes.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the settings do not fit.
    """
    kind, settings = step.kind, dict(step.settings)
    if kind == "concat" or kind in _SUMS:
        return None
    if kind == "activation":
        return _ACTIVATIONS[settings["name"]](float(settings.get("slope", 0.01)))
    if kind == "clip":
        return nn.Hardtanh(float(settings["low"]), float(settings["high"]))
    if kind == "prelu":
        return nn.PReLU(settings["num_parameters"])
    if kind in _OWN:
        return _OWN[kind](**settings)
    if kind == "identity":
        return nn.Identity()
    if kind == "group_norm":
        return nn.GroupNorm(**settings)
    if kind == "resize":
        factors = tuple(float(f) for f in settings.pop("scale_factor"))
        return nn.Upsample(scale_factor=factors, **settings)
    name, extra = _TORCH[kind]
    layer: nn.Module = getattr(nn, f"{name}{ndim}d")(**{**extra, **settings})
    return layer


_SUMS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
}
_OWN: dict[str, type[Leaf]] = {"constant": Constant, "pad": Pad, "channels": Channels}
_TORCH: dict[str, tuple[str, dict[str, Any]]] = {
    "conv": ("Conv", {}),
    "transposed": ("ConvTranspose", {}),
    "batch_norm": ("BatchNorm", {}),
    "instance_norm": ("InstanceNorm", {"affine": True}),
    "max_pool": ("MaxPool", {}),
    "average_pool": ("AvgPool", {}),
    "mean": ("AdaptiveAvgPool", {"output_size": 1}),
    "maximum": ("AdaptiveMaxPool", {"output_size": 1}),
}
