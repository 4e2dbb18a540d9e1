"""Models of Keras written by hand, in the words of Keras 1 and 2."""

from __future__ import annotations

import gzip
import json

import h5py
import numpy as np
from zoo.stored_cases import STORED

DRAW = np.random.default_rng(3)


def array(*shape):
    return DRAW.normal(0, 0.4, shape).astype(np.float32)


def stored(name, folder):
    """Write a file as Keras wrote it, under a name that tells nothing."""
    path = folder / "model.any"
    path.write_bytes(gzip.decompress((STORED / f"{name}.gz").read_bytes()))
    return path


def call(kind, name, *reads, **config):
    """One layer of a graph in the words of Keras 1 and 2."""
    nodes = [[[read, 0, 0, {}] for read in reads]] if reads else []
    config = {"name": name, **config}
    return {
        **{"class_name": kind, "name": name, "config": config, "inbound_nodes": nodes}
    }


def model(*layers, kind="Model"):
    """A graph from its first layer to its last."""
    ends = [[layers[0]["name"], 0, 0]], [[layers[-1]["name"], 0, 0]]
    config = {"layers": layers, "input_layers": ends[0], "output_layers": ends[1]}
    return {"class_name": kind, "config": config}


def write(path, config, weights, **attributes):
    """Write a whole model in the old format; weights are {layer: [arrays]}."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        for key, value in attributes.items():
            file.attrs[key] = value
        put(file.create_group("model_weights"), weights)
    return path


def put(group, weights):
    group.attrs["layer_names"] = np.array([n.encode() for n in weights])
    for layer, arrays in weights.items():
        names = [f"{layer}_{n}" for n in range(len(arrays))]
        inside = group.create_group(layer)
        inside.attrs["weight_names"] = np.array([n.encode() for n in names])
        for name, values in zip(names, arrays, strict=True):
            inside[name] = values


def image_input(*shape):
    return call("InputLayer", "image", batch_input_shape=[None, *shape])


def convs(*more, **config):
    """A model of one convolution and what follows it, with its weights."""
    first = call("Conv2D", "conv", "image", **{"padding": "same", **config})
    weights = {"conv": [array(3, 3, 1, 2), array(2)]}
    return model(image_input(None, None, 1), first, *more), weights
