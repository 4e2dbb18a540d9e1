"""Cells from flows, against cellpose's own (``zoo/make_cellpose_masks.py``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_unet import api
from napari_unet.checkpoints.families import by_name
from napari_unet.errors import ModelError
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.tasks.diffusion import flow_errors, flows_of
from napari_unet.tasks.flows import follow
from napari_unet.tasks.task import task_of

SPEC = ModelSpec(ndim=2, in_channels=2, out_channels=3, task="flows", activation="none")
STORED = Path(__file__).parents[1] / "zoo" / "stored" / "cellpose_masks.npz"


def stored(name):
    """Return the flows that cellpose was given and the cells it made of them."""
    with np.load(STORED) as file:
        flows = file[f"{name}_flows"].astype(np.float32) / 4
        return flows, file[f"{name}_cells"].astype(np.int32)


def average_precision(found, wanted):
    """Hits / (hits + false + missed); a hit shares half of the pixels of both."""
    size = int(found.max()) + 1
    pairs = np.bincount(
        (wanted * size + found).ravel(), minlength=(int(wanted.max()) + 1) * size
    ).reshape(-1, size)
    union = pairs.sum(1, keepdims=True) + pairs.sum(0, keepdims=True) - pairs
    hits = int((pairs[1:, 1:] > 0.5 * union[1:, 1:]).sum())
    return hits / (wanted.max() + found.max() - hits)


@pytest.mark.parametrize("name", ["touching", "long", "noisy", "small", "one"])
def test_cells_are_those_of_cellpose(name):
    flows, wanted = stored(name)
    found = task_of(SPEC).separate(flows, 0.5)
    assert found.max() == wanted.max()
    assert average_precision(found, wanted) >= 0.98
    assert ((found > 0) == (wanted > 0)).mean() >= 0.999


def test_cells_depend_on_the_flows():
    flows, wanted = stored("touching")
    flows[:2] *= -1
    assert average_precision(task_of(SPEC).separate(flows, 0.5), wanted) < 0.2


def test_flows_that_fit_no_cell_leave_none():
    """The check of shapes takes out what the gathering alone would keep."""
    flows, _ = stored("noisy")
    flows[:2] *= 0.2
    assert task_of(SPEC).separate(flows, 0.5).max() == 0


def test_higher_threshold_makes_cells_smaller():
    flows, _ = stored("long")
    task = task_of(SPEC)
    areas = [(task.separate(flows, t) > 0).sum() for t in (0.3, 0.5, 0.95)]
    assert areas[0] > areas[1] > areas[2] > 0
    labels = task.labels(torch.from_numpy(flows), 0.5).numpy()
    np.testing.assert_array_equal(labels, flows[2] > 0)


@pytest.mark.parametrize("value", [-9.0, 9.0])
def test_frames_without_cells_and_one_that_fills_all(value):
    flows = np.zeros((3, 32, 32), np.float32)
    flows[2] = value
    assert task_of(SPEC).separate(flows, 0.5).max() == 0


def test_points_follow_a_field_to_its_sink_and_stop_at_the_border():
    y, x = np.mgrid[:21, :31].astype(np.float32)
    sink = np.stack([10.5 - y, 15.5 - x]) / 10
    start = np.array([[0, 20, 10, 3], [0, 30, 15, 28]])
    np.testing.assert_array_equal(follow(sink, start).T, [[10, 15]] * 4)
    away = np.stack([np.ones_like(y), -np.ones_like(x)])
    np.testing.assert_array_equal(follow(away, start).T, [[20, 0]] * 4)


def test_shapes_make_flows_of_length_one_to_their_middles():
    y, x = np.mgrid[:40, :60]
    cells = ((y - 20) ** 2 + (x - 15) ** 2 < 100).astype(np.int32)
    cells[(y - 20) ** 2 + (x - 42) ** 2 < 150] = 2
    flows = flows_of(cells)
    inner = (cells == 1) & ((y - 20) ** 2 + (x - 15) ** 2 > 9)
    lengths = np.hypot(*flows)
    np.testing.assert_allclose(lengths[inner], 1, atol=1e-9)
    wanted = np.stack([20 - y, 15 - x]) / np.hypot(y - 20, x - 15).clip(1)
    assert (flows * wanted).sum(0)[inner].min() > 0.97
    np.testing.assert_allclose(flow_errors(cells, flows), 0)
    assert flow_errors(cells, -flows)[1:].min() > 3.5


def test_other_outputs_are_refused():
    with pytest.raises(ModelError, match="no flows"):
        task_of(ModelSpec(ndim=3, in_channels=1, out_channels=3, task="flows"))


def test_a_network_of_cellpose_gives_cells():
    """From an image to cells of a network with random weights, through the engine."""
    torch.manual_seed(0)
    module = by_name("cellpose").build({"widths": [1, 4, 8], "out_channels": 3})
    facts = {"family": "cellpose", "normalization": ({"kind": "percentile"},)}
    spec = SPEC.model_copy(update={"in_channels": 1})
    network = Network(module, ModelSpec(**{**spec.model_dump(), **facts}))
    image = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)
    cells = api.predict(image, network, kind="instances", axes="YX")
    assert cells.shape == image.shape
    assert cells.dtype == np.uint32
