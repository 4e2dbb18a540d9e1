"""Store outputs of Keras: ``python make_keras.py``, in the environments keras3, keras2.

Keras 3 computes with torch, Keras 2 with TensorFlow.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import keras_files
import numpy as np
import recipe
from keras_networks import (
    activations,
    addons,
    arithmetic,
    attention,
    channels_first,
    gates,
    napari_unet_1,
    nested,
    separable,
    sequence,
    transposed,
    two_outputs,
    unet,
    with_noise,
)
from record import STORED, _json, _write

if TYPE_CHECKING:
    from collections.abc import Callable

L = keras.layers
IS_NEW = keras.__version__.startswith("3")
_ROLES = {
    **{"gamma": "weight", "beta": "bias", "bias": "bias", "alpha": "weight"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}


@dataclass
class Case:
    """A network: its maker, the input (N, C, *spatial) and how it is saved."""

    name: str
    make: Callable[[], Any]
    shape: tuple[int, ...]
    ending: str = "keras"
    first: bool = False
    fields: dict[str, Any] = field(default_factory=dict)


BATCH, GROUP = {"norm": "batch"}, {"norm": "group"}
SMALL, FLAT, CUBE = (1, 1, 40, 56), (1, 2, 48, 32), (1, 1, 12, 16, 20)
SIGMOID, SOFTMAX = {"activation": "sigmoid"}, {"activation": "softmax"}

BOTH = [
    Case("unet-2d", unet, SMALL, fields=SIGMOID),
    Case("unet-2d-batch-h5", lambda: unet(2, 3, end="softmax", **BATCH), FLAT, "h5",
         fields=SOFTMAX),
    Case("unet-2d-k2-elu", lambda: unet(up="k2", act="elu"), SMALL, "h5"),
    Case("unet-2d-strided-k3", lambda: unet(up="k3", down="conv"), SMALL),
    Case("unet-2d-even-kernels", lambda: unet(up="k4", down="conv4", kernel=4), SMALL),
    Case("unet-2d-valid", lambda: unet(up="k2", padding="valid"), (1, 1, 60, 76)),
    Case("unet-2d-bilinear-leaky", lambda: unet(up="bilinear", act=L.LeakyReLU),
         SMALL),
    Case("unet-2d-max3-group", lambda: unet(down="max3", end="tanh", **GROUP), SMALL),
    Case("unet-3d-batch", lambda: unet(ndim=3, **BATCH), CUBE),
    Case("unet-3d-k3-flat", lambda: unet(ndim=3, up="k3", factor=(1, 2, 2)), CUBE),
    Case("unet-3d-valid-h5",
         lambda: unet(ndim=3, up="k2", padding="valid", levels=1, act="selu"),
         (1, 1, 24, 26, 28), "h5"),
    Case("activations", activations, FLAT),
    Case("separable", separable, FLAT),
    Case("noise-and-padding", with_noise, FLAT),
    Case("transposed-2d", transposed, FLAT),
    Case("transposed-3d-h5", lambda: transposed(3), (1, 2, 16, 16, 24), "h5"),
    Case("attention", attention, SMALL),
    Case("napari-unet-1", napari_unet_1, SMALL, fields=SIGMOID),
    Case("napari-unet-1-attention", lambda: napari_unet_1(True), SMALL),
    Case("gates", gates, SMALL, fields=SOFTMAX),
    Case("gates-h5", gates, SMALL, "h5"),
    Case("nested", nested, (1, 3, 32, 48), fields=SOFTMAX),
    Case("nested-h5", nested, (1, 3, 32, 48), "h5"),
    Case("nested-frozen-h5", lambda: nested(True), (1, 3, 32, 48), "h5"),
    Case("sequential", sequence, (1, 1, 64, 48), fields={"activation": "sigmoid"}),
    Case("sequential-h5", sequence, (1, 1, 64, 48), "h5"),
    Case("two-outputs", two_outputs, SMALL),
    Case("arithmetic", arithmetic, SMALL),
]  # fmt: skip
NEW = [
    Case("channels-first", channels_first, FLAT, first=True, fields=SOFTMAX),
    Case("channels-first-h5", channels_first, FLAT, "h5", first=True),
]
OLD = [
    Case("addons", addons, FLAT),
    Case("addons-h5", addons, FLAT, "h5"),
]


def fill(model: Any) -> dict[bytes, str]:
    """Give a model its weights; return their keys by their bytes."""
    keys = {}
    for n, variable in enumerate(model.weights):
        word = variable.name.split("/")[-1].partition(":")[0]
        key = f"{n}.{_ROLES.get(word, 'weight')}"
        values = keras_files.value(key, list(variable.shape))
        variable.assign(values)
        keys[np.ascontiguousarray(values, np.float32).tobytes()] = key
    return keys


def run(case: Case) -> tuple[dict[str, Any], np.ndarray]:
    """Return the facts of a case and its output (N, C, *spatial)."""
    keras.backend.clear_session()
    model = case.make()
    keys = fill(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{case.ending}"
        model.save(path)
        file = keras_files.taken_apart(path, keys)
    image = recipe.image(case.shape)
    image = image if case.first else np.moveaxis(image, 1, -1)
    output = model(image, training=False)
    output = output[0] if isinstance(output, (list, tuple)) else output
    output = output.detach().numpy() if hasattr(output, "detach") else output.numpy()
    output = output if case.first else np.moveaxis(output, -1, 1)
    facts = {"shape": case.shape, "family": "program", "fields": case.fields}
    facts |= {"settings": {}, "hints": {}, "schema": []}
    facts |= {"output": list(output.shape), "file": {"ending": case.ending, **file}}
    return facts, output


def main() -> None:
    """Store all cases."""
    library = "keras3" if IS_NEW else "keras2"
    facts = {"library": library, "version": keras.__version__, "cases": {}}
    outputs = {}
    for case in BOTH + (NEW if IS_NEW else OLD):
        facts["cases"][case.name], output = run(case)
        print(case.name, output.shape, output.std())
        assert output.std() > 1e-3, f"{case.name}: a constant output proves nothing"
        outputs[case.name] = recipe.sample(output)
    _write(library, _json(facts))
    np.savez_compressed(STORED / f"{library}.npz", **outputs)


if __name__ == "__main__":
    main()
