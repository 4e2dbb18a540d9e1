"""What MONAI's networks share (Project-MONAI/MONAI 1.6.1): layers and what names them.

MONAI calls norm, dropout and activation after a convolution "ADN"; ``adn.N`` and
``adn.A`` are their names. Dropout does nothing in inference and has no weights.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from napari_unet.checkpoints.families.base import (
    Inferred,
    activation,
    normalization,
    setting,
)
from napari_unet.config import Config
from napari_unet.networks.leaves import ChannelsToSpace, TurnAxes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

    from napari_unet.checkpoints.families.base import Shapes
    from napari_unet.networks.spec import Assumption

AXES = "monai_axes"
"""Hint: the order of the axes in training, ``"ZYX"`` or ``"XYZ"``, also for planes."""

_ORDERS = ("ZYX", "XYZ")

Size = tuple[Annotated[int, Field(ge=1, le=31)], ...]
Width = Annotated[int, Field(ge=1, le=4096)]
Order = Literal["NDA", "AND"]
Upsampling = Literal["deconv", "nontrainable", "pixelshuffle"]

_NORMS = ("batch", "instance", "group")
_ACTS = {
    **{name: name for name in ("prelu", "relu", "leakyrelu", "elu", "gelu", "mish")},
    **{"swish": "silu", "memswish": "silu"},
}
_WITHOUT_WEIGHTS = ("relu", "leakyrelu", "elu", "gelu", "silu", "mish", "none")
_SIZES = ("kernel", "up_kernel")
_LISTS_OF_SIZES = ("kernels", "strides")


class MonaiSpec(Config):
    """Settings that all of MONAI's networks have.

    `norm` instance has no weights, instance_affine has; `groups` are those of the group
    norm, `slope` is the negative slope of leakyrelu. `axes` is the order in which the
    network has Z, Y and X, and in which kernels and strides are told; in 2-D, Z is left
    out.
    """

    ndim: Literal[2, 3]
    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    norm: Literal["batch", "instance", "instance_affine", "group", "none"] = "instance"
    groups: int = Field(8, ge=1, le=4096)
    act: Literal[
        "prelu", "relu", "leakyrelu", "elu", "gelu", "silu", "mish", "none"
    ] = "prelu"
    slope: float = Field(0.01, ge=0.0, lt=1.0)
    axes: Literal["ZYX", "XYZ"] = "ZYX"

    @model_validator(mode="after")
    def _one_number_per_axis(self) -> Self:
        sizes = [getattr(self, name, None) for name in _SIZES]
        for name in _LISTS_OF_SIZES:
            sizes += getattr(self, name, ())
        if any(s is not None and len(s) != self.ndim for s in sizes):
            raise ValueError(f"strides and kernels: {self.ndim} numbers each")
        return self


class MonaiNetwork(nn.Module):
    """A network whose axes may be X, Y, Z, as MONAI reads images; ours are Z, Y, X."""

    def __init__(self, spec: MonaiSpec) -> None:
        super().__init__()
        self.turn = TurnAxes() if spec.axes == "XYZ" else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, out_channels, *spatial)."""
        logits: torch.Tensor = self.turn(self.logits(self.turn(x)))
        return logits

    @abstractmethod
    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of an image whose axes are those of the network."""


def conv_class(ndim: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """Return the convolution of 2 or 3 axes."""
    return nn.Conv2d if ndim == 2 else nn.Conv3d


def transposed_class(ndim: int) -> type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]:
    """Return the transposed convolution of 2 or 3 axes."""
    return nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d


def norm_layer(spec: MonaiSpec, width: int) -> nn.Module:
    """Return the norm of `width` channels."""
    flat = spec.ndim == 2
    if spec.norm == "none":
        return nn.Identity()
    if spec.norm == "group":
        return nn.GroupNorm(spec.groups, width)
    if spec.norm == "batch":
        return nn.BatchNorm2d(width) if flat else nn.BatchNorm3d(width)
    norm = nn.InstanceNorm2d if flat else nn.InstanceNorm3d
    return norm(width, affine=spec.norm == "instance_affine")


def act_layer(spec: MonaiSpec) -> nn.Module:
    """Return the activation."""
    if spec.act == "leakyrelu":
        return nn.LeakyReLU(spec.slope)
    layers: dict[str, type[nn.Module]] = {
        **{"prelu": nn.PReLU, "relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU},
        **{"silu": nn.SiLU, "mish": nn.Mish, "none": nn.Identity},
    }
    return layers[spec.act]()


def same(kernel: Iterable[int]) -> tuple[int, ...]:
    """Return the padding that keeps the size under odd kernels."""
    return tuple((k - 1) // 2 for k in kernel)


def convolution(
    spec: MonaiSpec,
    inputs: int,
    outputs: int,
    kernel: Size,
    stride: Size | None = None,
    *,
    bias: bool = True,
    transposed: bool = False,
) -> nn.Module:
    """Return a convolution that keeps the size, but for the stride.

    A transposed one multiplies the size by the stride exactly.
    """
    stride = stride or (1,) * spec.ndim
    layer: Any = transposed_class(spec.ndim) if transposed else conv_class(spec.ndim)
    extra = {"output_padding": tuple(s - 1 for s in stride)} if transposed else {}
    made: nn.Module = layer(
        inputs, outputs, kernel, stride, same(kernel), bias=bias, **extra
    )
    return made


class Unit(nn.Sequential):
    """A convolution under the name ``conv``, and norm and activation as ``adn``."""

    def __init__(
        self,
        conv: nn.Module,
        spec: MonaiSpec | None = None,
        width: int = 0,
        order: Order = "NDA",
    ) -> None:
        super().__init__()
        self.add_module("conv", conv)
        if spec is not None:
            layers = {"N": norm_layer(spec, width), "A": act_layer(spec)}
            adn = nn.Sequential()
            for name in order.replace("D", ""):
                adn.add_module(name, layers[name])
            self.add_module("adn", adn)


def _subpixel(ndim: int, inputs: int, outputs: int) -> nn.Sequential:
    """Return a convolution whose channels move into space, and an average.

    Each pixel is averaged with those before it, zeros at the border, which removes the
    checkerboard (Aitken et al. 2017, arXiv:1707.02937).
    """
    pad: nn.Module = nn.ZeroPad2d((1, 0) * 2) if ndim == 2 else nn.ZeroPad3d((1, 0) * 3)
    layers = nn.Sequential()
    conv = conv_class(ndim)(inputs, outputs * 2**ndim, 3, padding=1)
    layers.add_module("conv_block", conv)
    layers.add_module("shuffle", ChannelsToSpace())
    layers.add_module("pad", pad)
    pool = nn.AvgPool2d if ndim == 2 else nn.AvgPool3d
    layers.add_module("average", pool(2, stride=1))
    return layers


def upsampling(
    kind: Upsampling, ndim: int, inputs: int, outputs: int, align_corners: bool
) -> nn.Sequential:
    """Return MONAI's up-sampling by 2: transposed, linear or sub-pixel.

    The linear one has a 1x1 convolution only where the channels change.
    """
    layers = nn.Sequential()
    if kind == "deconv":
        layers.add_module("deconv", transposed_class(ndim)(inputs, outputs, 2, 2))
    elif kind == "pixelshuffle":
        layers.add_module("pixelshuffle", _subpixel(ndim, inputs, outputs))
    else:
        if inputs != outputs:
            layers.add_module("preconv", conv_class(ndim)(inputs, outputs, 1))
        mode = "bilinear" if ndim == 2 else "trilinear"
        up = nn.Upsample(scale_factor=2, mode=mode, align_corners=align_corners)
        layers.add_module("upsample_non_trainable", up)
    return layers


def upsampling_kind(shapes: Shapes, place: str) -> Upsampling:
    """Tell the up-sampling by what lies under `place`."""
    if f"{place}.deconv.weight" in shapes:
        return "deconv"
    shuffled = f"{place}.pixelshuffle.conv_block.weight" in shapes
    return "pixelshuffle" if shuffled else "nontrainable"


def layer_settings(
    shapes: Shapes,
    norm_at: str,
    act_at: str,
    hints: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> tuple[dict[str, Any], list[Assumption]]:
    """Read norm and activation, and what is assumed about them.

    Parameters
    ----------
    shapes : Shapes
        Of the file.
    norm_at, act_at : str
        Names of one norm and one activation.
    hints : mapping
        The arguments of MONAI's class, as far as known.
    defaults : mapping
        MONAI's own: ``affine``, the norm where there are weights but no statistics;
        ``act``, the activation without weights; ``slope``.

    Returns
    -------
    settings : dict
        Of `MonaiSpec`.
    assumed : list of Assumption
    """
    norm, assumed = _norm(shapes, norm_at, hints, defaults["affine"])
    act, more = _act(shapes, act_at, hints, defaults)
    return {**norm, **act}, [*assumed, *more]


def _norm(
    shapes: Shapes, place: str, hints: Mapping[str, Any], affine: str
) -> tuple[dict[str, Any], list[Assumption]]:
    named = _named(hints, ("norm", "norm_name"))
    groups = named[1].get("num_groups") if named else None
    groups = groups if isinstance(groups, int) else 8
    if f"{place}.running_mean" in shapes:
        return {"norm": "batch", "groups": groups}, []
    has_weights = f"{place}.weight" in shapes
    likely = (affine, *{"group", "instance_affine"} - {affine}) if has_weights else ()
    choices = likely or ("instance", "none")
    if (told := _told_norm(named)) in choices:
        return {"norm": told, "groups": groups}, []
    why = "has the same weights" if has_weights else "has no weights"
    assumed = [
        setting("norm", choices[0], choices[1:], f"MONAI's own default; another {why}")
    ]
    if has_weights:
        assumed.append(setting("groups", groups, (), "counts for a group norm only"))
    return {"norm": choices[0], "groups": groups}, assumed


def _told_norm(named: tuple[str, dict[str, Any]] | None) -> str | None:
    """Return our word for the norm that was named."""
    if named is None or named[0] == "none":
        return named and named[0]
    name = "instance" if named[0].startswith("instance") else named[0]
    is_affine = name == "instance" and bool(named[1].get("affine"))
    return "instance_affine" if is_affine else name


def _act(
    shapes: Shapes, place: str, hints: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Assumption]]:
    slope = defaults["slope"]
    if f"{place}.weight" in shapes:
        return {"act": "prelu", "slope": slope}, []
    named = _named(hints, ("act", "act_name"))
    told = _ACTS.get(named[0], named[0]) if named else None
    if named and told in _WITHOUT_WEIGHTS:
        given = named[1].get("negative_slope", 0.01)
        return {
            "act": told,
            "slope": given if isinstance(given, (int, float)) else slope,
        }, []
    first = defaults["act"]
    choices = (first, *(name for name in _WITHOUT_WEIGHTS if name != first))
    assumed = [
        setting(
            "act", choices[0], choices[1:], "activations without weights leave no trace"
        ),
        setting("slope", slope, (), "counts for leakyrelu only"),
    ]
    return {"act": first, "slope": slope}, assumed


def _named(
    hints: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[str, dict[str, Any]] | None:
    """Return name and arguments of a layer, written as a name or a pair of both."""
    key = next((n for n in names if n in hints), None)
    if key is None:
        return None
    value = hints[key]
    if value is None or value == "":
        return "none", {}
    name, args = value, {}
    if isinstance(value, (list, tuple)):
        name = value[0] if value else None
        args = value[1] if len(value) > 1 and isinstance(value[1], dict) else {}
    return (name.lower(), args) if isinstance(name, str) else None


def inferred(
    architecture: dict[str, Any], assumed: list[Assumption], hints: Mapping[str, Any]
) -> Inferred:
    """Add what no file of MONAI's networks tells: what is around the network."""
    axes = hints.get(AXES)
    if axes not in _ORDERS:
        axes, other = _ORDERS
        reason = "MONAI reads volumes as X, Y, Z; the weights do not show it"
        assumed = [setting("axes", axes, (other,), reason), *assumed]
    fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
    around = (
        activation(architecture["out_channels"]),
        normalization("zscore", "usual for MONAI's networks"),
    )
    return Inferred({**architecture, "axes": axes}, fields, (*assumed, *around))


def told_strides(hints: Mapping[str, Any], levels: int, ndim: int) -> list[Any] | None:
    """Return the strides of the hints, one number per axis; None if none fit."""
    given = hints.get("strides")
    if not isinstance(given, (list, tuple)) or len(given) < levels:
        return None
    sizes = [s if isinstance(s, (list, tuple)) else [s] * ndim for s in given[:levels]]
    is_whole = all(type(n) is int and n > 0 for s in sizes for n in s)
    fits = is_whole and all(len(s) == ndim for s in sizes)
    return [list(s) for s in sizes] if fits else None


def strides_left_open(value: list[list[int]], reason: str) -> Assumption:
    """Assume strides; any others may be told."""
    return setting("strides", value=value, reason=reason)
