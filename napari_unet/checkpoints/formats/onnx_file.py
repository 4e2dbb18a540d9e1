"""ONNX: the graph and its weights, by an allow-list of operators.

Neither onnxruntime nor anything the model names is run. Weights must lie in the file
itself; functions, control flow and operators of other domains are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from napari_unet.checkpoints.formats.onnx_operators import translate, uneven_padding
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.source import damaged
from napari_unet.checkpoints.unwrap import Found, check, to_float32
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_MOST_NODES = 10_000
_DOMAINS = ("", "ai.onnx")
_FINAL = ("sigmoid", "softmax")


def read(path: Path) -> Found:
    """Return the weights, and the graph as ``hints["program"]``."""
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf raises what it likes
        raise damaged(path, "no readable ONNX model") from error
    _check(path, model)
    try:
        reader = _Reader(model.graph)
        program = reader.program()
    except Refused as error:
        raise _refused(path, str(error)) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise damaged(path, f"an ONNX graph that does not fit ({error})") from error
    found = Found(reader.tensors, hints={"program": program}, notes=reader.notes)
    check(found.tensors, path.name)
    to_float32(found)
    return found


def _check(path: Path, model: Any) -> None:
    """Refuse what leads out of the file or is more than a plain graph."""
    graph = model.graph
    if len(graph.node) > _MOST_NODES:
        raise damaged(path, f"{len(graph.node)} operators")
    if any(t.data_location == TensorProto.EXTERNAL for t in _all_tensors(graph)):
        raise _refused(path, "weights in another file")
    if graph.sparse_initializer or model.functions:
        raise _refused(path, "sparse weights or functions")
    foreign = [n.op_type for n in graph.node if n.domain not in _DOMAINS]
    if foreign:
        raise _refused(path, f"the operator {foreign[0]} of another domain")


def _all_tensors(graph: Any) -> list[Any]:
    inside = [a.t for n in graph.node for a in n.attribute if a.HasField("t")]
    return [*graph.initializer, *inside]


def _refused(path: Path, found: str) -> ModelError:
    return ModelError(
        f"The ONNX model {path.name} cannot be opened",
        found=found,
        expected="one image in, convolutions, norms, poolings, up-sampling and sums",
        hint="Save the network's state_dict where it was made and open that.",
    )


class _Reader:
    """Turns the nodes of a graph into steps of a program."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.constants: dict[str, np.ndarray[Any, Any]] = {
            t.name: numpy_helper.to_array(t) for t in graph.initializer
        }
        inputs = [i for i in graph.input if i.name not in self.constants]
        if len(inputs) != 1:
            raise Refused(f"{len(inputs)} inputs")
        self.ndim = len(inputs[0].type.tensor_type.shape.dim) - 2
        if self.ndim not in (2, 3):
            raise Refused(f"an input of {self.ndim + 2} axes")
        self.numbers = {inputs[0].name: -1}
        self.steps: list[dict[str, Any]] = []
        self.tensors: dict[str, torch.Tensor] = {}
        self.notes: list[str] = []
        sizes = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim[2:]]
        if any(sizes):
            self.notes.append(f"exported for images of {sizes} pixels")

    def program(self) -> dict[str, Any]:
        """Return the graph as `napari_unet.networks.program.ProgramSpec` wants it."""
        for node in self.graph.node:
            self._add(node)
        output = self.graph.output[0].name
        if len(self.graph.output) > 1:
            self.notes.append("only the first of several outputs is used")
        final = self._cut(self.numbers[output])
        convs = [s for s in self.steps if s["kind"] in ("conv", "transposed")]
        if not convs:
            raise Refused("no convolution")
        return {
            "ndim": self.ndim,
            "in_channels": convs[0]["settings"]["in_channels"],
            "out_channels": self._channels(len(self.steps) - 1),
            "steps": self.steps,
            "activation": final,
        }

    def _add(self, node: Any) -> None:
        """Translate one node; constants are taken aside."""
        attributes = {
            a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
        }
        if node.op_type == "Constant":
            self.constants[node.output[0]] = _constant(attributes)
            return
        if node.op_type == "Identity" and node.input[0] in self.constants:
            self.constants[node.output[0]] = self.constants[node.input[0]]
            return
        read = [self.numbers[n] for n in node.input if n in self.numbers]
        if node.op_type == "Conv":
            read = self._evened(attributes, read)
        fixed = [self.constants.get(n) if n else None for n in node.input]
        kind, settings, weights = translate(node.op_type, attributes, fixed, self.ndim)
        self.numbers[node.output[0]] = len(self.steps)
        for name, value in weights.items():
            tensor = torch.from_numpy(np.array(value))
            self.tensors[f"n{len(self.steps)}.{name}"] = tensor
        self.steps.append({"kind": kind, "inputs": read, "settings": settings})

    def _evened(self, attributes: dict[str, Any], read: list[int]) -> list[int]:
        """Put padding that differs between the sides into a step of its own."""
        before, after = uneven_padding(attributes, self.ndim)
        if before == after:
            return read
        attributes["pads"] = [0] * 2 * self.ndim
        settings = {"before": before, "after": after}
        self.steps.append({"kind": "pad", "inputs": read, "settings": settings})
        return [len(self.steps) - 1]

    def _cut(self, last: int) -> str:
        """Leave off what follows the output, and an activation that ends the graph."""
        step = self.steps[last]
        final = str(step["settings"].get("name", ""))
        is_cut = final in _FINAL and step["inputs"] == [last - 1]
        last -= is_cut
        self.steps = self.steps[: last + 1]
        kept = {f"n{n}" for n in range(last + 1)}
        self.tensors = {
            k: v for k, v in self.tensors.items() if k.split(".")[0] in kept
        }
        return final if is_cut else ""

    def _channels(self, number: int) -> int:
        """Count the channels that a step gives."""
        step = self.steps[number]
        if step["kind"] in ("conv", "transposed"):
            return int(step["settings"]["out_channels"])
        if number < 0 or step["inputs"] == [-1]:
            raise Refused("an output that is no network's")
        if step["kind"] == "concat":
            return sum(self._channels(n) for n in step["inputs"])
        return self._channels(step["inputs"][0])


def _constant(attributes: dict[str, Any]) -> np.ndarray[Any, Any]:
    if "value" in attributes:
        return np.asarray(numpy_helper.to_array(attributes["value"]))
    names = ("value_float", "value_floats", "value_int", "value_ints")
    return np.asarray(next(attributes[n] for n in names if n in attributes))
