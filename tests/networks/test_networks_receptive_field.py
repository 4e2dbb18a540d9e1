from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from receptive_probe import reach
from torch import nn

from napari_unet.networks.leaves import ChannelsToSpace
from napari_unet.networks.receptive_field import geometry
from napari_unet.networks.unet import UNet, UNetSpec


def lay(spec: UNetSpec):
    return geometry(UNet(spec).eval(), spec.ndim, spec.in_channels)


def narrow(**fields) -> UNetSpec:
    return UNetSpec(**{"out_channels": 1, "widths": (2, 2, 2), **fields})


@pytest.mark.parametrize(
    ("depth", "stride", "radius", "pixel", "halo"),
    [(1, 2, 8, 9, 8), (2, 4, 20, 23, 22), (3, 8, 44, 51, 46), (4, 16, 92, 107, 94)],
)
def test_known_table(depth, stride, radius, pixel, halo):
    """Radius 4 (2^d - 1) + 2 2^d, and up to stride - 1 more within a stride cell.

    A tile needs two pixels more than the radius: its borders do not cut the cells of
    every level where the convolutions reach them.
    """
    assert radius == 4 * (2**depth - 1) + 2 * 2**depth
    found = lay(narrow(widths=(2,) * (depth + 1)))
    assert found.stride == (stride,) * 2
    assert found.before == found.after == (pixel,) * 2
    assert pixel == radius + stride - 1
    assert found.halo == ((halo, halo),) * 2
    assert found.margin == found.remainder == (0, 0)
    assert found.exact
    assert not found.reason


def test_the_paper():
    spec = UNetSpec.paper().model_copy(update={"widths": (2,) * 5})
    found = lay(spec)
    assert found.margin == (92, 92)
    assert found.stride == (16, 16)
    assert (572 - 2 * 92) % 16 == found.remainder[0] == 388 % 16 == 4
    with torch.inference_mode():
        out = UNet(spec).eval()(torch.zeros(1, 1, 572, 572))
    assert out.shape[2:] == (388, 388)


SPECS = st.builds(
    lambda depth, stride, kernel, up, padding, convs: narrow(
        widths=(2,) * (depth + 1),
        strides=((stride, stride),) * depth,
        kernels=((kernel, kernel),) * (depth + 1),
        upsampling=up,
        padding=padding,
        convs=convs,
        norm="batch" if padding == "same" else "none",
    ),
    st.integers(1, 3),
    st.just(2),
    st.sampled_from([1, 3]),
    st.sampled_from(["transposed", "linear", "nearest"]),
    st.sampled_from(["same", "valid"]),
    st.integers(1, 2),
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SPECS)
def test_equals_the_pixels_that_matter(spec):
    found = lay(spec)
    stride, margin = found.stride[0], found.margin[0]
    need = found.before[0] + found.after[0] + 2 * stride
    cells = -(-need // stride) | 1
    length = cells * stride + found.remainder[0] + 2 * margin
    across = 4 * stride + found.remainder[1] + 2 * margin
    measured = reach(UNet(spec), (1, 1, length, across), 0, stride, margin)
    assert measured == (found.before[0], found.after[0])


def test_anisotropic_volume():
    spec = narrow(
        ndim=3,
        strides=((1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    )
    found = lay(spec)
    assert found.stride == (2, 4, 4)
    for axis, shape in [(0, (32, 8, 8)), (1, (4, 64, 8)), (2, (4, 8, 64))]:
        measured = reach(UNet(spec), (1, 1, *shape), axis, found.stride[axis], 0)
        assert measured == (found.before[axis], found.after[axis])


@pytest.mark.parametrize("up", ["transposed", "nearest"])
def test_stride_three(up):
    spec = narrow(widths=(2, 2), strides=((3, 3),), upsampling=up)
    found = lay(spec)
    assert found.stride == (3, 3)
    measured = reach(UNet(spec), (1, 1, 45, 9), 0, 3, 0)
    assert measured == (found.before[0], found.after[0])


class Odd(nn.Module):
    """Strided and dilated convolutions, unequal padding, transposed with overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 2, 3, stride=2, padding=1)
        self.b = nn.Conv2d(2, 2, 3, padding=2, dilation=2)
        self.c = nn.Conv2d(2, 2, 4, padding="same")
        self.d = nn.ConvTranspose2d(2, 1, 3, 2, padding=1, output_padding=1)
        self.e = nn.AvgPool2d(3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.d(torch.relu(self.c(self.b(self.a(x)))))
        return self.e(y) + x


@pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")
def test_other_layers():
    found = geometry(Odd().eval(), 2, 1)
    measured = reach(Odd(), (1, 1, 64, 8), 0, 2, 0)
    assert found.stride == (2, 2)
    assert found.exact
    assert measured == (found.before[0], found.after[0])


@pytest.mark.parametrize("ndim", [2, 3])
def test_channels_moved_into_space(ndim):
    conv, pad, pool = (nn.Conv2d, nn.ZeroPad2d, nn.AvgPool2d)
    if ndim == 3:
        conv, pad, pool = (nn.Conv3d, nn.ZeroPad3d, nn.AvgPool3d)
    net = nn.Sequential(
        *(conv(1, 2 * 2**ndim, 3, 2, 1), ChannelsToSpace()),
        *(pad((2, 0) + (0, 1) * (ndim - 1)), pool(3, stride=1, padding=0)),
        *(pad((0, 0) + (1, 0) * (ndim - 1)), conv(2, 1, 1)),
    )
    found = geometry(net.eval(), ndim, 1)
    assert (found.exact, found.stride) == (True, (2,) * ndim)
    for axis in (0, ndim - 1):
        shape = [1, 1, *(6,) * ndim]
        shape[axis + 2] = 32
        measured = reach(net, tuple(shape), axis, 2, 0)
        assert measured == (found.before[axis], found.after[axis])


def test_channels_move_into_space_as_in_torch():
    x = torch.arange(2.0 * 8 * 3 * 4).reshape(2, 8, 3, 4)
    assert torch.equal(ChannelsToSpace()(x), nn.PixelShuffle(2)(x))


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_image_statistics_are_not_exact(norm):
    found = lay(narrow(widths=(8, 8), norm=norm))
    assert not found.exact
    assert found.reason == f"{norm} norm looks at the whole image"
    assert found.stride == (2, 2)
    assert found.before == (9, 9)


def test_instance_norm_with_running_statistics_is_exact():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2, track_running_stats=True)
    )
    assert geometry(net.eval(), 2, 1).exact


def test_batch_norm_without_running_statistics_is_not_exact():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)
    )
    assert geometry(net.eval(), 2, 1).reason == "batch norm looks at the whole image"


def test_aligned_corners_are_not_exact():
    net = nn.Sequential(
        nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    )
    found = geometry(net.eval(), 2, 1)
    assert not found.exact
    assert "align_corners=True depends on the image size" in found.reason
    assert found.stride == (2, 2)


class Squeeze(nn.Module):
    """Pools over the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(1, 1, 2, 2)
        self.up = nn.ConvTranspose2d(1, 1, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(x * self.pool(x)))


class Foreign(nn.Module):
    """Has an operation that is not known, and one that depends on a value."""

    def __init__(self, branch: bool) -> None:
        super().__init__()
        self.branch = branch
        self.down = nn.Conv2d(1, 1, 4, 4)
        self.up = nn.ConvTranspose2d(1, 1, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.branch and x.mean() > 0:
            return x
        return self.up(self.down(torch.cumsum(x, 2)))


@pytest.mark.parametrize(
    ("net", "stride", "reason"),
    [
        (Squeeze(), 2, "adaptive pooling looks at the whole image"),
        (Foreign(False), 4, "unknown operation cumsum"),
        (Foreign(True), 64, "the layers of Foreign cannot be followed"),
    ],
)
def test_fallback_to_trying_sizes(net, stride, reason):
    found = geometry(net.eval(), 2, 1)
    assert not found.exact
    assert found.reason == reason
    assert found.stride == (stride,) * 2


def test_other_resolution_is_told():
    found = geometry(nn.Sequential(nn.Conv2d(1, 1, 2, 2)), 2, 1)
    assert not found.exact
    assert "another resolution" in found.reason
