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


def layer(kind: str, ndim: int) -> Any:
    """Return a class such as Conv2D or Conv3DTranspose."""
    return getattr(L, kind.replace("#", f"{ndim}D"))


def block(x, width, ndim=2, norm="", act="relu", padding="same", kernel=3):
    """Two convolutions with what follows each."""
    for _ in range(2):
        x = layer("Conv#", ndim)(width, kernel, padding=padding)(x)
        if norm == "batch":
            x = L.BatchNormalization()(x)
        elif norm == "group":
            x = L.GroupNormalization(2)(x)
        x = act()(x) if callable(act) else L.Activation(act)(x)
    return x


def up_by(kind, width, ndim=2, factor=2):
    """Return the layer that enlarges."""
    if kind == "nearest":
        return layer("UpSampling#", ndim)(factor)
    if kind == "bilinear":
        return L.UpSampling2D(factor, interpolation="bilinear")
    size, padding = {"k2": (factor, "valid"), "k3": (3, "same"), "k4": (4, "same")}[
        kind
    ]
    return layer("Conv#Transpose", ndim)(width, size, strides=factor, padding=padding)


def unet(
    channels=1, classes=1, ndim=2, up="nearest", end="sigmoid", levels=2, factor=2,
    down="max", padding="same", **how,
):  # fmt: skip
    """Return a U-Net of widths 4, 8, ... with the usual choices."""
    x = image = keras.Input((*[None] * ndim, channels))
    skips = []
    how["padding"] = padding
    for level in range(levels):
        x = block(x, 4 << level, ndim, **how)
        skips.append(x)
        x = down_by(down, x, ndim, factor)
    x = block(x, 4 << levels, ndim, **how)
    for level in reversed(range(levels)):
        x = up_by(up, 4 << level, ndim, factor)(x)
        skip = skips.pop()
        if padding == "valid":
            skip = layer("Cropping#", ndim)(4 if level == levels - 1 else 16)(skip)
        x = block(L.Concatenate()([x, skip]), 4 << level, ndim, **how)
    x = layer("Conv#", ndim)(classes, 1, activation=end)(x)
    return keras.Model(image, x)


def down_by(kind, x, ndim, factor):
    """Halve by pooling or by a convolution."""
    if kind == "conv":
        return layer("Conv#", ndim)(x.shape[-1], 3, strides=factor, padding="same")(x)
    if kind == "conv4":
        return layer("Conv#", ndim)(x.shape[-1], 4, strides=factor, padding="same")(x)
    if kind == "max3":
        return layer("MaxPooling#", ndim)(3, strides=factor, padding="same")(x)
    kind = {"max": "MaxPooling#", "mean": "AveragePooling#"}[kind]
    return layer(kind, ndim)(factor)(x)


def of_layers(*rows, channels=2, ndim=2):
    """Return a chain of layers with a convolution at either end."""
    x = image = keras.Input((*[None] * ndim, channels))
    x = layer("Conv#", ndim)(4, 3, padding="same")(x)
    for row in rows:
        x = row(x)
    return keras.Model(image, layer("Conv#", ndim)(2, 1)(x))


def activations():
    """Return all of them, one behind another, each with a norm before."""
    names = ["tanh", "selu", "softplus", "softsign", "swish", "gelu", "hard_sigmoid"]
    names += ["elu", "relu", "linear", "sigmoid"]
    names += ["mish", "relu6", "leaky_relu", "silu", "hard_silu"] if IS_NEW else []
    names.remove("softsign")
    rows = []
    for name in names:
        rows += [L.BatchNormalization(), L.Activation(name)]
    limits = [L.ReLU(6.0), L.ReLU(negative_slope=0.2), L.ELU(0.5), L.LeakyReLU()]
    for last in (*limits, L.PReLU(shared_axes=[1, 2]), L.Softmax()):
        rows += [L.BatchNormalization(scale=len(rows) % 4 > 0), last]
    return of_layers(*rows)


def separable():
    """Return convolutions by channel, in groups, dilated and strided."""
    return of_layers(
        L.SeparableConv2D(8, 3, padding="same", depth_multiplier=2, activation="relu"),
        L.DepthwiseConv2D(5, padding="same", activation="elu"),
        L.Conv2D(8, 3, padding="same", groups=2, activation="tanh"),
        L.Conv2D(8, 3, padding="same", dilation_rate=(2, 3)),
        L.BatchNormalization(center=False, epsilon=1e-2),
        L.SeparableConv2D(8, 4, padding="same", strides=2, use_bias=False),
        L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, strides=2),
        L.Conv2DTranspose(4, 3, strides=4, padding="same", use_bias=False),
    )


def with_noise():
    """Return what is at work in training only, and what scales the image."""
    return of_layers(
        L.Rescaling(1 / 2, offset=-0.25),
        L.GaussianNoise(0.5), L.GaussianDropout(0.5), L.Dropout(0.5),
        L.SpatialDropout2D(0.5), L.ZeroPadding2D(((1, 2), (3, 0))),
        L.Conv2D(4, (4, 4)), L.Cropping2D(((1, 0), (0, 1))), L.ZeroPadding2D((1, 1)),
        L.AveragePooling2D(3, strides=1, padding="same"),
        L.MaxPooling2D(2, strides=1, padding="same"),
    )  # fmt: skip


def transposed(ndim=2):
    """Return transposed convolutions of odd sizes."""
    made = layer("Conv#Transpose", ndim)
    return of_layers(
        layer("MaxPooling#", ndim)(2),
        made(4, 3, strides=2), layer("Cropping#", ndim)(((0, 1),) * ndim),
        made(4, 3, padding="same"), made(4, 3), layer("Cropping#", ndim)(1),
        layer("AveragePooling#", ndim)(4), made(4, 5, strides=2, padding="same"),
        made(4, 1, strides=2, padding="same"),
        ndim=ndim,
    )  # fmt: skip


def attention():
    """Return a gated U-Net of one level with sums, products and differences."""
    image = keras.Input((None, None, 1))
    skip = block(image, 4, norm="batch")
    deep = block(L.MaxPooling2D()(skip), 8, norm="batch")
    up = L.Conv2DTranspose(4, 3, padding="same")(L.UpSampling2D()(deep))
    a, b = (L.BatchNormalization()(L.Conv2D(4, 1)(x)) for x in (up, skip))
    gate = L.Activation("sigmoid")(L.Conv2D(1, 1)(L.ReLU()(L.Add()([a, b]))))
    x = L.Concatenate()([L.Multiply()([up, gate]), skip, L.Subtract()([a, b])])
    x = L.Average()([x, L.Conv2D(12, 1)(x), L.Conv2D(12, 3, padding="same")(x)])
    return keras.Model(image, L.Conv2D(1, 1, activation="sigmoid")(x))


def gates():
    """Return a network whose channels are weighed by whole-image means."""
    image = keras.Input((None, None, 1))
    x = block(image, 8, norm="batch")
    mean = L.GlobalAveragePooling2D()(x)
    gate = L.Dense(8, activation="sigmoid")(L.Dense(2, activation="relu")(mean))
    x = L.Multiply()([x, L.Reshape((1, 1, 8))(gate)])
    mean = L.GlobalAveragePooling2D(keepdims=True)(x)
    x = L.Multiply()([x, L.Conv2D(8, 1, activation="hard_sigmoid")(mean)])
    return keras.Model(image, L.Dense(3, activation="softmax")(x))


def nested(freeze=False):
    """Return a U-Net whose encoder is a model of several outputs."""
    image = keras.Input((None, None, 3))
    a = block(image, 4, norm="batch")
    b = block(L.MaxPooling2D()(a), 8, norm="batch")
    encoder = keras.Model(image, [a, b], name="encoder")
    encoder.trainable = not freeze
    if freeze:
        encoder.layers[1].trainable = True
    rows = [L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.ReLU()]
    decoder = keras.Sequential([L.InputLayer((None, None, 12)), *rows], name="decoder")
    outer = keras.Input((None, None, 3))
    skip, deep = encoder(outer)
    x = decoder(L.Concatenate()([L.UpSampling2D()(deep), skip]))
    return keras.Model(outer, L.Conv2D(2, 1, activation="softmax")(x))


def sequence():
    """Return a chain, as a Sequential."""
    return keras.Sequential(
        [
            L.InputLayer((64, 48, 1)),
            L.Conv2D(4, 3, padding="same", activation="relu"), L.MaxPooling2D(),
            L.Conv2D(8, 3, padding="same", activation=L.LeakyReLU(0.1)),
            L.UpSampling2D(), L.Conv2D(1, 3, padding="same"),
        ]
    )  # fmt: skip


def two_outputs():
    """Return a network with a second output of lower resolution."""
    image = keras.Input((None, None, 1))
    x = block(image, 4)
    deep = block(L.MaxPooling2D()(x), 8)
    side = L.Conv2D(1, 1)(deep)
    x = L.Concatenate()([L.UpSampling2D()(deep), x])
    return keras.Model(image, [L.Conv2D(1, 1, activation="sigmoid")(x), side])


def arithmetic():
    """Return a network with operators between tensors and numbers."""
    image = keras.Input((None, None, 1))
    x = L.Conv2D(4, 3, padding="same")(image / 255.0 * 100)
    x = 1.0 - block(x, 4) * 0.5 + x
    return keras.Model(image, L.Conv2D(1, 1)(x))


def channels_first():
    """Return a U-Net with channels before space."""
    keras.config.set_image_data_format("channels_first")
    try:
        image = keras.Input((2, None, None))
        x = L.BatchNormalization(axis=1)(L.Conv2D(4, 3, padding="same")(image))
        x = L.PReLU(shared_axes=[2, 3])(x)
        y = L.Conv2D(8, 3, strides=2, padding="same")(x)
        y = L.Conv2DTranspose(4, 3, strides=2, padding="same")(L.ReLU()(y))
        x = L.Concatenate(axis=1)([y, x])
        return keras.Model(image, L.Softmax(axis=1)(L.Conv2D(3, 1)(x)))
    finally:
        keras.config.set_image_data_format("channels_last")


def addons():
    """Return the norms of tensorflow_addons."""
    import tensorflow_addons as tfa

    return of_layers(
        tfa.layers.InstanceNormalization(),
        L.Conv2D(4, 3, padding="same"),
        tfa.layers.GroupNormalization(2, epsilon=1e-2),
        tfa.layers.InstanceNormalization(center=False),
    )


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
