"""Our own U-Net: native checkpoints and plain state dicts of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    count,
    normalization,
    setting,
)
from napari_unet.networks.unet import UNet, UNetSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from napari_unet.networks.spec import Assumption


class Native(Family):
    """`napari_unet.networks.unet.UNet`."""

    name = "unet"
    title = "napari-unet"
    source = "napari_unet.networks.unet.UNet"
    typical: ClassVar[Mapping[str, Any]] = {}  # the defaults of UNetSpec

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        return "head.weight" in shapes and "encoder.0.0.weight" in shapes

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture of a bare state dict."""
        levels = count(shapes, "encoder.{}.")
        convs = [shapes[f"encoder.{n}.0.weight"] for n in range(levels)]
        ndim = len(convs[0]) - 2
        norm = _norm(shapes)
        rising = range(levels - 1)
        transposed = any(f"ups.{n}.weight" in shapes for n in rising)
        architecture: dict[str, Any] = {
            "ndim": ndim,
            "in_channels": convs[0][1],
            "out_channels": shapes["head.weight"][0],
            "widths": [shape[0] for shape in convs],
            "kernels": [list(shape[2:]) for shape in convs],
            "strides": [
                list(shapes[f"ups.{n}.weight"][2:]) if transposed else [2] * ndim
                for n in reversed(rising)
            ],
            "convs": sum(
                len(shape) > 2
                for key, shape in shapes.items()
                if key.startswith("encoder.0.")
            ),
            "norm": norm,
            "upsampling": "transposed" if transposed or not rising else "linear",
        }
        assumed = list(_assumed(architecture))
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        return Inferred(architecture, fields, tuple(assumed))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return UNet(UNetSpec(**architecture))


def _norm(shapes: Shapes) -> str:
    if "encoder.0.1.running_mean" in shapes:
        return "batch"
    return "instance" if "encoder.0.1.weight" in shapes else "none"


def _assumed(architecture: dict[str, Any]) -> list[Assumption]:
    """List what names and shapes do not tell."""
    values: list[tuple[str, Any, tuple[Any, ...], str]] = [
        ("padding", "same", ("valid",), "padding is not stored"),
        ("slope", 0.0, (0.01, 0.1), "the activation has no weights"),
    ]
    if architecture["norm"] == "instance":
        reason = "instance and group norm have the same keys"
        values.append(("norm", "instance", ("group",), reason))
    if architecture["upsampling"] == "linear":
        reason = "interpolation has no weights"
        values.append(("upsampling", "linear", ("nearest",), reason))
        values.append(("strides", architecture["strides"], (), reason))
    return [
        activation(architecture["out_channels"]),
        normalization("zscore", "intensity scaling is not stored"),
        *(setting(n, value=v, alternatives=a, reason=r) for n, v, a, r in values),
    ]
