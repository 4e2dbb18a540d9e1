"""Keras' model configurations, of Keras 1 to 3, as calls of layers in order.

A configuration is followed, never deserialised: no class that it names is looked up.
Models inside models are followed in their place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_unet.checkpoints.formats.refusal import Refused

Apply = Callable[["Layer", list[Any]], Any]
Key = tuple[str, int, int]
"""A layer's name, which of its calls, and which of the call's outputs."""

MODELS = ("Functional", "Model", "Sequential")
_LIBRARIES = ("keras", "tf_keras", "tensorflow")
_ADDONS = ("Addons>GroupNormalization", "Addons>InstanceNormalization")
_OPERATIONS = "keras.src.ops."
_NUMBER = "_CONSTANT_VALUE"
_MOST_CALLS = 5000
_DEEPEST = 8


@dataclass(frozen=True)
class Layer:
    """One layer of a configuration.

    Attributes
    ----------
    kind : str
        Its class; ``"ops.<name>"`` for bare operations on tensors.
    config : dict
        Its settings.
    names : tuple of str
        Of the models it lies in, and its own.
    counted : tuple of (str, int)
        The same as files of Keras 3 name them: class, and which of that class.
    """

    kind: str
    config: dict[str, Any]
    names: tuple[str, ...] = ()
    counted: tuple[tuple[str, int], ...] = ()
    entry: dict[str, Any] = field(default_factory=dict, repr=False)


def follow(model: Layer, inputs: list[Any], apply: Apply) -> list[Any]:
    """Call `apply` for each layer of a model in the order of the data.

    Parameters
    ----------
    model : Layer
        Of one of the kinds `MODELS`, see `top`.
    inputs : list
        One value for each input.
    apply : callable
        Takes a layer and the values it reads, numbers among them, and returns its
        value.

    Returns
    -------
    list
        The values of the model's outputs.

    Raises
    ------
    Refused
        If the configuration uses what is not followed.
    """
    if len(model.names) > _DEEPEST:
        raise Refused(f"models inside models, {_DEEPEST} deep")
    if model.kind == "Sequential":
        return _sequence(model, inputs, apply)
    return _network(model, inputs, apply)


def top(config: dict[str, Any]) -> Layer:
    """Return the model that a configuration describes.

    Raises
    ------
    Refused
        If it is of a class of its own.
    """
    model = _layer(config)
    if model.kind not in MODELS:
        raise Refused(f"a model of the class {model.kind}")
    return Layer(model.kind, model.config)


def input_shape(model: Layer) -> list[int | None]:
    """Return the shape of the one input, with the batch first, None where free."""
    layers = _layers(model)
    if model.kind != "Sequential":
        keys = _keys(model.config.get("input_layers"))
        if len(keys) != 1:
            raise Refused(f"{len(keys)} inputs")
        layers = [layer for layer in layers if layer.names[-1] == keys[0][0]]
    first = layers[0]
    if first.kind in MODELS:
        return input_shape(first)
    names = ("batch_shape", "batch_input_shape")
    given = [first.config[n] for n in names if first.config.get(n)]
    if not given and isinstance(model.config, dict):
        given = [model.config.get("build_input_shape")]
    if not given or not given[0]:
        raise Refused("an input of unknown shape")
    return list(given[0])


def every(model: Layer) -> list[Layer]:
    """Return all layers of a model and of the models inside it."""
    found: list[Layer] = []
    for layer in _layers(model):
        found += every(layer) if layer.kind in MODELS else [layer]
        if len(found) > _MOST_CALLS or len(layer.names) > _DEEPEST:
            raise Refused("more layers than a U-Net has")
    return found


def _layers(model: Layer) -> list[Layer]:
    """Return the layers of a model with the names that their weights have."""
    config: Any = model.config
    entries = config if isinstance(config, list) else config["layers"]
    seen: Counter[str] = Counter()
    found = []
    for entry in entries:
        layer = _layer(entry, model.names)
        word = _snake(layer.kind)
        place = (*model.counted, (word, seen[word]))
        seen[word] += 1
        found.append(Layer(layer.kind, layer.config, layer.names, place, entry))
    return found


def _layer(entry: dict[str, Any], inside: tuple[str, ...] = ()) -> Layer:
    """Read one entry, refusing classes of other libraries."""
    kind, module = str(entry["class_name"]), entry.get("module") or "keras"
    registered = entry.get("registered_name") or kind
    config = entry["config"]
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else "")
    if registered in _ADDONS:
        kind = registered
    elif module.partition(".")[0] not in _LIBRARIES or registered != kind:
        raise Refused(f"{kind} of {module} ({registered}), a class of its own")
    if module.startswith(_OPERATIONS):
        kind = f"ops.{kind}"
    elif kind == "TFOpLambda":
        kind = f"ops.{config['function']}"
    return Layer(kind, config, (*inside, str(name)) if name else inside, (), entry)


def _sequence(model: Layer, inputs: list[Any], apply: Apply) -> list[Any]:
    values = inputs
    for layer in _layers(model):
        values = _call(layer, values, apply)
    return values


def _network(model: Layer, inputs: list[Any], apply: Apply) -> list[Any]:
    """Follow a graph: each call as soon as what it reads is there."""
    starts = _keys(model.config["input_layers"])
    if len(starts) != len(inputs):
        raise Refused(f"a model of {len(starts)} inputs, called with {len(inputs)}")
    values: dict[Key, Any] = dict(zip(starts, inputs, strict=True))
    waiting = [
        (layer, n, _reads(node, layer))
        for layer in _layers(model)
        for n, node in enumerate(layer.entry.get("inbound_nodes", ()))
    ]
    if len(waiting) > _MOST_CALLS:
        raise Refused(f"{len(waiting)} calls of layers")
    while waiting:
        later = []
        for layer, n, reads in waiting:
            if any(isinstance(r, tuple) and r not in values for r in reads):
                later.append((layer, n, reads))
                continue
            read = [values[r] if isinstance(r, tuple) else r for r in reads]
            for k, value in enumerate(_call(layer, read, apply)):
                values[layer.names[-1], n, k] = value
                if layer.kind in MODELS:  # Keras 2 counts from 1 here
                    values[layer.names[-1], n + 1, k] = value
        if len(later) == len(waiting):
            raise Refused("layers that wait for each other")
        waiting = later
    return [values[key] for key in _keys(model.config["output_layers"])]


def _call(layer: Layer, values: list[Any], apply: Apply) -> list[Any]:
    """Return the outputs of one layer or inner model."""
    if layer.kind == "InputLayer":
        return values
    if layer.kind in MODELS:
        if len(layer.entry.get("inbound_nodes", ())) > 1:
            raise Refused(f"the model {layer.names[-1]}, which is used twice")
        return follow(layer, values, apply)
    return [apply(layer, values)]


def _keys(given: Any) -> list[Key]:
    """Return the ends of a model; Keras 3 does not put a single one into a list."""
    if isinstance(given, dict):
        raise Refused("inputs or outputs with names")
    given = [given] if given and isinstance(given[0], str) else given or []
    return [_key(entry) for entry in given]


def _key(entry: Sequence[Any]) -> Key:
    return str(entry[0]), int(entry[1]), int(entry[2])


def _reads(node: Any, layer: Layer) -> list[Any]:
    """Return the keys and numbers that a call reads, in Keras 2's or 3's words."""
    if isinstance(node, dict):
        _check_options(node.get("kwargs") or {}, layer)
        return _flat(node["args"], layer)
    found: list[Any] = []
    for entry in [node] if isinstance(node[0], str) else node:
        options = dict(entry[3]) if len(entry) > 3 else {}
        found.append(_value(entry))
        if layer.kind.startswith("ops.") and "y" in options:
            found.append(_value(options.pop("y")))
        _check_options(options, layer)
    return found


def _value(entry: Any) -> Key | float:
    """Return what an argument of Keras 2 reads: a tensor, or a number."""
    if isinstance(entry, list):
        return float(entry[2]) if entry[0] == _NUMBER else _key(entry)
    return float(entry)


def _flat(values: Any, layer: Layer) -> list[Any]:
    """Return the keys and numbers in the arguments of a call of Keras 3."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, list):
            found += _flat(value, layer)
        elif isinstance(value, dict) and "keras_history" in value.get("config", {}):
            found.append(_key(value["config"]["keras_history"]))
        elif isinstance(value, (int, float)) and layer.kind.startswith("ops."):
            found.append(float(value))
        else:
            raise Refused(f"{layer.names[-1]} called with {str(value)[:100]}")
    return found


def _check_options(options: dict[str, Any], layer: Layer) -> None:
    """Refuse a call that changes what its layer does."""
    for name, value in options.items():
        if value not in (None, False) and name != "name":
            raise Refused(f"{layer.names[-1]} called with {name}={str(value)[:100]}")


def _snake(kind: str) -> str:
    """Return the name that Keras makes of a class, such as conv2d_transpose."""
    word = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind.rpartition(">")[2])
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", word).lower()
