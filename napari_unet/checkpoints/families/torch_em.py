"""torch_em's UNet2d, UNet3d and AnisotropicUNet (constantinpape/torch-em 0.10).

Blocks of two convolutions, each after a norm that is by default an instance norm
without weights; linear interpolation and a 1x1 convolution upwards; the up-sampled
features come first in the concatenation. Training checkpoints keep the arguments of the
class, also the activation and the joining of channels after the last convolution.
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
from napari_unet.checkpoints.families.torch_em_modules import TorchEmSpec, TorchEmUNet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from napari_unet.networks.spec import Assumption

_POSTPROCESSING: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "": ((), ()),
    "affinities_to_boundaries_anisotropic": ((), (1, 3)),
    "affinities_to_boundaries2d": ((), (0, 2)),
    "affinities_with_foreground_to_boundaries2d": ((0, 1), (1, 3)),
    "affinities_to_boundaries3d": ((), (0, 3)),
    "affinities_with_foreground_to_boundaries3d": ((0, 1), (1, 4)),
}
"""Channels that are kept and joined, by the source's name."""


class TorchEm(Family):
    """torch_em's U-Nets."""

    name = "torch_em"
    title = "torch_em U-Net"
    source = "torch-em 0.10.9, torch_em.model.unet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 2,
        "in_channels": 1,
        "out_channels": 1,
        "widths": [16, 32, 64, 128],
        "strides": [[2, 2]] * 3,
        "kernels": [[3, 3]] * 4,
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("encoder.blocks.0.block.", "base.block.", "decoder.samplers.0.conv.")
        return all(any(key.startswith(m) for key in shapes) for m in marks)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        depth = count(shapes, "encoder.blocks.{}.")
        places = [*(f"encoder.blocks.{n}" for n in range(depth)), "base"]
        first = _convolutions(shapes, "encoder.blocks.0")[0]
        convs = [shapes[f"{p}.block.{first}.weight"] for p in places]
        kernels = [list(shape[2:]) for shape in convs]
        side, keep, join = _side(shapes), *_POSTPROCESSING[_joining(hints)]
        has_head = "out_conv.weight" in shapes
        raw = shapes["out_conv.weight"] if has_head else convs[0]
        outputs = side[-1] if side else raw[0]
        architecture = {
            "ndim": len(convs[0]) - 2,
            "in_channels": convs[0][1],
            "out_channels": len(range(*keep or (0,))) + 1 if join else outputs,
            "widths": [shape[0] for shape in convs],
            "strides": _strides(kernels[:depth], hints.get("scale_factors")),
            "kernels": kernels,
            "norm": _norm(shapes, first),
            "side": list(side),
            "head": has_head,
            "raw_channels": outputs if join else None,
            "keep": list(keep),
            "join": list(join),
        }
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        fields |= _ending(architecture, hints)
        return Inferred(architecture, fields, tuple(_assumed(architecture, hints)))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return TorchEmUNet(TorchEmSpec(**architecture))


def _convolutions(shapes: Shapes, place: str) -> list[int]:
    """Return where a block's convolutions are: 1 and 4 after norms, else 0 and 2."""
    return sorted(
        int(key.split(".")[-2])
        for key, shape in shapes.items()
        if key.startswith(f"{place}.block.") and len(shape) > 2
    )


def _norm(shapes: Shapes, first: int) -> str:
    """Tell the norm by its keys; the default has none and shows as a gap."""
    if first == 0:
        return "none"
    if "encoder.blocks.0.block.0.running_mean" in shapes:
        return "batch"
    return "group" if "encoder.blocks.0.block.0.weight" in shapes else "instance"


def _side(shapes: Shapes) -> tuple[int, ...]:
    """Return the outputs of all heads where there is one per level."""
    heads = count(shapes, "out_conv.{}.")
    return tuple(shapes[f"out_conv.{n}.weight"][0] for n in range(heads))


def _strides(kernels: list[list[int]], given: Any) -> list[list[int]]:
    """Take the scale factors given, else (1, 2, 2) where the kernel is flat."""
    if isinstance(given, (list, tuple)) and len(given) == len(kernels):
        ndim = len(kernels[0])
        return [list(g) if isinstance(g, (list, tuple)) else [g] * ndim for g in given]
    return [[1 if size == 1 else 2 for size in kernel] for kernel in kernels]


def _joining(hints: Mapping[str, Any]) -> str:
    """Return the source's name of what happens to channels in the end."""
    return str(hints.get("postprocessing") or "")


def _ending(architecture: dict[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Take the activation told; the largest of sigmoids is that of the largest."""
    named = hints.get("final_activation")
    if not isinstance(named, str):
        return {}
    if named in ("Sigmoid", "Softmax"):
        if named == "Softmax" and architecture["join"]:
            raise ValueError("channels joined after a softmax")
        return {"activation": named.lower()}
    architecture["final"] = named
    return {"activation": "none"}


def _assumed(
    architecture: Mapping[str, Any], hints: Mapping[str, Any]
) -> list[Assumption]:
    reason = "torch_em standardises by default"
    assumed = [normalization("zscore", reason, joint=True, eps=1e-7)]
    if not isinstance(hints.get("final_activation"), str):
        assumed.append(activation(architecture["out_channels"]))
    if not {"scale_factors", "depth"} & set(hints):
        assumed.append(
            setting(
                "strides",
                value=architecture["strides"],
                reason="pooling has no weights",
            )
        )
    return assumed
