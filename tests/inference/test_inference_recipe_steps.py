"""Each step around a network with a recipe, against nnU-Net's own functions."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn
from zoo import nnunet_steps

from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError, ModelError, UsageError
from napari_unet.events import Cancelled, Finished, Started, Warned
from napari_unet.images.intensity import Normalization
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference.predict import predict
from napari_unet.inference.recipes import foreground, patches, prepared, resampling
from napari_unet.inference.recipes.pixel_size import new_shape, spacing_of
from napari_unet.networks.activations import logits_of
from napari_unet.networks.network import Network
from napari_unet.networks.recipe import Recipe
from napari_unet.networks.spec import ModelSpec
from napari_unet.tasks.task import probabilities, task_of

with np.load(nnunet_steps.STORED) as file:
    STORED = dict(file)
FACTS = json.loads(str(STORED.pop("facts")))


def numbered(step):
    return pytest.mark.parametrize(
        ("case", "wanted"),
        [(case, STORED[f"{step}.{n}"]) for n, case in enumerate(FACTS[step])],
    )


@numbered("resample")
def test_resampling(case, wanted):
    old, new = case["old"], case["new"]
    found = resampling.resample(
        nnunet_steps.noise(2, case["shape"]).astype(np.float32),
        new_shape(case["shape"], old, new),
        order=case.get("order", 3),
        axis=resampling.separate_axis(old, new, case.get("separate")),
        order_z=case.get("order_z", 0),
    )
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-6


@numbered("shape")
def test_shape_at_another_pixel_size(case, wanted):
    assert new_shape(*case) == tuple(wanted)


@numbered("starts")
def test_starts_of_patches(case, wanted):
    (length, patch), overlap = case
    assert patches.patch_starts(length, patch, overlap) == wanted.tolist()


@numbered("window")
def test_weights_of_a_patch(case, wanted):
    assert np.array_equal(patches.window(tuple(case)), wanted)


def test_weights_of_version_1_are_not_rounded():
    fine, coarse = (patches.window((9, 16), rounded=r) for r in (False, True))
    assert np.array_equal(fine.astype(np.float16), coarse.astype(np.float16))
    assert not np.array_equal(fine, coarse)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits_of_probabilities(activation):
    logits = torch.from_numpy(nnunet_steps.noise(3, (5, 7)).astype(np.float32)) * 8
    wanted = probabilities(logits, activation)
    again = logits_of(wanted, activation)
    assert (probabilities(again, activation) - wanted).abs().max() < 1e-6
    sure = logits_of(torch.tensor([[0.0], [1.0]]), activation)
    assert torch.isfinite(sure).all()


def test_scaling_of_ct_images_by_their_own_numbers():
    channel = np.array([0, 0, 10, 20, 30, 90], np.float32)
    rule = {"kind": "ct", "own": True, "masked": True, "clip_low": 5, "clip_high": 40}
    image = channel[None].copy()
    foreground.normalise(image, [Normalization(**rule)], channel > 0)
    mean, std = 20.0, np.std([10, 20, 30])
    wanted = (channel.clip(5, 40) - mean) / std * (channel > 0)
    assert np.allclose(image[0], wanted, atol=1e-6)
    constant = np.full((1, 4), 3, np.float32)
    foreground.normalise(constant, [Normalization(**rule)], constant[0] > 0)
    assert np.isfinite(constant).all()


def test_crop():
    box, mask = foreground.crop(nnunet_steps.volume(), to_nonzero=True)
    assert [[s.start, s.stop] for s in box] == STORED["crop.box"].tolist()
    assert np.array_equal(mask, STORED["crop.mask"])
    assert not mask.all()


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (
            "ct",
            Normalization(
                kind="ct",
                clip_low=FACTS["ct"]["percentile_00_5"],
                clip_high=FACTS["ct"]["percentile_99_5"],
                mean=FACTS["ct"]["mean"],
                std=FACTS["ct"]["std"],
            ),
        ),
        ("masked", Normalization(kind="zscore", masked=True)),
        ("zscore", Normalization(kind="zscore")),
        ("minmax", Normalization(kind="minmax")),
        ("rgb", Normalization(kind="linear", gain=1 / 255)),
    ],
)
def test_normalisation(name, rule):
    volume = nnunet_steps.volume().astype(np.float32)
    box, mask = foreground.crop(volume, to_nonzero=True)
    cropped = volume[(slice(None), *box)].copy()
    foreground.normalise(cropped, [rule], mask)
    assert np.abs(cropped[0] - STORED[f"normalise.{name}"]).max() < 1e-6


class Raw(nn.Module):
    """Logits 0, of which the second channel is the image."""

    def __init__(self, out: int = 2, ndim: int = 3) -> None:
        super().__init__()
        self.conv = (nn.Conv2d if ndim == 2 else nn.Conv3d)(1, out, 1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)
        nn.init.ones_(self.conv.weight[1])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(image)


def raw(recipe=None, ndim=3, **fields):
    recipe = {"patch": (4, 8, 8)[-ndim:], **(recipe or {})}
    spec = {"ndim": ndim, "in_channels": 1, "out_channels": 2, **fields}
    module = Raw(spec["out_channels"], ndim).requires_grad_(False)
    return Network(module, ModelSpec(recipe=Recipe(**recipe), **spec))


def run(image, network, axes="ZYX", scale=None, unit="mm", **settings):
    config = PredictConfig(**{"device": "cpu", "kind": "logits", **settings})
    scale = dict(zip("ZYX", scale or (), strict=False))
    stack = ImageStack(image, axes, scale, dict.fromkeys(scale, unit))
    return list(predict(stack, network, config, ArraySink()))


def result(events):
    assert isinstance(events[-1], Finished)
    return events[-1].result


def told(events):
    return " ".join(e.message for e in events if isinstance(e, Warned))


@pytest.mark.parametrize("shape", [(9, 20, 13), (3, 5, 30)])
@pytest.mark.parametrize("order", [(), (1, 2, 0), (2, 0, 1)])
def test_what_goes_in_comes_back_in_place(shape, order):
    image = nnunet_steps.noise(1, shape)[0].astype(np.float32)
    image[:1] = 0
    image[..., -2:] = 0
    recipe = {"transpose": order, "mirror": (0, 2), "crop_to_nonzero": True}
    background, found = np.moveaxis(result(run(image, raw(recipe))), 1, 0)
    assert np.abs(found[1:, :, :-2] - image[1:, :, :-2]).max() < 1e-5
    assert (background[1:, :, :-2] == 0).all()
    outside = np.ones(shape, bool)
    outside[1:, :, :-2] = False
    assert (background[outside] == 20).all()
    assert (found[outside] == -20).all()


def test_a_slice_without_depth_is_resampled_in_its_plane():
    image = nnunet_steps.noise(1, (12, 10))[0].astype(np.float32)
    network = raw({"spacing": (0.5, 0.25)}, ndim=2)
    stack = ImageStack(image, "YX", {"Y": 4.0, "X": 1.0}, dict.fromkeys("YX", "mm"))
    spacing, note = spacing_of(stack, "YX", network.spec.recipe)
    assert (spacing, note) == ((999 * 4.0, 4.0, 1.0), "")
    assert resampling.separate_axis(spacing, spacing, None) == 0
    events = run(image, network, "YX")
    assert "does not tell its pixel size" in told(events)
    assert result(events).shape == (2, 12, 10)


def stack_of(scale, unit="mm"):
    return ImageStack(np.zeros((2, 2, 2)), "ZYX", scale, dict.fromkeys(scale, unit))


@pytest.mark.parametrize(
    ("scale", "unit", "wanted", "says"),
    [
        ((0.25, 5, 0.25), "mm", (0.25, 5, 0.25), ""),
        ((250, 5000, 250), "µm", (0.25, 5, 0.25), ""),
        ((0.01, 0.2, 0.01), "in", (0.254, 5.08, 0.254), ""),
        ((0.25, 5, 0.25), "", (0.25, 5, 0.25), "number by number"),
        ((0.25, 5, 0.25), "µm", (0.25, 5, 0.25), "number by number"),
    ],
)
def test_pixel_size_by_the_axes_of_the_network(scale, unit, wanted, says):
    """The network's first axis is Y, which is 20 times as coarse as the others."""
    recipe = Recipe(patch=(4, 8, 8), transpose=(1, 0, 2), spacing=(5, 0.25, 0.25))
    stack = stack_of(dict(zip("ZYX", scale, strict=True)), unit)
    spacing, note = spacing_of(stack, "ZYX", recipe)
    assert spacing == pytest.approx(wanted)
    assert says in note
    assert bool(says) == bool(note)


def test_planes_need_no_distance_of_slices():
    recipe = Recipe(patch=(8, 8), spacing=(1.0, 1.0))
    spacing, note = spacing_of(stack_of({"Y": 1.0, "X": 2.0}), "ZYX", recipe)
    assert (spacing, note) == ((1998.0, 1.0, 2.0), "")
    solid = Recipe(patch=(8, 8, 8), spacing=(1.0, 1.0, 1.0))
    assert spacing_of(stack_of({"Y": 1.0, "X": 2.0}), "ZYX", solid)[0] is None


def test_labels_of_channels_and_regions():
    logits = torch.tensor([[3.0, 0, 0, -1], [0, 3.0, 0, -1], [0, 0, 3.0, 1]])
    facts = {"ndim": 2, "in_channels": 1, "out_channels": 3}
    named = ModelSpec(recipe=Recipe(patch=(8, 8), label_values=(0, 7, 300)), **facts)
    assert task_of(named).labels(logits, 0.5).tolist() == [0, 7, 300, 300]
    assert task_of(named).classes() == 300
    regions = Recipe(patch=(8, 8), region_labels=(2, 1, 5))
    painted = ModelSpec(recipe=regions, activation="sigmoid", **facts)
    assert task_of(painted).labels(logits, 0.5).tolist() == [2, 1, 5, 5]
    assert task_of(painted).labels(logits, 0.75).tolist() == [2, 1, 5, 0]
    assert task_of(painted).evidence(logits, 0.5).tolist() == [[2, 1, 5, 5]]


def test_nan_is_refused_or_taken_as_zero():
    image = np.ones((4, 8, 8), np.float32)
    image[1, 2, 3] = np.nan
    with pytest.raises(ImageError, match="NaN or infinite") as caught:
        run(image, raw())
    assert "1 of them" in str(caught.value)
    events = run(image, raw(), nan="zero")
    assert "1 NaN or infinite pixels are taken as 0" in told(events)
    assert result(events)[1, 1, 2, 3] == 0


@pytest.mark.filterwarnings("error")
def test_a_volume_of_nothing_is_scaled_without_a_warning():
    recipe = {"crop_to_nonzero": True, "mirror": (0, 1, 2)}
    masked = Normalization(kind="zscore", masked=True)
    network = raw(recipe, normalization=(masked,))
    assert not result(run(np.zeros((5, 9, 9)), network)).any()


def test_settings_that_are_not_used_are_told_after_the_start():
    events = run(np.ones((4, 8, 8)), raw(), tile=(16,))
    assert isinstance(events[0], Started)
    assert "tile is unused" in told(events)


def test_a_volume_too_large_is_refused_before_it_is_read():
    class Vast:
        shape = (100_000, 100_000, 100_000)
        dtype = np.dtype("u2")

        def __getitem__(self, index):
            raise AssertionError("read")

    with pytest.raises(UsageError, match="needs whole volumes in memory"):
        run(Vast(), raw())


@pytest.mark.parametrize("spacing", [(), (2.0, 2.0, 2.0), (0.5, 0.5, 0.5)])
def test_the_memory_is_what_was_said(monkeypatch, spacing):
    asked = []
    monkeypatch.setattr(prepared, "check_memory", lambda n, *_: asked.append(n))
    network = raw({"spacing": spacing, "patch": (16, 32, 32)})
    image = nnunet_steps.noise(1, (40, 96, 80))[0].astype(np.float32)
    run(image, network, scale=(1.0, 1.0, 1.0))
    tracemalloc.start()
    try:
        run(image, network, scale=(1.0, 1.0, 1.0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    in_memory = 2 * image.nbytes  # the result, which could be in a file
    assert peak - in_memory < 1.1 * asked[-1]
    assert asked[-1] < 2 * peak


def test_a_patch_that_the_network_cannot_take_is_told():
    class Fussy(Raw):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if image.shape[-1] == 8:
                raise RuntimeError("sizes of tensors must match")
            return self.conv(image)

    network = raw()
    network.module = Fussy().requires_grad_(False)
    network.__dict__["geometry"] = raw().geometry
    with pytest.raises(ModelError, match="cannot work on a tile of 4 x 8 x 8"):
        run(np.ones((4, 8, 8)), network)


def test_stopping_leaves_nothing():
    class Late:
        asked = 0

        def is_set(self):
            self.asked += 1
            return self.asked > 2

    config = PredictConfig(device="cpu")
    stack = ImageStack(np.ones((9, 20, 20)), "ZYX")
    events = list(predict(stack, raw(), config, ArraySink(), cancel=Late()))
    assert isinstance(events[-1], Cancelled)
    assert "stopped after 2 of" in events[-1].note
