"""Store small files as Keras writes them: ``python make_keras_files.py NAME.ENDING``.

Run in an environment with the Keras that NAME names, which needs no torch.
"""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import recipe

L = keras.layers
STORED = Path(__file__).parent / "stored"
SHAPE = (1, 1, 16, 24)


def network():
    """Return a U-Net of one level with a model inside."""
    image = keras.Input((None, None, 1))
    skip = L.Conv2D(4, 3, padding="same", activation="relu")(image)
    deep = L.MaxPooling2D()(skip)
    for n in range(2):
        inner = [L.Conv2D(4, 1), L.BatchNormalization(), L.ReLU()]
        rows = [L.InputLayer((None, None, 4)), *inner]
        deep = keras.Sequential(rows, name=f"inner{n}")(deep)
    up = L.Conv2DTranspose(4, 2, strides=2)(deep)
    x = L.Concatenate()([up, skip])
    return keras.Model(image, L.Conv2D(1, 1, activation="sigmoid")(x))


def main() -> None:
    """Write a file and what it gives."""
    path = STORED / sys.argv[1]
    model = network()
    draw = np.random.default_rng(0)
    weights = model.get_weights()
    model.set_weights(
        [draw.uniform(0.1, 0.5, w.shape) - 0.2 * (w.ndim > 1) for w in weights]
    )
    model.save(path)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    image = np.moveaxis(recipe.image(SHAPE), 1, -1)
    output = np.moveaxis(np.asarray(model.predict(image, verbose=0)), -1, 1)
    print(keras.__version__, output.std())
    np.save(path.with_suffix(".npy"), output)


if __name__ == "__main__":
    main()
