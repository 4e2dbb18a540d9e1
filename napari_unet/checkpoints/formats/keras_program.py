"""A Keras model as a program of ours: its configuration and its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.checkpoints.formats.keras_forms import (
    Value,
    axes,
    form_after,
    form_of,
    reshaped,
)
from napari_unet.checkpoints.formats.keras_graph import (
    Layer,
    every,
    follow,
    input_shape,
    top,
)
from napari_unet.checkpoints.formats.keras_layers import translate
from napari_unet.checkpoints.formats.keras_steps import Dialect, Step, Use, constant
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.source import damaged
from napari_unet.checkpoints.unwrap import Found, check, to_float32
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.checkpoints.formats.keras_weights import Weights

THEANO, TENSORFLOW = "theano", "tensorflow"
_ABOUT = ("keras_version", "backend")
_FINAL = ("sigmoid", "softmax")
_JOINED = ("concat", "add", "mul", "sub", "div")
_OPERATIONS = {
    **{"TrueDivide": "div", "Divide": "div", "Multiply": "mul", "Add": "add"},
    **{"Subtract": "sub", "math.truediv": "div", "math.multiply": "mul"},
    **{"math.add": "add", "math.subtract": "sub", "__operators__.add": "add"},
}
_FAILURES = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError),
)


def found_in(
    path: Path,
    config: dict[str, Any],
    weights: Weights,
    about: dict[str, Any],
    choice: str = "",
) -> Found:
    """Return the weights of a model and its graph as ``hints["program"]``.

    Parameters
    ----------
    path : pathlib.Path
        The file, for messages.
    config : dict
        The model's configuration.
    weights : Weights
        Where the arrays of its layers lie.
    about : dict
        ``keras_version`` and ``backend``, the library that Keras computed with, as far
        as the file tells.
    choice : str
        The backend, where the file does not tell it.

    Raises
    ------
    ModelError
        If the model is damaged, or has layers that are not carried out.
    """
    try:
        version, backend = (str(about.get(k) or "") for k in _ABOUT)
        builder = _Builder(config, weights, version, backend or choice)
        program = builder.program()
    except Refused as error:
        raise _refused(path, str(error)) from error
    except _FAILURES as error:
        words = f"a Keras configuration that does not fit ({error!r:.200})"
        raise damaged(path, words) from error
    found = Found(builder.tensors, hints={"program": program}, notes=builder.notes)
    if not backend and builder.dialect.major == 1:  # it did not say which way round
        found.wrapper = builder.backend
        found.choices = [b for b in (THEANO, TENSORFLOW) if b != builder.backend]
    check(found.tensors, path.name)
    to_float32(found)
    return found


def _refused(path: Path, found: str) -> ModelError:
    return ModelError(
        f"The Keras model {path.name} cannot be opened",
        found=found,
        expected="one image in, convolutions, norms, poolings, up-sampling and sums",
        hint="Nothing of a model's own code is run. Rebuild it of Keras' layers where "
        "it was made, load its weights there, and save it.",
    )


class _Builder:
    """Turns the calls of layers into steps."""

    def __init__(
        self, config: dict[str, Any], weights: Weights, version: str, backend: str
    ) -> None:
        self.model = top(config)
        shape = input_shape(self.model)
        if len(shape) not in (4, 5):
            raise Refused(f"an input of {len(shape)} axes")
        self.notes: list[str] = []
        self.dialect = self._dialect(len(shape) - 2, version, backend)
        channels = shape[-1 if self.dialect.last else 1]
        if not channels:
            raise Refused("an input of any number of channels")
        self.image = Value(-1, int(channels))
        sizes = shape[1:-1] if self.dialect.last else shape[2:]
        if any(sizes):
            self.notes.append(f"made for images of {sizes} pixels")
        self.weights = weights
        self.steps: list[dict[str, Any]] = []
        self.tensors: dict[str, torch.Tensor] = {}
        self._weighted: set[tuple[str, ...]] = set()

    def _dialect(self, ndim: int, version: str, backend: str) -> Dialect:
        """Tell how axes are ordered and which way round the kernels are."""
        layers = every(self.model)
        last = {_channels_last(layer) for layer in layers} - {None}
        if len(last) > 1:
            raise Refused("channels now first, now last")
        is_old = any("border_mode" in layer.config for layer in layers)
        version = version or ("1" if is_old else "2")
        before = THEANO if last == {False} else TENSORFLOW
        self.backend = backend or (before if version.startswith("1") else TENSORFLOW)
        return Dialect(version, ndim, last != {False}, self.backend == THEANO)

    def program(self) -> dict[str, Any]:
        """Return the graph as `napari_unet.networks.program.ProgramSpec` wants it."""
        outputs = follow(self.model, [self.image], self._apply)
        if len(outputs) > 1:
            self.notes.append("only the first of several outputs is used")
        last = outputs[0]
        if last.form == "vector":
            raise Refused("an output without space")
        final = self._cut(last.step)
        if not any(s["kind"] in ("conv", "transposed") for s in self.steps):
            raise Refused("no convolution")
        return {
            "ndim": self.dialect.ndim,
            "in_channels": self.image.channels,
            "out_channels": last.channels,
            "steps": self.steps,
            "activation": final,
        }

    def _apply(self, layer: Layer, values: list[Any]) -> Value:
        """Add the steps of one layer."""
        if layer.kind.startswith("ops."):
            return self._operation(layer, values)
        if layer.kind in ("Reshape", "Permute"):
            return reshaped(layer, values[0], self.dialect)
        arrays = self.weights.of(layer)
        if arrays and layer.names in self._weighted:
            raise Refused(f"the layer {layer.names[-1]}, whose weights are used twice")
        self._weighted.add(layer.names)
        form = form_of(layer, values, self.dialect)
        channels = tuple(v.channels for v in values)
        dialect = replace(self.dialect, axes=axes(form, self.dialect))
        try:
            steps = translate(layer.kind, Use(layer.config, arrays, channels, dialect))
        except Refused as error:
            raise Refused(f"{error} (layer {'/'.join(layer.names)})") from error
        return replace(self._chain(steps, values), form=form_after(layer, form))

    def _operation(self, layer: Layer, values: list[Any]) -> Value:
        """Add arithmetic of a value with another, or with a number."""
        kind = _OPERATIONS.get(layer.kind.removeprefix("ops."))
        if kind is None or len(values) != 2:
            raise Refused(f"the operation {layer.kind.removeprefix('ops.')}")
        a, b = values
        if isinstance(a, Value) and isinstance(b, Value):
            return self._chain([Step(kind)], values)
        number = b if isinstance(a, Value) else a
        step = constant(kind, number, first=not isinstance(a, Value))
        return self._chain([step], [a if isinstance(a, Value) else b])

    def _chain(self, steps: list[Step], values: list[Value]) -> Value:
        """Add steps one after the other; the first reads all values."""
        value = values[0]
        for step in steps:
            value = self._add(step, values)
            values = [value]
        return value

    def _add(self, step: Step, values: list[Value]) -> Value:
        """Add a step; sums and products of many go pair by pair."""
        if len(values) > 1 and step.kind not in _JOINED:
            raise Refused(f"a {step.kind} of {len(values)} inputs")
        if len(values) > 2 and step.kind != "concat":
            first = self._add(step, values[:2])
            return self._add(step, [first, *values[2:]])
        for name, array in step.weights.items():
            tensor = torch.from_numpy(np.array(array, np.float32))
            self.tensors[f"n{len(self.steps)}.{name}"] = tensor
        self.steps.append(
            {
                "kind": step.kind,
                "inputs": [v.step for v in values],
                "settings": step.settings,
            }
        )
        return Value(len(self.steps) - 1, _channels(step, values), values[0].form)

    def _cut(self, last: int) -> str:
        """Leave off what no output needs, and an activation at the end."""
        if last < 0:
            raise Refused("no layer at all")
        final = str(self.steps[last]["settings"].get("name", ""))
        is_cut = final in _FINAL and self.steps[last]["inputs"][0] >= 0
        last = self.steps[last]["inputs"][0] if is_cut else last
        self._keep(_needed(self.steps, last))
        return final if is_cut else ""

    def _keep(self, kept: list[int]) -> None:
        """Leave off the other steps and number these anew."""
        new = {old: n for n, old in enumerate(kept)} | {-1: -1}
        self.steps = [
            {**self.steps[n], "inputs": [new[i] for i in self.steps[n]["inputs"]]}
            for n in kept
        ]
        named = [(key.partition("."), t) for key, t in self.tensors.items()]
        self.tensors = {
            f"n{new[int(step[1:])]}.{name}": tensor
            for (step, _, name), tensor in named
            if int(step[1:]) in new
        }


def _channels_last(layer: Layer) -> bool | None:
    """Whether a layer takes the channels last, None if it does not say."""
    word = layer.config.get("data_format") or layer.config.get("dim_ordering")
    if word in (None, "default"):
        return None
    if word not in ("channels_last", "channels_first", "tf", "th"):
        raise Refused(f"axes ordered as {word}")
    return word in ("channels_last", "tf")


def _channels(step: Step, values: list[Value]) -> int:
    """Count the channels that a step gives."""
    if step.kind in ("conv", "transposed"):
        return int(step.settings["out_channels"])
    if step.kind == "concat":
        return sum(v.channels for v in values)
    return max(v.channels for v in values)


def _needed(steps: list[dict[str, Any]], last: int) -> list[int]:
    """Return the steps that `last` depends on, itself included, in order."""
    needed = {last}
    for n in range(last, -1, -1):
        if n in needed:
            needed.update(i for i in steps[n]["inputs"] if i >= 0)
    return sorted(needed)
