"""pytorch-3dunet's networks, those of PlantSeg's zoo among them (pytorch-3dunet 1.9.6).

In evaluation the source ends in a sigmoid or softmax, which here is the activation of
the model. Its training configuration, if there, tells what the weights do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    count,
    normalization,
    setting,
)
from napari_unet.checkpoints.families.pytorch_3dunet_modules import (
    Pytorch3dunetSpec,
    Pytorch3dunetUNet,
)
from napari_unet.networks.spec import Assumption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

_LETTERS = {"groupnorm": "g", "batchnorm": "b", "conv": "c"}
_SETTINGS: dict[str, type] = {
    **{"layer_order": str, "num_groups": int, "upsample": str},
    **{"final_sigmoid": bool, "is_segmentation": bool},
}
_DEFAULTS: dict[str, Any] = {
    **{"layer_order": "gcr", "num_groups": 8, "upsample": "default"},
    "final_sigmoid": True,
}
_GROUPS = (8, 16, 4, 32, 2, 1)
_DECONV = "decoders.0.upsampling.upsample.conv_transposed.weight"
_OLD_DECONV = "decoders.0.upsampling.upsample.weight"


class Pytorch3dunet(Family):
    """pytorch-3dunet and PlantSeg."""

    name = "pytorch_3dunet"
    title = "pytorch-3dunet / PlantSeg"
    source = "pytorch-3dunet 1.9.6, pytorch3dunet.unet3d.model"
    typical: ClassVar[Mapping[str, Any]] = {
        **{"ndim": 3, "in_channels": 1, "out_channels": 1, "widths": [16, 32, 64]},
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("encoders.0.basic_module.", "decoders.0.basic_module.", "final_conv.")
        return all(any(key.startswith(m) for key in shapes) for m in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names, shapes and the training configuration."""
        hints = _settings(hints)
        block = _block(shapes)
        last = "SingleConv2" if block == "double" else "conv3"
        levels = count(shapes, "encoders.{}.")
        widths = [
            shapes[f"encoders.{n}.basic_module.{last}.conv.weight"][0]
            for n in range(levels)
        ]
        head = shapes["final_conv.weight"]
        assumed: list[Assumption] = []
        architecture: dict[str, Any] = {
            "ndim": len(head) - 2,
            "in_channels": _in_channels(shapes, widths[0]),
            "out_channels": head[0],
            "widths": widths,
            "order": _order(shapes, hints, block, assumed),
            "block": block,
            "first": _first(shapes),
            "upscale": _upscale(shapes, widths),
            "upsampling": _upsampling(shapes, hints, assumed),
            "joining": _joining(shapes, block),
        }
        if "g" in architecture["order"]:
            architecture["groups"] = _groups(shapes, hints, assumed)
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        fields |= _ending(hints, assumed)
        assumed.append(
            normalization(
                "zscore", "its own loaders standardise", joint=True, eps=1e-10
            )
        )
        return Inferred(architecture, fields, tuple(assumed))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return Pytorch3dunetUNet(Pytorch3dunetSpec(**architecture))


def _settings(hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the source's settings; with its defaults if it told any."""
    told = {k: v for k, v in hints.items() if isinstance(v, _SETTINGS.get(k, ()))}
    return {**_DEFAULTS, **told} if told else {}


def _block(shapes: Shapes) -> str:
    start = "encoders.0.basic_module."
    if f"{start}SingleConv1.conv.weight" in shapes:
        return "double"
    is_weighed = f"{start}se_module.cSE.fc1.weight" in shapes
    return "residual_se" if is_weighed else "residual"


def _first(shapes: Shapes) -> str:
    is_block = "encoders.0.basic_module.conv1.conv.weight" in shapes
    return "block" if is_block else "point"


def _in_channels(shapes: Shapes, width: int) -> int:
    """Return the image's channels; a residual block may take them as they are."""
    start = "encoders.0.basic_module."
    for name in ("SingleConv1.conv", "conv1", "conv1.conv"):
        if f"{start}{name}.weight" in shapes:
            return shapes[f"{start}{name}.weight"][1]
    return width


def _upscale(shapes: Shapes, widths: list[int]) -> int:
    """Tell in which of the two convolutions channels are added."""
    for n, width in enumerate(widths):
        middle = shapes.get(f"encoders.{n}.basic_module.SingleConv1.conv.weight")
        if middle is not None and middle[1] < width:
            return 1 if middle[0] == width else 2
    return 2


def _order(
    shapes: Shapes, hints: Mapping[str, Any], block: str, assumed: list[Assumption]
) -> str:
    """Take the order told, else that of norm and convolution, and assume the rest."""
    if hints:
        return str(hints["layer_order"]).translate({ord("d"): None, ord("D"): None})
    skeleton, is_sure = _skeleton(shapes, block)
    skeletons = [skeleton] if is_sure else [skeleton, skeleton[::-1]]
    choices = [o for s in skeletons for o in _orders(s, block)]
    if _follows_relu(shapes) and skeleton == "cb":
        choices = ["crb"]
    assumed.append(
        setting(
            "order",
            value=choices[0],
            alternatives=tuple(choices[1:]),
            reason="where which activation is has no trace; layer_order in its config",
        )
    )
    return choices[0]


def _skeleton(shapes: Shapes, block: str) -> tuple[str, bool]:
    """Return norm and convolution in order, such as ``"gc"``, and if that is sure."""
    name = "SingleConv1" if block == "double" else "conv2"
    start = f"decoders.0.basic_module.{name}."
    parts = dict.fromkeys(
        k.removeprefix(start).split(".")[0] for k in shapes if k.startswith(start)
    )
    letters = "".join(_LETTERS[part] for part in parts)
    if letters == "c":
        return letters, True
    norm = letters.replace("c", "")
    outputs, inputs = shapes[f"{start}conv.weight"][:2]
    if outputs != inputs:
        part = next(p for p in parts if p != "conv")
        is_first = shapes[f"{start}{part}.weight"][0] == inputs
        return (f"{norm}c" if is_first else f"c{norm}"), True
    if not shapes.in_order:
        return f"{norm}c", False
    return letters, True


def _orders(skeleton: str, block: str) -> list[str]:
    """List the orders with an activation, those in use first."""
    activations = "erl" if block != "double" and skeleton == "cg" else "rle"
    ends = [f"{skeleton}{a}" for a in activations]
    if len(skeleton) == 1:
        return ends
    between = [f"{skeleton[0]}{a}{skeleton[1]}" for a in activations]
    is_old = skeleton == "cg" and block == "double"
    return [*between, *ends] if is_old else [*ends, *between]


def _follows_relu(shapes: Shapes) -> bool:
    """Whether all batch norms were trained on values that are never negative."""
    tensors = shapes.tensors
    means = [v for k, v in tensors.items() if k.endswith("batchnorm.running_mean")]
    return bool(means) and all(bool((mean >= 0).all()) for mean in means)


def _upsampling(
    shapes: Shapes, hints: Mapping[str, Any], assumed: list[Assumption]
) -> str:
    """Tell a transposed convolution by its weights; an interpolation has none."""
    if _DECONV in shapes:
        return "deconv"
    if _OLD_DECONV in shapes:
        return "deconv_to_size"
    if hints:
        names = {"default": "nearest", "bilinear": "linear", "trilinear": "linear"}
        return names.get(str(hints["upsample"]), str(hints["upsample"]))
    assumed.append(
        setting(
            "upsampling",
            value="nearest",
            alternatives=("linear", "area"),
            reason="interpolation has no weights",
        )
    )
    return "nearest"


def _joining(shapes: Shapes, block: str) -> str:
    """Tell by whether the decoder's channels are those of the skip alone."""
    if block == "double":
        return "concat"
    start = "decoders.0.basic_module."
    outputs = shapes[f"{start}conv2.conv.weight"][1]
    for name in ("conv1", "conv1.conv"):
        if f"{start}{name}.weight" in shapes:
            inputs = shapes[f"{start}{name}.weight"][1]
            return "sum" if inputs == outputs else "concat"
    return "sum"


def _groups(shapes: Shapes, hints: Mapping[str, Any], assumed: list[Assumption]) -> int:
    """Take the number of groups told, else the source's default where it can be."""
    if hints:
        return int(hints["num_groups"])
    sizes = {s[0] for k, s in shapes.items() if k.endswith("groupnorm.weight")}
    fitting = [g for g in _GROUPS if all(n < g or n % g == 0 for n in sizes)]
    assumed.append(
        setting(
            "groups",
            value=fitting[0],
            alternatives=tuple(fitting[1:]),
            reason="group norms do not tell; num_groups in its config, 8 by default",
        )
    )
    return fitting[0]


def _ending(hints: Mapping[str, Any], assumed: list[Assumption]) -> dict[str, Any]:
    """Return what the source does after the last convolution in evaluation."""
    if hints.get("is_segmentation") is False:
        return {"task": "restoration", "activation": "none"}
    if hints:
        return {"activation": "sigmoid" if hints["final_sigmoid"] else "softmax"}
    assumed.append(
        Assumption(
            field="activation",
            value="sigmoid",
            alternatives=("softmax", "none"),
            reason="the source ends in a sigmoid unless final_sigmoid was switched off",
        )
    )
    return {}
