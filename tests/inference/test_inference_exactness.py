"""Tiles against the whole image, computed here with numpy and the bare module."""

from __future__ import annotations

import numpy as np
import pytest
import torch


def forward(network, image: np.ndarray) -> np.ndarray:
    """Logits of a bare module for one (*spatial) image that fits it."""
    with torch.inference_mode():
        return network.module(torch.from_numpy(image)[None, None])[0].numpy()


def padded_forward(network, image: np.ndarray, stride: tuple[int, ...]) -> np.ndarray:
    pad = [(0, -n % s) for n, s in zip(image.shape, stride, strict=True)]
    logits = forward(network, np.pad(image, pad, mode="reflect"))
    return logits[(slice(None), *(slice(n) for n in image.shape))]


@pytest.mark.parametrize("upsampling", ["transposed", "linear", "nearest"])
@pytest.mark.parametrize("tiling", ["whole", "exact"])
def test_a_plane_of_odd_size_equals_the_bare_module(
    make_network, run, noise, tiling: str, upsampling: str
) -> None:
    network, image = make_network(upsampling=upsampling), noise(101, 131)
    tile = (64,) if tiling == "exact" else None
    result = run(image, "YX", network, tiling=tiling, tile=tile)
    expected = padded_forward(network, image, (4, 4))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_volume_with_uneven_strides_equals_the_bare_module(
    make_network, run, noise
) -> None:
    network = make_network(
        ndim=3,
        strides=((1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    )
    image = noise(29, 81, 67)
    result = run(image, "ZYX", network, tiling="exact", tile=(24, 68, 60))
    expected = padded_forward(network, image, (2, 4, 4))
    np.testing.assert_allclose(result.swapaxes(0, 1), expected, atol=1e-5)


@pytest.mark.parametrize("tile", [None, (20,), (36, 52)])
def test_valid_convolutions_equal_the_mirrored_whole(
    make_network, run, noise, tile: tuple[int, ...] | None
) -> None:
    network = make_network(padding="valid", norm="none")
    assert network.geometry.margin == (20, 20)
    image = noise(71, 89)
    lengths = [n + (network.geometry.remainder[0] - n) % 4 for n in image.shape]
    pad = [(20, 20 + m - n) for n, m in zip(image.shape, lengths, strict=True)]
    expected = forward(network, np.pad(image, pad, mode="reflect"))[:, :71, :89]
    tiling = "exact" if tile else "whole"
    result = run(image, "YX", network, tiling=tiling, tile=tile)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_tiny_images_give_a_result_of_their_size(
    make_network, run, noise, shape: tuple[int, int]
) -> None:
    network, image = make_network(), noise(*shape)
    pad = [(0, -n % 4) for n in shape]
    expected = forward(network, np.pad(image, pad, mode="reflect"))
    result = run(image, "YX", network)
    np.testing.assert_allclose(result, expected[:, : shape[0], : shape[1]], atol=1e-5)


def test_one_pixel_feeds_a_network_with_instance_norm(make_network, run, noise) -> None:
    result = run(noise(1, 1), "YX", make_network(norm="instance"))
    assert result.shape == (2, 1, 1)
    assert np.isfinite(result).all()


def test_one_patch_of_a_blend_is_the_whole(make_network, run, noise) -> None:
    network, image = make_network(norm="instance"), noise(64, 64)
    result = run(image, "YX", network, tiling="blend", tile=(64,))
    np.testing.assert_allclose(result, forward(network, image), atol=1e-5)


def test_blended_patches_equal_a_weighted_mean(make_network, run, noise) -> None:
    network, image = make_network(norm="instance"), noise(56, 40)
    result = run(image, "YX", network, tiling="blend", tile=(32, 40), overlap=0.25)
    weight = np.exp(-0.5 * ((np.arange(32) - 15.5) / 4) ** 2)[:, None]
    across = np.exp(-0.5 * ((np.arange(40) - 19.5) / 5) ** 2)
    total, weights = np.zeros((2, 56, 40)), np.zeros((56, 40))
    for start in (0, 24):
        rows = slice(start, start + 32)
        total[:, rows] += forward(network, image[rows]) * weight * across
        weights[rows] += weight * across
    np.testing.assert_allclose(result, total / weights, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "tiling"), [("batch", "whole"), ("batch", "auto"), ("instance", "blend")]
)
def test_a_region_equals_its_part_of_the_whole(
    make_network, run, noise, norm: str, tiling: str
) -> None:
    network, image = make_network(norm=norm), noise(3, 90, 110)
    settings = {"tiling": tiling, "tile": (48,) if tiling == "blend" else None}
    whole = run(image, "TYX", network, **settings)
    region = {"T": 1, "Y": slice(37, 61), "X": slice(80, 110)}
    part = run(image, "TYX", network, region=region, **settings)
    np.testing.assert_allclose(part, whole[1, :, 37:61, 80:110], atol=1e-6)


def test_a_slice_of_a_volume_drops_its_axis(make_network, run, noise) -> None:
    network, image = make_network(ndim=3, widths=(4, 6)), noise(12, 20, 24)
    whole = run(image, "ZYX", network)
    part = run(image, "ZYX", network, region={"Z": -3, "X": slice(5, 9)})
    assert whole.shape == (12, 2, 20, 24)
    np.testing.assert_allclose(part, whole[9, :, :, 5:9], atol=1e-6)


def test_axes_come_out_as_frames_then_z_c_y_x(make_network, run, noise) -> None:
    network, image = make_network(in_channels=2), noise(16, 2, 3, 20, 2)
    result = run(image, "YCZXT", network)
    assert result.shape == (2, 3, 2, 16, 20)
    plane = torch.from_numpy(image[:, :, 1, :, 0].swapaxes(0, 1).copy())[None]
    with torch.inference_mode():
        expected = network.module(plane)[0].numpy()
    np.testing.assert_allclose(result[0, 1], expected, atol=1e-5)


def test_channels_are_taken_in_the_order_asked_for(make_network, run, noise) -> None:
    network, image = make_network(in_channels=2), noise(3, 16, 20)
    result = run(image, "CYX", network, channels=(2, 0))
    with torch.inference_mode():
        expected = network.module(torch.from_numpy(image[[2, 0]])[None])[0].numpy()
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 5])
def test_batches_of_planes_change_nothing(
    make_network, run, noise, batch_size: int
) -> None:
    network, image = make_network(), noise(5, 24, 24)
    one = run(image, "ZYX", network)
    many = run(image, "ZYX", network, batch_size=batch_size)
    np.testing.assert_allclose(many, one, atol=1e-6)
