"""nnU-Net's models through our engine, against nnU-Net's own predictor."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from zoo import nnunet_v1_volume, nnunet_volume

import napari_unet
from napari_unet import api, checkpoints
from napari_unet.checkpoints import formats, weights
from napari_unet.config import PredictConfig
from napari_unet.errors import ModelError
from napari_unet.events import Progress, Warned
from napari_unet.images.readers import open_image

VARIANTS = nnunet_volume.variants()


FIRST = nnunet_v1_volume.VARIANTS


@pytest.fixture(
    params=[*VARIANTS, *FIRST], ids=lambda v: f"v{1 + (v not in FIRST)}-{v.name}"
)
def case(request, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "read_foreign", formats.read)
    variant, place = request.param, tmp_path / "model"
    if variant in FIRST:
        folder = nnunet_v1_volume.write(place, variant, variant.weights)
    else:
        folder = nnunet_volume.write(place, variant.facts, variant.weights)
    return variant, checkpoints.load(folder)


def write(path, variant, factor=1.0, unit="mm"):
    """Write the volume as OME-TIFF with its pixel size."""
    z, y, x = (s * factor for s in variant.spacing)
    sizes = {
        **{"PhysicalSizeZ": z, "PhysicalSizeY": y, "PhysicalSizeX": x},
        **{f"PhysicalSize{a}Unit": unit for a in "ZYX"},
    }
    tifffile.imwrite(path, variant.image, metadata={"axes": "CZYX", **sizes}, ome=True)
    return path


@pytest.mark.parametrize(("factor", "unit"), [(1e3, "µm")])
def test_labels_are_those_of_nnunet(case, tmp_path, factor, unit):
    variant, network = case
    image = write(tmp_path / "image.ome.tif", variant, factor, unit)
    events = []
    labels = napari_unet.predict(image, network, on_event=events.append)
    assert labels.shape == variant.labels.shape
    assert (labels == variant.labels).mean() >= 0.9999
    assert (variant.labels > 0).sum() > 100
    done = [e for e in events if isinstance(e, Progress)]
    assert done[-1].done == done[-1].total


def test_probabilities_agree_with_the_labels(case, tmp_path):
    variant, network = case
    image = write(tmp_path / "image.ome.tif", variant)
    found = napari_unet.predict(image, network, kind="probabilities")
    found = np.moveaxis(found, 1, 0)
    labels = napari_unet.predict(image, network)
    assert found.min() >= 0
    assert found.max() <= 1
    recipe = network.spec.recipe
    if recipe.region_labels:
        wanted = np.zeros(labels.shape, labels.dtype)
        for channel, label in zip(found, recipe.region_labels, strict=True):
            wanted[channel > 0.5] = label
    else:
        wanted = found.argmax(0)
    assert (wanted == labels).mean() > 0.9999


def test_a_region_is_cut_from_the_whole(case, tmp_path):
    variant, network = case
    image = write(tmp_path / "image.ome.tif", variant)
    whole = napari_unet.predict(image, network)
    region = {"Z": 9, "Y": slice(10, 40), "X": slice(5, 30)}
    out = np.zeros((30, 25), whole.dtype)
    for _ in api.iter_predict(image, network, out, PredictConfig(), region=region):
        pass
    assert np.array_equal(out, whole[9, 10:40, 5:30])


def test_without_a_pixel_size_that_is_said(case):
    variant, network = case
    events = []
    stack = open_image(variant.image, axes="CZYX")
    napari_unet.predict(stack, network, on_event=events.append)
    told = " ".join(e.message for e in events if isinstance(e, Warned))
    assert "does not tell its pixel size" in told


def test_pixel_sizes_that_cannot_be_are_refused(case, tmp_path):
    variant, network = case
    image = write(tmp_path / "image.ome.tif", variant, 1e5)
    with pytest.raises(ModelError, match="do not go together"):
        napari_unet.predict(image, network)
