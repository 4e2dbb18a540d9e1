"""nnU-Net v2: PlainConvUNet, ResidualEncoderUNet and ResidualUNet by their keys.

Everything but the activation is in the names and shapes: the stride of a stage is the
kernel of the transposed convolution that undoes it, and the head at full resolution is
the last one.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    count,
    normalization,
    setting,
)
from napari_unet.checkpoints.families.nnunet_modules import NNUNet, NNUNetSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from napari_unet.networks.spec import Assumption

_NESTED = "decoder.encoder."
_INDEXED = re.compile(r"^(.*)\.all_modules\.(\d+)\.(\w+)$")
_SHORT = re.compile(r"^(.*)\.(conv|norm)\.(\w+)$")
_ORDERS = {
    1: ("conv-norm-act",),
    2: ("conv-dropout-norm-act", "conv-act-norm"),
    3: ("conv-dropout-act-norm",),
}
"""What may stand before the norm, by its number in the sequence."""
_ACTIVATIONS = {
    **{"LeakyReLU": "leaky", "ReLU": "relu", "ELU": "elu", "GELU": "gelu"},
    **{"SiLU": "silu", "Mish": "mish"},
}


class NNUNetFamily(Family):
    """nnU-Net v2."""

    name = "nnunet"
    title = "nnU-Net v2"
    source = "dynamic-network-architectures 0.4.4, architectures.unet"
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 3,
        "in_channels": 1,
        "out_channels": 2,
        "widths": [8, 16, 32],
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "kernels": [[3, 3, 3]] * 3,
        "convs": [2, 2, 2],
        "decoder_convs": [2, 2],
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there."""
        marks = ("decoder.transpconvs.0.weight", "decoder.seg_layers.0.weight")
        return all(mark in shapes for mark in marks)

    def accept(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return each layer once, whichever of its names are there.

        Raises
        ------
        ValueError
            If two names of one layer hold different tensors.
        """
        places = {
            m[1].replace(_NESTED, "encoder."): int(m[2])
            for key in tensors
            if (m := _INDEXED.match(key)) and m[2] != "0"
        }
        single: dict[str, torch.Tensor] = {}
        for key, tensor in tensors.items():
            name = _single_name(key, places)
            if name in single and not torch.equal(single[name], tensor):
                raise ValueError(f"two tensors for {name}")
            single[name] = tensor
        return single

    def emit(
        self, tensors: Mapping[str, torch.Tensor], architecture: Mapping[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Return the tensors under all the names of the source, in its order."""
        del architecture
        doubled = dict(_doubled(tensors))
        encoder = {k: v for k, v in doubled.items() if k.startswith("encoder.")}
        nested = {f"decoder.{k}": v for k, v in encoder.items()}
        return {**encoder, **nested, **doubled}

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes."""
        ups = count(shapes, "decoder.transpconvs.{}.")
        told = _told(hints.get("arch_kwargs") or {})
        first = _first_convolutions(shapes, ups + 1)
        convs = [shapes[f"{key}.weight"] for key in first]
        architecture: dict[str, Any] = {
            "ndim": len(convs[0]) - 2,
            "out_channels": shapes[f"decoder.seg_layers.{ups - 1}.weight"][0],
            "strides": _strides(shapes, ups, told),
            "decoder_convs": _decoder_counts(shapes, ups),
            "bias": "decoder.transpconvs.0.bias" in shapes,
            "order": told.get("order") or _orders(shapes)[0],
        }
        architecture |= _norm(shapes, first[0], told) | _encoder(shapes, convs)
        seen = ("activation", "slope", "eps")
        architecture |= {k: told[k] for k in seen if k in told}
        fields = {k: architecture[k] for k in ("ndim", "in_channels", "out_channels")}
        assumed = [] if told else _open(shapes, architecture)
        return Inferred(architecture, fields, (*_usual(fields), *assumed))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return NNUNet(NNUNetSpec(**architecture))


def _single_name(key: str, places: Mapping[str, int]) -> str:
    """Return the one name of a tensor that the source has under up to four."""
    if key.startswith(_NESTED):
        key = f"encoder.{key.removeprefix(_NESTED)}"
    short = _SHORT.match(key)
    if short is None or _INDEXED.match(key):
        return key
    block, layer, rest = short.groups()
    place = 0 if layer == "conv" else places.get(block, 1)
    return f"{block}.all_modules.{place}.{rest}"


def _doubled(
    tensors: Mapping[str, torch.Tensor],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of each block under the short names, then the long ones."""

    def block(item: tuple[str, Any]) -> str:
        match = _INDEXED.match(item[0])
        return match[1] if match else item[0]

    for _, group in groupby(tensors.items(), block):
        items = list(group)
        for key, tensor in items:
            if match := _INDEXED.match(key):
                layer = "conv" if match[2] == "0" else "norm"
                yield f"{match[1]}.{layer}.{match[3]}", tensor
        yield from items


def _first_convolutions(shapes: Shapes, stages: int) -> list[str]:
    """Return the name of the first full convolution of each encoder stage."""
    keys = []
    for n in range(stages):
        plain = f"encoder.stages.{n}.0.convs.0.all_modules.0"
        block = f"encoder.stages.{n}.blocks.0"
        bottleneck = f"{block}.conv3.all_modules.0.weight" in shapes
        layer = f"{block}.{'conv2' if bottleneck else 'conv1'}.all_modules.0"
        keys.append(plain if f"{plain}.weight" in shapes else layer)
    return keys


def _strides(shapes: Shapes, ups: int, told: Mapping[str, Any]) -> list[Sequence[int]]:
    """Return the stride of each stage; the first is 1 unless plans say otherwise."""
    strides = [
        list(shapes[f"decoder.transpconvs.{n}.weight"][2:])
        for n in range(ups - 1, -1, -1)
    ]
    return [told.get("first_stride") or [1] * len(strides[0]), *strides]


def _encoder(shapes: Shapes, convs: list[tuple[int, ...]]) -> dict[str, Any]:
    """Read the encoder, given the first convolution of each stage."""
    stages = range(len(convs))
    kernels = [list(shape[2:]) for shape in convs]
    stem = shapes.get("encoder.stem.convs.0.all_modules.0.weight")
    if stem is None:
        counts = [count(shapes, f"encoder.stages.{n}.0.convs.{{}}.") for n in stages]
        return {
            "encoder": "plain",
            "in_channels": convs[0][1],
            "widths": [shape[0] for shape in convs],
            "kernels": kernels,
            "convs": counts,
        }
    block = "encoder.stages.{}.blocks.0.conv3.all_modules.0.weight"
    inner = block.format(0) in shapes
    return {
        "encoder": "residual",
        "in_channels": stem[1],
        "stem": stem[0],
        "widths": [
            shapes[block.format(n)][0] if inner else convs[n][0] for n in stages
        ],
        "bottleneck": [convs[n][0] for n in stages] if inner else [],
        "kernels": kernels,
        "convs": [count(shapes, f"encoder.stages.{n}.blocks.{{}}.") for n in stages],
        "decoder": (
            "residual" if count(shapes, "decoder.stages.0.blocks.{}.") else "plain"
        ),
    }


def _decoder_counts(shapes: Shapes, stages: int) -> list[int]:
    """Count the convolutions or blocks of each decoder stage."""
    return [
        count(shapes, f"decoder.stages.{n}.convs.{{}}.")
        or count(shapes, f"decoder.stages.{n}.blocks.{{}}.")
        for n in range(stages)
    ]


def _norm(shapes: Shapes, conv: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the norm after a convolution from its keys."""
    norm = f"{conv.rpartition('.')[0]}.{_norm_place(shapes)}."
    if f"{norm}running_mean" in shapes:
        return {"norm": "batch"}
    if f"{norm}weight" in shapes:
        return {"norm": "instance"}
    return {"norm": told.get("norm", "instance"), "affine": False}


def _norm_place(shapes: Shapes) -> int:
    """Return the number of the norm in the network's first sequence, 1 without one."""
    heads = ("encoder.stem.convs.0", "encoder.stages.0.0.convs.0")
    places = [
        int(m[2]) for key in shapes if (m := _INDEXED.match(key)) and m[1] in heads
    ]
    return max(places) or 1


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read what the plans say of what names and shapes do not show.

    Raises
    ------
    ValueError
        If they name a layer that is not known.
    """
    if not settings:
        return {}
    nonlin = str(settings.get("nonlin") or "").rpartition(".")[2]
    norm = str(settings.get("norm_op") or "").rpartition(".")[2]
    if nonlin not in _ACTIVATIONS:
        raise ValueError(f"the activation {nonlin}")
    dropout = "-dropout" if settings.get("dropout_op") else ""
    after = "act-norm" if settings.get("nonlin_first") else "norm-act"
    told: dict[str, Any] = {
        "activation": _ACTIVATIONS[nonlin],
        "slope": (settings.get("nonlin_kwargs") or {}).get("negative_slope", 0.01),
        "eps": (settings.get("norm_op_kwargs") or {}).get("eps", 1e-5),
        "order": f"conv{dropout}-{after}",
        "norm": "instance" if norm.startswith("Instance") else "none",
    }
    first = (settings.get("strides") or [None])[0]
    return {**told, "first_stride": first} if isinstance(first, list) else told


def _orders(shapes: Shapes) -> tuple[str, ...]:
    """Return what may stand before the norm; residual encoders know a dropout only."""
    orders = _ORDERS[_norm_place(shapes)]
    is_plain = count(shapes, "encoder.stages.0.{}.convs.") > 0
    return orders if is_plain else orders[:1]


def _usual(fields: Mapping[str, Any]) -> Iterator[Assumption]:
    """Yield what is left open unless plans say it."""
    yield activation(fields["out_channels"])
    yield normalization("zscore", "nnU-Net's default", eps=1e-8)


def _open(shapes: Shapes, architecture: Mapping[str, Any]) -> Iterator[Assumption]:
    """Yield what names and shapes leave open of the architecture."""
    yield setting(
        "slope",
        value=0.01,
        alternatives=(0.0,),
        reason="nnU-Net's leaky ReLU; 0 is a ReLU",
    )
    orders = _orders(shapes)
    if len(orders) > 1:
        yield setting(
            "order",
            value=orders[0],
            alternatives=orders[1:],
            reason="the numbers show one layer between convolution and norm",
        )
    if not architecture.get("affine", True):
        yield setting(
            "norm",
            value="instance",
            alternatives=("none",),
            reason="a norm without weights leaves no trace",
        )
