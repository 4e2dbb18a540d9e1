"""Keras' files and configurations, without Keras."""

from __future__ import annotations

import gzip
import json

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from zoo import recipe
from zoo.stored_cases import STORED

from napari_unet import checkpoints
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")
DRAW = np.random.default_rng(3)


@pytest.mark.parametrize(
    "name", ["keras3_15.keras", "keras3_15_old.h5", "keras2_15.h5", "keras2_13.keras"]
)
def test_files_as_keras_wrote_them(tmp_path, name):
    path = tmp_path / "model.any"
    path.write_bytes(gzip.decompress((STORED / f"{name}.gz").read_bytes()))
    network = checkpoints.load(path)
    output = network(torch.from_numpy(recipe.image((1, 1, 16, 24)))).sigmoid()
    wanted = np.load((STORED / name).with_suffix(".npy"))
    assert network.spec.activation == "sigmoid"
    assert "activation" not in {a.field for a in network.spec.assumed}
    np.testing.assert_allclose(output, wanted, atol=1e-6)
    assert network.geometry.exact
    assert network.geometry.stride == (2, 2)
