"""ONNX: the graph and its weights, by an allow-list of operators.

Neither onnxruntime nor anything the model names is run. Weights must lie in the file
itself; functions, control flow and operators of other domains are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from napari_unet.checkpoints.formats.onnx_layouts import Last
from napari_unet.checkpoints.formats.onnx_numbers import Known
from napari_unet.checkpoints.formats.onnx_operators import carry_out
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.formats.tape import (
    Tape,
    Value,
    record,
)
from napari_unet.checkpoints.source import damaged
from napari_unet.checkpoints.unwrap import Found, check, to_float32
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_MOST_NODES = 10_000
_DOMAINS = ("", "ai.onnx")
_RESIZE = 11  # before, pixels lay at their corners
_SOFTMAX = 13  # before, it was over all axes from one on


def read(path: Path) -> Found:
    """Return the weights, and the graph as ``hints["program"]``."""
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf raises what it likes
        raise damaged(path, "no readable ONNX model") from error
    _check(path, model)
    opset = max([o.version for o in model.opset_import if o.domain in _DOMAINS] or [1])
    try:
        name, shape, is_last = _input(model.graph)
        tape, output = record(
            shape, lambda tape: _Reader(model.graph, opset, tape).play(name, is_last)
        )
        program = tape.program(output)
    except Refused as error:
        raise _refused(path, str(error)) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise damaged(path, f"an ONNX graph that does not fit ({error})") from error
    tape.note_size(shape)
    found = Found(tape.tensors, hints={"program": program}, notes=tape.notes)
    check(found.tensors, path.name)
    to_float32(found)
    return found


def _check(path: Path, model: Any) -> None:
    """Refuse what leads out of the file or is more than a plain graph."""
    graph = model.graph
    if len(graph.node) > _MOST_NODES:
        raise damaged(path, f"{len(graph.node)} operators")
    if any(t.data_location == TensorProto.EXTERNAL for t in _all_tensors(graph)):
        hint = "Export it again with external_data=False."
        raise _refused(path, "weights in another file", hint)
    if graph.sparse_initializer or model.functions:
        raise _refused(path, "sparse weights or functions")
    foreign = [n.op_type for n in graph.node if n.domain not in _DOMAINS]
    if foreign:
        raise _refused(path, f"the operator {foreign[0]} of another domain")


def _all_tensors(graph: Any) -> list[Any]:
    inside = [a.t for n in graph.node for a in n.attribute if a.HasField("t")]
    return [*graph.initializer, *inside]


def _refused(path: Path, found: str, hint: str = "") -> ModelError:
    return ModelError(
        f"The ONNX model {path.name} cannot be opened",
        found=found,
        expected="one image in, convolutions, norms, poolings, up-sampling and sums",
        hint=hint or "Save the network's state_dict where it was made and open that.",
    )


class _Reader:
    """Carries out the nodes of a graph on a tape."""

    def __init__(self, graph: Any, opset: int, tape: Tape) -> None:
        self.graph, self.opset, self.tape = graph, opset, tape
        self.values: dict[str, Any] = {
            t.name: Known.of(numpy_helper.to_array(t)) for t in graph.initializer
        }

    def play(self, image: str, is_last: bool) -> Value:
        """Carry out all nodes and return the output."""
        self.values[image] = Last(self.tape.image) if is_last else self.tape.image
        for node in self.graph.node:
            self._add(node)
        if len(self.graph.output) > 1:
            self.tape.note("only the first of several outputs is used")
        output = self.values[self.graph.output[0].name]
        output = output.image if isinstance(output, Last) else output
        if not isinstance(output, Value):
            raise Refused("an output that is no image")
        return output

    def _add(self, node: Any) -> None:
        """Carry out one node."""
        attributes = {
            a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
        }
        if node.op_type == "Constant":
            self.values[node.output[0]] = Known.of(_constant(attributes))
            return
        operator = node.op_type
        if operator == "Resize" and self.opset < _RESIZE:
            operator = "Upsample"
        if "Softmax" in operator and self.opset < _SOFTMAX:
            _check_softmax(attributes, self.tape.ndim)
        read = [self.values[n] if n else None for n in node.input]
        result = carry_out(self.tape, operator, attributes, read)
        results = result if isinstance(result, list) else [result]
        self.values.update(zip(node.output, results, strict=False))


def _check_softmax(attributes: dict[str, Any], ndim: int) -> None:
    """Refuse what old versions did: all axes from the one given on were one."""
    if attributes.get("axis", 1) not in (-1, ndim + 1):
        raise Refused("a softmax over space")


def _input(graph: Any) -> tuple[str, list[int | None], bool]:
    """Return name and shape of the image, and whether its channels are last."""
    weights = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in weights]
    if len(inputs) != 1:
        raise Refused(f"{len(inputs)} inputs")
    name = inputs[0].name
    shape = [d.dim_value or None for d in inputs[0].type.tensor_type.shape.dim]
    if len(shape) not in (4, 5):
        raise Refused(f"an input of {len(shape)} axes")
    orders = [
        list(a.ints)
        for node in graph.node
        for a in node.attribute
        if node.op_type == "Transpose" and node.input[0] == name and a.name == "perm"
    ]
    is_last = [0, len(shape) - 1, *range(1, len(shape) - 1)] in orders
    if is_last:
        shape = [shape[0], shape[-1], *shape[1:-1]]
    return name, [shape[0], shape[1] or _channels(graph), *shape[2:]], is_last


def _channels(graph: Any) -> int:
    """Return the channels of the first convolution's input."""
    weights = {t.name: t.dims for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in weights:
            groups = [a.i for a in node.attribute if a.name == "group"]
            return int(weights[node.input[1]][1] * (groups or [1])[0])
    raise Refused("no convolution")


def _constant(attributes: dict[str, Any]) -> np.ndarray[Any, Any]:
    if "value" in attributes:
        return np.asarray(numpy_helper.to_array(attributes["value"]))
    names = ("value_float", "value_floats", "value_int", "value_ints")
    return np.asarray(next(attributes[n] for n in names if n in attributes))
