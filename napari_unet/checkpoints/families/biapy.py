"""BiaPy's U-Net and residual U-Net, its releases from 3.5 on (BiaPy 3.7.1).

A checkpoint keeps the arguments of the network and the whole configuration; without
them the activations and the pooling of interpolated levels are assumed.
BiaPy applies the activation of each output after the network.
"""

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
from napari_unet.checkpoints.families.biapy_modules import (
    ACTIVATIONS,
    BiapySpec,
    BiapyUNet,
)
from napari_unet.checkpoints.families.biapy_scaling import scaling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from napari_unet.networks.spec import Assumption

_FIRST = "down_path.0."
_RESTORING = ("DENOISING", "IMAGE_TO_IMAGE", "SUPER_RESOLUTION", "SELF_SUPERVISED")


class Biapy(Family):
    """BiaPy's U_Net and ResUNet."""

    name = "biapy"
    title = "BiaPy U-Net"
    source = "BiaPy 3.7.1, biapy.models.unet.U_Net and resunet.ResUNet"
    typical: ClassVar[Mapping[str, Any]] = {
        **{"ndim": 2, "in_channels": 1, "out_channels": 1, "heads": [1]},
        **{"widths": [16, 32, 64], "risen": [16, 32], "convs": [2, 2, 2]},
        **{"kernels": [[3, 3]] * 3, "strides": [[2, 2]] * 2},
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = (f"{_FIRST}block.", "bottleneck.block.")
        ups = ("up_paths.0.0.", "up_path.0.")
        return all(_has(shapes, m) for m in marks) and any(_has(shapes, u) for u in ups)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names, shapes and the arguments that were kept."""
        legacy = _has(shapes, "up_path.0.")
        way = "up_path" if legacy else "up_paths.0"
        depth = count(shapes, "down_path.{}.")
        levels = [*(f"down_path.{n}" for n in range(depth)), "bottleneck"]
        convs = [_convolutions(shapes, place) for place in levels]
        raised = [f"{way}.{depth - 1 - n}" for n in range(depth)]
        heads = _heads(shapes, legacy)
        assumed: list[Assumption] = []
        transposed = _transposed(shapes, raised)
        architecture: dict[str, Any] = {
            "ndim": len(convs[0][0]) - 2,
            "in_channels": _in_channels(shapes, convs[0][0]),
            "out_channels": sum(heads),
            "widths": [level[-1][0] for level in convs],
            "risen": [_convolutions(shapes, place)[-1][0] for place in raised],
            "convs": [len(level) for level in convs],
            "kernels": [list(level[0][2:]) for level in convs],
            "strides": transposed or _strides(convs, hints, assumed),
            "outer": _outer(shapes),
            "heads": heads,
            "last_heads": _last(hints, len(heads)),
            "ways": 1 if legacy else count(shapes, "up_paths.{}."),
            "norm": _norm(shapes, hints, legacy, assumed),
            "activation": _activation(hints, assumed),
            "upsampling": "transposed" if transposed else "linear",
            "residual": _has(shapes, f"{_FIRST}shortcut."),
            "pre": _is_pre(shapes),
            "legacy": legacy,
        }
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        fields |= _outputs(architecture, hints, assumed)
        scales = scaling(hints.get("cfg"))
        if scales:
            fields["normalization"] = scales
        else:
            assumed.append(normalization("zscore", "BiaPy standardises by default"))
        return Inferred(architecture, fields, tuple(assumed))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return BiapyUNet(BiapySpec(**architecture))


def _has(shapes: Shapes, start: str) -> bool:
    return any(key.startswith(start) for key in shapes)


def _convolutions(shapes: Shapes, place: str) -> list[tuple[int, ...]]:
    """Return the shapes of a level's convolutions in order, without side ways."""
    numbered = [
        ([int(part) for part in key.split(".") if part.isdigit()], shape)
        for key, shape in shapes.items()
        if key.startswith((f"{place}.block.", f"{place}.conv_block.block."))
        and len(shape) > 2
    ]
    return [shape for _, shape in sorted(numbered)]


def _in_channels(shapes: Shapes, first: tuple[int, ...]) -> int:
    outer = [s for k, s in shapes.items() if k.startswith("conv_in.") and len(s) > 2]
    return outer[0][1] if outer else first[1]


def _outer(shapes: Shapes) -> list[int]:
    """Return the kernel of the larger convolutions at both ends, if there are any."""
    outer = [s for k, s in shapes.items() if k.startswith("conv_in.") and len(s) > 2]
    return list(outer[0][2:]) if outer else []


def _heads(shapes: Shapes, legacy: bool) -> list[int]:
    if not legacy:
        number = count(shapes, "heads.{}.")
        return [shapes[f"heads.{n}.weight"][0] for n in range(number)]
    names = ("last_block.weight", "last_class_head.weight")
    return [shapes[name][0] for name in names if name in shapes]


def _last(hints: Mapping[str, Any], heads: int) -> list[int]:
    """Return the heads that tell classes; their outputs come after the others."""
    info = hints.get("output_channel_info")
    if not isinstance(info, (list, tuple)) or len(info) != heads or heads == 1:
        return []
    return [n for n, name in enumerate(info) if "class" in str(name)]


def _transposed(shapes: Shapes, raised: list[str]) -> list[list[int]]:
    """Return the strides that transposed convolutions show, empty without them."""
    strides = []
    for place in raised:
        for name in (f"{place}.up.0.weight", f"{place}.up.weight"):
            if name in shapes:
                strides.append(list(shapes[name][2:]))
    return strides


def _strides(
    convs: list[list[tuple[int, ...]]],
    hints: Mapping[str, Any],
    assumed: list[Assumption],
) -> list[list[int]]:
    """Take the poolings told, else 2; interpolation has no weights that show them."""
    ndim, depth = len(convs[0][0]) - 2, len(convs) - 1
    flat, deep = hints.get("yx_down"), hints.get("z_down")
    if isinstance(flat, (list, tuple)) and isinstance(deep, (list, tuple)):
        return [[deep[n], flat[n], flat[n]][-ndim:] for n in range(depth)]
    value = [[2] * ndim for _ in range(depth)]
    assumed.append(setting("strides", value=value, reason="pooling has no weights"))
    return value


def _is_pre(shapes: Shapes) -> bool:
    """Whether the first block does not begin with its convolution."""
    singles = (f"{_FIRST}block.0.block.", f"{_FIRST}block.")
    start = next(s for s in singles if _has(shapes, s))
    return len(shapes.get(f"{start}0.weight", ())) < 3


def _norm(
    shapes: Shapes, hints: Mapping[str, Any], legacy: bool, assumed: list[Assumption]
) -> str:
    """Tell the norm by its weights and statistics.

    From 3.7 on instance norms have weights and group norms cannot be made; before, it
    is the other way round.
    """
    if any(key.endswith("running_mean") for key in shapes):
        return "batch"
    if any(k.endswith("weight") and len(s) == 1 for k, s in shapes.items()):
        return "group" if legacy else "instance"
    if not legacy:
        return "none"
    if _has(shapes, "bottleneck.shortcut."):
        return "none" if _has(shapes, "bottleneck.block.1.") else "bare_instance"
    told = {"in": "bare_instance", "none": "none"}.get(str(hints.get("normalization")))
    if told is None:
        assumed.append(
            setting(
                "norm",
                value="none",
                alternatives=("bare_instance",),
                reason="its instance norm had no weights",
            )
        )
    return told or "none"


def _activation(hints: Mapping[str, Any], assumed: list[Assumption]) -> str:
    told = str(hints.get("activation", "")).lower()
    if told in ACTIVATIONS:
        return told
    assumed.append(
        setting(
            "activation",
            value="elu",
            alternatives=("relu", "leaky_relu", "silu", "gelu"),
            reason="activations have no weights; ELU is the default of BiaPy",
        )
    )
    return "elu"


def _outputs(
    architecture: Mapping[str, Any],
    hints: Mapping[str, Any],
    assumed: list[Assumption],
) -> dict[str, Any]:
    """Return what the outputs are and what BiaPy does to them."""
    config = hints.get("cfg")
    problem = config.get("PROBLEM") if isinstance(config, dict) else None
    if isinstance(problem, dict) and problem.get("TYPE") in _RESTORING:
        return {"task": "restoration", "activation": "none"}
    told = hints.get("head_activations")
    named = told if isinstance(told, (list, tuple)) else ()
    kinds = {str(name).lower().removeprefix("ce_") for name in named}
    if kinds in ({"sigmoid"}, {"softmax"}):
        return {"activation": kinds.pop()}
    if kinds and kinds <= {"linear", "none"}:
        return {"activation": "none"}
    assumed.append(activation(architecture["out_channels"]))
    return {}
