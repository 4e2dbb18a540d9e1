"""Networks whose file tells every operation; see `napari_unet.networks.program`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    normalization,
)
from napari_unet.networks.program import Program, ProgramSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

_KEY = re.compile(r"n\d+\.(weight|bias|running_mean|running_var|value)")


class Graph(Family):
    """A graph of operations."""

    name = "program"
    title = "a network whose file holds its graph"
    is_graph = True
    source = (
        "ONNX operator specification, opset 7 to 23; ATen of torch 2.13; "
        "Keras 1.2 to 3.15"
    )
    typical: ClassVar[Mapping[str, Any]] = {
        **{"ndim": 2, "in_channels": 1, "out_channels": 1},
        "steps": [
            {
                "kind": "conv",
                "inputs": [-1],
                "settings": {"in_channels": 1, "out_channels": 1, "kernel_size": 3},
            }
        ],
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether all weights are named by steps."""
        return bool(shapes) and all(_KEY.fullmatch(key) for key in shapes)

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Take the graph that the reader of the file found."""
        program = dict(hints["program"])
        final = program.pop("activation", "")
        fields = {k: program[k] for k in ("ndim", "in_channels", "out_channels")}
        assumed = [normalization("zscore", "intensity scaling is not in the graph")]
        if final:
            fields["activation"] = final
        else:
            assumed.append(activation(program["out_channels"]))
        return Inferred(program, fields, tuple(assumed))

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        return Program(ProgramSpec(**architecture))
