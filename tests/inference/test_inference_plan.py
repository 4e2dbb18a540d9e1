from __future__ import annotations

import math
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_unet.config import PredictConfig
from napari_unet.errors import UsageError
from napari_unet.images.stack import ImageStack
from napari_unet.inference import tiling
from napari_unet.inference.footprint import SLACK, bytes_per_pixel
from napari_unet.inference.job import prepare
from napari_unet.inference.plan import Memory, plan
from napari_unet.networks.receptive_field import Geometry

PLENTY = Memory(budget=1 << 40, per_pixel=100)


def geometry(
    stride=(16, 16), halo=((92, 92), (92, 92)), exact=True, reason=""
) -> Geometry:
    zero = (0,) * len(stride)
    before, after = zip(*halo, strict=True)
    return Geometry(stride, before, after, halo, zero, zero, exact, reason)


GLOBAL = geometry(exact=False, reason="instance norm looks at the whole image")


@pytest.mark.parametrize(
    ("network", "fields", "budget", "way", "why"),
    [
        (geometry(), {}, 1 << 40, "whole", "fits into memory"),
        (geometry(), {}, 1 << 26, "exact", "equal to the whole frame"),
        (geometry(), {"tile": (512,)}, 1 << 40, "exact", "equal to the whole"),
        (geometry(), {"tiling": "blend"}, 1 << 40, "blend", "as asked"),
        (geometry(), {"tiling": "whole"}, 1, "whole", "as asked"),
        (geometry(), {"tiling": "exact"}, 1 << 40, "exact", "as asked"),
        (GLOBAL, {}, 1 << 40, "whole", "fits into memory"),
        (GLOBAL, {}, 1 << 26, "blend", "instance norm looks at the whole image"),
        (GLOBAL, {"tile": (256,)}, 1 << 40, "blend", "instance norm looks"),
    ],
)
def test_the_way_and_its_reason(network, fields, budget, way, why) -> None:
    chosen = plan((2048, 2048), network, PredictConfig(**fields), Memory(budget, 100))
    assert chosen.way == way
    assert why in chosen.reason
    assert why in chosen.describe()


def test_exact_tiles_of_a_network_without_are_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="instance norm looks at the whole image"):
        plan((99, 99), GLOBAL, PredictConfig(tiling="exact"), PLENTY)


@pytest.mark.parametrize(("asked", "used"), [(512, 512), (208, 208), (64, 384)])
def test_a_tile_that_would_be_all_halo_is_raised_and_said(asked, used) -> None:
    config = PredictConfig(tiling="exact", tile=(asked,))
    chosen = plan((2048, 2048), geometry(), config, PLENTY)
    assert chosen.tile == (used, used)
    assert (f"{used} x {used} is used" in chosen.describe()) == (asked != used)


def test_a_tile_is_never_raised_beyond_the_image() -> None:
    config = PredictConfig(tiling="exact", tile=(16, 512))
    assert plan((100, 2048), geometry(), config, PLENTY).tile == (112, 512)


def test_tile_and_ratio_of_2048_pixels_are_those_computed_by_hand() -> None:
    memory = Memory(budget=1200 * 1200 * 100, per_pixel=100)
    chosen = plan((2048, 2048), geometry(), PredictConfig(tiling="exact"), memory)
    assert chosen.tile == (1120, 1120)
    assert chosen.pieces == 4
    assert chosen.ratio == pytest.approx((2240 / 2048) ** 2)
    assert chosen.peak == 1120 * 1120 * 100
    assert chosen.describe().startswith("4 exact tiles of 1120 x 1120 pixels a frame")


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(22, 36),
)
def test_tiles_keep_to_the_budget_where_they_can(size, bits) -> None:
    network = geometry((2, 8, 8), ((4, 5), (40, 41), (40, 41)))
    memory = Memory(1 << bits, 50)
    chosen = plan(size, network, PredictConfig(tiling="exact"), memory)
    inputs = [spans[0].read[1] - spans[0].read[0] for spans in chosen.spans]
    least = [min(g.smallest, g.fit(n)) for g, n in zip(chosen.grids, size, strict=True)]
    assert memory.cost(inputs) <= max(memory.budget, memory.cost(least))
    if memory.cost([g.fit(n) for g, n in zip(chosen.grids, size, strict=True)]) <= (
        memory.budget
    ):
        assert chosen.pieces == 1


def test_an_axis_without_halo_is_cut_first() -> None:
    network = geometry((1, 8, 8), ((0, 0), (40, 40), (40, 40)))
    memory = Memory(512 * 512 * 4 * 10, 10)
    chosen = plan((64, 512, 512), network, PredictConfig(tiling="exact"), memory)
    assert chosen.tile == (4, 512, 512)
    assert chosen.ratio == 1


def test_patches_do_not_depend_on_the_memory() -> None:
    config = PredictConfig(tiling="blend")
    small = plan((2048, 2048), GLOBAL, config, Memory(1 << 20, 100))
    assert small.tile == plan((2048, 2048), GLOBAL, config, PLENTY).tile == (512, 512)


@pytest.mark.parametrize("width", [8, 16])
def test_the_footprint_is_that_of_the_layers_alive(make_network, width) -> None:
    network = make_network(widths=(width, 2 * width), norm="none", convs=1)
    per_pixel = bytes_per_pixel(network, tiling.grids(network.geometry))
    skip, up = 4 * width, 4 * width
    joined = skip + up
    at_decoder = skip + up + joined + 4 * width
    own = 8 * (1 + 2 * 2)
    assert (per_pixel - own) / SLACK == pytest.approx(at_decoder, rel=0.35)


def test_the_footprint_leaves_no_hooks_and_no_tensors(make_network) -> None:
    network = make_network()
    kept: list[weakref.ref] = []
    network.module.head.register_forward_hook(
        lambda _, inputs, output: kept.append(weakref.ref(output))
    )
    bytes_per_pixel(network, tiling.grids(network.geometry))
    assert [ref() for ref in kept] == [None]
    hooked = [m for m in network.module.modules() if m._forward_hooks]
    assert hooked == [network.module.head]


def test_wider_networks_need_more(make_network) -> None:
    costs = [
        bytes_per_pixel(n, tiling.grids(n.geometry))
        for n in (make_network(widths=(w, 2 * w)) for w in (4, 8, 16))
    ]
    assert costs == sorted(costs)
    assert costs[2] > 3 * costs[0] - 100


def test_a_network_of_one_layer_can_be_measured(make_network) -> None:
    network = make_network()
    network.module = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        cost = bytes_per_pixel(network, (tiling.Grid(), tiling.Grid()))
    assert cost == pytest.approx(SLACK * 4 * (1 + 2) + 8 * 5)
    assert math.isfinite(cost)


@pytest.mark.parametrize("exact", [True, False])
def test_a_forward_pass_stays_below_the_memory_that_it_may_take(
    make_network, noise, exact
):
    """Frames that would be taken whole are cut; more than is free is not taken."""
    network = make_network(widths=(4, 6), norm="batch" if exact else "instance")
    stack = ImageStack(noise(300, 400), "YX")
    free = prepare(stack, network, PredictConfig(device="cpu"))
    assert free.plan.way == "whole"
    most = free.plan.peak / 3
    capped = prepare(stack, network, PredictConfig(device="cpu", memory=most / 1e9))
    assert capped.plan.way == ("stream" if exact else "blend")
    if exact:  # patches are as large as ever, since the result depends on them
        assert capped.plan.peak <= most
    assert capped.memory.budget <= most
    large = prepare(stack, network, PredictConfig(device="cpu", memory=1e6))
    assert large.memory.budget == pytest.approx(free.memory.budget, rel=0.2)
