"""Any plain U-Net whose layers lie in the file in the order in which they run.

Tried after all other families. The convolutions must form a chain: each takes what the
one before gives, but for the first of a decoder level, which takes the risen features
and the skip connection together. Nothing proves it but that all shapes fit, so what is
opened so is marked as unproven.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    normalization,
    setting,
)
from napari_unet.networks.placed import (
    PlacedConv,
    PlacedSpec,
    PlacedUNet,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from napari_unet.networks.spec import Assumption

_PARTS = frozenset(
    ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
)


class Generic(Family):
    """A plain U-Net of unknown source."""

    name = "generic"
    title = "a plain U-Net of unknown source"
    source = "read from shapes and their order alone; proved by no library"
    is_proven = False
    needs_order = True
    typical: ClassVar[Mapping[str, Any]] = {
        "ndim": 2,
        "encoder": [
            [{"name": "a", "inputs": 1, "outputs": 4, "kernel": [3, 3], "bias": True}],
            [{"name": "b", "inputs": 4, "outputs": 8, "kernel": [3, 3], "bias": True}],
        ],
        "rises": [{"conv": None}],
        "decoder": [
            [{"name": "c", "inputs": 12, "outputs": 4, "kernel": [3, 3], "bias": True}]
        ],
        "head": {
            **{"name": "d", "inputs": 4, "outputs": 2, "kernel": [1, 1]},
            "bias": True,
        },
        "strides": [[2, 2]],
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether there are convolutions enough for a U-Net and nothing odd."""
        parts = {key.rpartition(".")[2] for key in shapes}
        convs = sum(len(shape) in (4, 5) for shape in shapes.values())
        return convs >= 4 and parts <= _PARTS

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Follow the chain of convolutions down and up."""
        blocks = _blocks(shapes)
        walk = _Walk(blocks)
        walk.descend()
        walk.rise()
        first, head = walk.encoder[0][0], walk.head
        architecture = {
            "ndim": len(first.kernel),
            "encoder": [[b.as_dict() for b in level] for level in walk.encoder],
            "rises": walk.rises,
            "decoder": [[b.as_dict() for b in level] for level in walk.decoder],
            "head": head.as_dict(),
            "strides": _strides(walk),
            "norm": _norm(blocks),
        }
        fields = {
            "ndim": len(first.kernel),
            "in_channels": first.inputs,
            "out_channels": head.outputs,
        }
        return Inferred(architecture, fields, tuple(_assumed(architecture, blocks)))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return PlacedUNet(PlacedSpec(**architecture))


@dataclass
class _Block:
    """A convolution and the layers with weights right after it."""

    name: str
    shape: tuple[int, ...]
    bias: bool
    norm: str = ""
    norm_kind: str = "none"
    prelu: str = ""
    is_transposed: bool = False

    @property
    def inputs(self) -> int:
        return self.shape[0] if self.is_transposed else self.shape[1]

    @property
    def outputs(self) -> int:
        return self.shape[1] if self.is_transposed else self.shape[0]

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.shape[2:]

    def as_dict(self) -> dict[str, Any]:
        conv = PlacedConv(
            name=self.name,
            inputs=self.inputs,
            outputs=self.outputs,
            kernel=self.kernel,
            bias=self.bias,
            norm=self.norm,
            prelu=self.prelu,
        )
        return conv.model_dump(mode="json")


def _blocks(shapes: Shapes) -> list[_Block]:
    """List the convolutions in order, each with its norm; ValueError on the rest."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        name, _, part = key.rpartition(".")
        layers.setdefault(name, {})[part] = shape
    blocks: list[_Block] = []
    for name, parts in layers.items():
        if not name:
            raise ValueError("weights without a layer")
        if len(parts["weight"]) > 2:
            shape = parts["weight"]
            even = all(k % 2 == 0 or k == 1 for k in shape[2:])
            is_transposed = even and max(shape[2:]) > 1
            blocks.append(
                _Block(name, shape, "bias" in parts, is_transposed=is_transposed)
            )
        else:
            _attach(blocks[-1], name, parts)
    return blocks


def _attach(block: _Block, name: str, parts: dict[str, tuple[int, ...]]) -> None:
    """Note the norm or PReLU that follows a convolution."""
    if parts["weight"] != (block.outputs,):
        raise ValueError(f"{name} does not fit {block.name}")
    if "bias" not in parts:
        if block.prelu:
            raise ValueError("two activations")
        block.prelu = name
        return
    if block.norm:
        raise ValueError("two norms")
    block.norm = name
    block.norm_kind = "batch" if "running_mean" in parts else "instance"


@dataclass
class _Walk:
    """The way of an image through the blocks."""

    blocks: list[_Block]
    encoder: list[list[_Block]] = field(default_factory=list)
    rises: list[dict[str, Any]] = field(default_factory=list)
    decoder: list[list[_Block]] = field(default_factory=list)
    at: int = 0

    @property
    def head(self) -> _Block:
        return self.blocks[-1]

    @property
    def width(self) -> int:
        return self.blocks[self.at - 1].outputs

    def descend(self) -> None:
        """Take the encoder: a level starts where the channels change."""
        while not self._is_rise():
            block = self.blocks[self.at]
            if self.at and block.inputs != self.width:
                raise ValueError(f"{block.name} does not take what comes before it")
            if not self.at or block.inputs != block.outputs:
                self.encoder.append([])
            self.encoder[-1].append(block)
            self.at += 1

    def rise(self) -> None:
        """Take the decoder: one level per skip connection, then the head."""
        for level in reversed(self.encoder[:-1]):
            skip = level[-1].outputs
            self._rise(skip)
            while self.at < len(self.blocks) - 1 and not self._is_rise():
                block = self.blocks[self.at]
                if len(self.decoder[-1]) and block.inputs != self.width:
                    raise ValueError(f"{block.name} does not take what comes before it")
                self.decoder[-1].append(block)
                self.at += 1
        if self.at != len(self.blocks) - 1 or self.head.inputs != self.width:
            raise ValueError("the last layer is no head")
        if self.head.norm or self.head.prelu or self.head.is_transposed:
            raise ValueError("the last layer is no head")

    def _rise(self, skip: int) -> None:
        """Take what leads one level up, and check the layer that joins the skip."""
        block, width = self.blocks[self.at], self.width
        is_plain = not block.is_transposed and block.inputs == width + skip
        if is_plain:
            self.rises.append({"conv": None, "transposed": False})
        else:
            self.rises.append(
                {"conv": block.as_dict(), "transposed": block.is_transposed}
            )
            if block.inputs != width:
                raise ValueError(f"{block.name} does not take what comes before it")
            self.at += 1
            width = block.outputs
        if self.blocks[self.at].inputs != width + skip:
            raise ValueError("no skip connection where one belongs")
        self.decoder.append([])

    def _is_rise(self) -> bool:
        """Whether the next block leads up: alone, or with the one after it."""
        if self.at == 0 or self.at >= len(self.blocks) - 1:
            return False
        block, after = self.blocks[self.at : self.at + 2]
        if block.is_transposed:
            return True
        skips = [level[-1].outputs for level in self.encoder[:-1]]
        left = skips[: len(skips) - len(self.decoder)]
        if not left:
            return False
        if block.inputs == self.width + left[-1]:
            return True
        return after.inputs == block.outputs + left[-1] and self._is_between(block)

    def _is_between(self, block: _Block) -> bool:
        """Whether a convolution before a join is one of no level: all levels are alike.

        The names do not tell on which side of the interpolation it lies.
        """
        level = self.decoder[-1] if self.decoder else self.encoder[-1]
        return max(block.kernel) == 1 or len(level) >= len(self.encoder[0])


def _strides(walk: _Walk) -> list[list[int]]:
    """Read the strides of transposed convolutions; others are taken as 2."""
    ndim = len(walk.encoder[0][0].kernel)
    return [
        list(rise["conv"]["kernel"]) if rise["transposed"] else [2] * ndim
        for rise in reversed(walk.rises)
    ]


def _norm(blocks: list[_Block]) -> str:
    kinds = {b.norm_kind for b in blocks if b.norm}
    if len(kinds) > 1:
        raise ValueError("norms of several kinds")
    return kinds.pop() if kinds else "none"


def _assumed(architecture: Mapping[str, Any], blocks: list[_Block]) -> list[Assumption]:
    """List what names and shapes do not tell."""
    values: list[tuple[str, Any, tuple[Any, ...], str]] = [
        ("skip_first", True, (False,), "the order of the concatenation is not stored"),
        ("slope", 0.0, (0.01, 0.1, 0.2), "the activation has no weights"),
        ("pooling", "max", ("average",), "pooling has no weights"),
        ("padding", "same", ("valid",), "padding is not stored"),
    ]
    if architecture["norm"] != "none":
        values.append(("norm_first", True, (False,), "their order is not stored"))
    if architecture["norm"] == "instance":
        reason = "instance and group norm have the same keys"
        values.append(("norm", "instance", ("group",), reason))
    if not any(b.is_transposed for b in blocks):
        reason = "interpolation has no weights"
        values += [
            ("upsampling", "linear", ("nearest",), reason),
            ("align_corners", False, (True,), reason),
            ("strides", architecture["strides"], (), reason),
        ]
    return [
        activation(architecture["head"]["outputs"]),
        normalization("zscore", "intensity scaling is not stored"),
        *(setting(n, value=v, alternatives=a, reason=r) for n, v, a, r in values),
    ]
