"""Patches: geometry is exact where it can be, and nothing is starved."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.training.augmentation import (
    Augmentation,
    blend,
    points,
    relight,
    warp,
)
from napari_unet.training.sampling import PatchSampler, find_strokes

STILL = Augmentation(geometry=False, light=False)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_patch_without_augmentation_is_a_crop(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    size = data.draw(st.tuples(*[st.integers(6, 12)] * ndim))
    patch = tuple(data.draw(st.integers(1, n)) for n in size)
    corner = tuple(
        data.draw(st.integers(0, n - p)) for n, p in zip(size, patch, strict=True)
    )
    image = torch.randn((2, *size), generator=generator())
    target = torch.randint(0, 5, size, generator=generator()).float()
    centre = tuple(c + (p - 1) / 2 for c, p in zip(corner, patch, strict=True))
    seen, known = warp(image, target, points(patch, centre, STILL, generator()))
    box = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
    torch.testing.assert_close(seen, image[:, *box], atol=1e-4, rtol=0)
    assert (known == target[box]).all()


def test_image_and_target_move_together():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    target = ((y // 16 + x // 16) % 2) + 1
    for seed in range(8):
        where = points((32, 32), (31.5, 31.5), Augmentation(), generator(seed))
        seen, known = warp(target[None], target, where)
        sure = (seen[0] - seen[0].round()).abs() < 0.01
        assert sure.float().mean() > 0.5
        assert (seen[0][sure].round() == known[sure]).all()


def test_beyond_the_image_is_mirrored_and_unknown():
    image = torch.arange(8.0).expand(1, 8, 8).contiguous()
    where = points((8, 16), (3.5, 3.5), STILL, generator())
    seen, known = warp(image, torch.ones(8, 8), where)
    want = [4, 3, 2, 1, *range(8), 6, 5, 4, 3]
    torch.testing.assert_close(seen[0, 0], torch.tensor(want).float())
    assert known[0].tolist() == [0] * 4 + [1] * 8 + [0] * 4


def test_flat_stacks_are_only_turned_in_the_plane():
    for seed in range(6):
        how = Augmentation(solid=False)
        where = points((5, 9, 9), (2.0, 4.0, 4.0), how, generator(seed))
        depth = where[..., 0]
        spread = (depth - depth.mean((1, 2), keepdim=True)).abs().max()
        assert spread < 4  # bent a little, never turned out of the plane


def test_draws_are_the_same_for_the_same_seed():
    image = np.random.default_rng(0).normal(size=(1, 40, 40)).astype(np.float32)
    target = np.zeros((40, 40), np.int64)
    target[3:6, 3:6], target[30:33, 20:30] = 1, 2
    sampler = PatchSampler([image], [target], (16, 16), Augmentation())
    first, second = (sampler.draw(4, generator(5)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], sampler.draw(4, generator(6))[0])


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(60, 70), (12, 40, 40)])
def test_a_gpu_draws_what_the_processor_draws(shape):
    random = np.random.default_rng(0)
    image = random.normal(size=(2, *shape)).astype(np.float32)
    target = random.integers(0, 3, shape)
    soft = random.random((2, *shape), np.float32)
    patch = tuple(n // 2 for n in shape)
    makes = [
        PatchSampler([image], [target], patch, Augmentation(), soft=[soft])
        for _ in range(2)
    ]
    makes[1].to(torch.device("mps"))  # nothing happens
    makes[1].to(torch.device("cuda"))
    for seed in range(5):
        expected, found = (sampler.draw(4, generator(seed)) for sampler in makes)
        assert found.images.device.type == "cuda"
        off = (found.images.cpu() - expected.images).abs()
        assert off.max() < 1e-3
        # A nearest pixel may be another where a point lies half way.
        assert (found.targets.cpu() != expected.targets).float().mean() < 1e-3
        assert (found.soft.cpu() != expected.soft).float().mean() < 1e-3


def test_a_speck_is_drawn_as_often_as_a_field():
    image = np.zeros((1, 200, 200), np.float32)
    target = np.zeros((200, 200), np.int64)
    target[:150] = 1
    target[190, 190] = 2
    sampler = PatchSampler([image], [target], (16, 16), STILL)
    targets = sampler.draw(200, generator()).targets
    share = (targets == 2).flatten(1).any(1).float().mean()
    assert 0.4 < share < 0.6


def test_every_drawn_patch_holds_paint():
    image = np.zeros((1, 30, 30), np.float32)
    target = np.zeros((30, 30), np.int64)
    target[0, 0], target[29, 15] = 1, 2
    targets = (
        PatchSampler([image], [target], (8, 8), STILL).draw(50, generator()).targets
    )
    assert (targets > 0).flatten(1).any(1).all()


def test_strokes_are_connected_pieces():
    target = np.zeros((10, 10), np.int64)
    target[0:2, 0:2], target[5, 5], target[6, 6], target[9, 0] = 1, 1, 1, 2
    found = sorted((s.target, len(s.pixels)) for s in find_strokes([target]))
    assert found == [(1, 2), (1, 4), (2, 1)]


def test_light_changes_the_image_but_not_its_kind():
    image = torch.randn(2, 3, 16, 16, generator=generator())
    for seed in range(10):
        changed = relight(image, generator(seed))
        assert changed.shape == image.shape
        assert torch.isfinite(changed).all()
    flat = relight(torch.zeros(1, 8, 8), generator())
    assert torch.isfinite(flat).all()


def test_a_blend_shows_more_of_the_patch_whose_target_it_has():
    batch = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 32, 32)
    targets = torch.tensor([1, 2]).reshape(2, 1, 1).expand(2, 32, 32)
    met = set()
    for seed in range(10):
        mixed, known = blend(batch, targets, generator(seed))
        assert (mixed[:, 0][known == 1] <= 0.5).all()
        assert (mixed[:, 0][known == 2] >= 0.5).all()
        assert 0.6 < (known[0] == 1).float().mean() <= 1
        met |= set(known[0].unique().tolist())
    assert met == {1, 2}


def test_volumes_blend_too():
    images, targets = torch.rand(2, 1, 4, 16, 16), torch.ones(2, 4, 16, 16).long()
    mixed, known = blend(images, targets, generator())
    assert mixed.shape == images.shape
    assert known.shape == targets.shape


def test_weights_move_with_their_targets():
    y, x = np.mgrid[:64, :64]
    target = (1 + (y // 8 + x // 8) % 3).astype(np.uint8)
    weights = target * 2.5
    image = np.zeros((1, 64, 64), np.float32)
    sampler = PatchSampler([image], [target], (24, 24), Augmentation(), [weights])
    drawn = sampler.draw(8, generator())
    assert (drawn.weights == drawn.targets * 2.5).all()
    assert set(drawn.targets.unique().tolist()) >= {1, 2, 3}


def test_a_large_piece_is_kept_as_pixels_all_over_it():
    (stroke,) = find_strokes([np.ones((300, 300), np.uint8)])
    assert 2048 <= len(stroke.pixels) <= 4096
    assert (stroke.pixels.max(0) >= 295).all()


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0, 0, 0), (0.5, 15, 45), (1, 55, 60)]
)
def test_batches_are_mixed_by_chance(share, least, most):
    images = [np.full((1, 64, 64), value, np.float32) for value in (0, 1)]
    targets = [np.full((64, 64), value, np.uint8) for value in (1, 2)]
    how = Augmentation(geometry=False, mixed=share)
    sampler = PatchSampler(images, targets, (16, 16), how)
    source = generator()
    spread = [
        float(sampler.draw(8, source).images.std((1, 2, 3)).max()) for _ in range(60)
    ]
    assert least <= sum(value > 0.1 for value in spread) <= most
