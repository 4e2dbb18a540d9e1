"""How Keras holds what a layer gave: as an image, or with space in a row or gone.

Keras 1 needed space as one axis for a softmax over the channels; gates make one number
for each channel. Here both stay images, and only their layers' axes are read otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_unet.checkpoints.formats.refusal import Refused

if TYPE_CHECKING:
    from napari_unet.checkpoints.formats.keras_graph import Layer
    from napari_unet.checkpoints.formats.keras_steps import Dialect

_GLOBAL = ("GlobalAveragePooling2D", "GlobalAveragePooling3D")
_FORMLESS = ("Activation", "Dense", "Dropout", "ELU", "LeakyReLU", "ReLU", "Softmax")


@dataclass(frozen=True)
class Value:
    """What a layer gave.

    Attributes
    ----------
    step : int
        Number of the step, -1 for the image.
    channels : int
        Of its output.
    form : str
        How Keras holds it: ``"image"``; ``"rows"`` where space was made one axis
        behind the channels, ``"columns"`` where it is before them; ``"vector"`` without
        space.
    """

    step: int
    channels: int
    form: str = "image"


def axes(form: str, dialect: Dialect) -> tuple[int, int]:
    """Return what the axis of the channels is called in a form, from either end."""
    if form != "image":
        return {"rows": (1, -2), "columns": (2, -1), "vector": (1, -1)}[form]
    return (dialect.ndim + 1, -1) if dialect.last else (1, -dialect.ndim - 1)


def form_of(layer: Layer, values: list[Value], dialect: Dialect) -> str:
    """Return the form of what a layer reads.

    Raises
    ------
    Refused
        If the layer needs another one.
    """
    forms = {v.form for v in values}
    is_gate = layer.kind == "Multiply" and forms == {"image", "vector"}
    if is_gate and dialect.last:
        return "image"
    if len(forms) > 1 or (forms != {"image"} and layer.kind not in _FORMLESS):
        raise Refused(f"a {layer.kind} of {' and '.join(sorted(forms))}")
    return forms.pop()


def form_after(layer: Layer, form: str) -> str:
    """Return the form of what a layer gives."""
    drops = layer.kind in _GLOBAL and not layer.config.get("keepdims")
    return "vector" if drops else form


def reshaped(layer: Layer, value: Value, dialect: Dialect) -> Value:
    """Return a value in another form, by a Reshape or Permute.

    Raises
    ------
    Refused
        If the form is none of the known ones.
    """
    if layer.kind == "Permute":
        if value.form != "rows" or list(layer.config["dims"]) != [2, 1]:
            raise Refused("axes in another order")
        return replace(value, form="columns")
    shape, channels = list(layer.config["target_shape"]), value.channels
    pixel = [1] * dialect.ndim
    if value.form == "vector" and shape in ([*pixel, channels], [channels, *pixel]):
        return replace(value, form="image")
    is_flat = len(shape) == 2
    if (
        value.form == "image"
        and is_flat
        and shape[-1 if dialect.last else 0] == channels
    ):
        return replace(value, form="columns" if dialect.last else "rows")
    is_image = dialect.last and len(shape) == dialect.ndim + 1
    if value.form == "columns" and is_image and shape[-1] == channels:
        return replace(value, form="image")
    raise Refused(f"a new shape {shape}")
