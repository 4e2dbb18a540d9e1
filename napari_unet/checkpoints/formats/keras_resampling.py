"""Keras' layers that change the size of the image, as steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.formats.keras_convolutions import padded
from napari_unet.checkpoints.formats.keras_steps import MOST, Step
from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.checkpoints.formats.keras_steps import Use

_LINEAR = {2: "bilinear", 3: "trilinear"}
_OLD_BILINEAR = ("1.", "2.0.", "2.1.", "2.2.", "2.3.")


def _max_pool(use: Use) -> list[Step]:
    sizes, strides = _window(use)
    pads, padding = padded(use, sizes, strides, fill="lowest")
    settings = {"kernel_size": sizes, "stride": strides, "padding": padding}
    return [*pads, Step("max_pool", settings)]


def _average_pool(use: Use) -> list[Step]:
    """Translate a mean over those pixels of a window that lie inside the image."""
    sizes, strides = _window(use)
    pads, padding = padded(use, sizes, strides)
    if pads:
        raise Refused("average pooling whose padding differs between the sides")
    settings = {"kernel_size": sizes, "stride": strides, "padding": padding}
    return [Step("average_pool", {**settings, "count_include_pad": False})]


def _upsample(use: Use) -> list[Step]:
    sizes = use.axes("size", default=2)
    mode = use.get("interpolation", default="nearest")
    settings: dict[str, Any] = {"scale_factor": [float(s) for s in sizes]}
    if mode == "nearest":
        return [Step("resize", {**settings, "mode": "nearest"})]
    version = use.dialect.version
    if version.startswith(_OLD_BILINEAR) and not version.endswith("-tf"):
        raise Refused(f"{mode} up-sampling of Keras {version}, which shifts the image")
    if mode != "bilinear":
        raise Refused(f"up-sampling of kind {mode}")
    linear = _LINEAR[use.dialect.ndim]
    return [Step("resize", {**settings, "mode": linear, "align_corners": False})]


def _zero_padding(use: Use) -> list[Step]:
    before, after = _sides(use, "padding")
    return [Step("pad", {"before": before, "after": after})]


def _cropping(use: Use) -> list[Step]:
    before, after = _sides(use, "cropping")
    return [Step("pad", {"before": [-b for b in before], "after": [-a for a in after]})]


def _window(use: Use) -> tuple[list[int], list[int]]:
    sizes = use.axes("pool_size", default=2)
    return sizes, use.axes("strides", default=sizes)


def _sides(use: Use, name: str) -> tuple[list[int], list[int]]:
    """Return pixels before and after each axis: one number, one an axis, or pairs."""
    value = use.get(name, default=1)
    values = value if isinstance(value, (list, tuple)) else [value] * use.dialect.ndim
    pairs = [tuple(v) if isinstance(v, (list, tuple)) else (v, v) for v in values]
    if len(pairs) != use.dialect.ndim or any(
        len(p) != 2 or min(p) < 0 or max(p) > MOST for p in pairs
    ):
        raise Refused(f"{name} {value}")
    return [int(b) for b, _ in pairs], [int(a) for _, a in pairs]


LAYERS: dict[str, Callable[[Use], list[Step]]] = {
    **dict.fromkeys(("MaxPooling2D", "MaxPooling3D"), _max_pool),
    **dict.fromkeys(("AveragePooling2D", "AveragePooling3D"), _average_pool),
    **dict.fromkeys(
        ("GlobalAveragePooling2D", "GlobalAveragePooling3D"), lambda _: [Step("mean")]
    ),
    **dict.fromkeys(("UpSampling2D", "UpSampling3D"), _upsample),
    **dict.fromkeys(("ZeroPadding2D", "ZeroPadding3D"), _zero_padding),
    **dict.fromkeys(("Cropping2D", "Cropping3D"), _cropping),
}
