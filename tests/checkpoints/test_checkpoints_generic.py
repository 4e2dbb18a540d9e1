"""Plain U-Nets that no family knows, against their own forward pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny_networks import lively
from torch import nn

from napari_unet import checkpoints
from napari_unet.checkpoints.families.base import Shapes
from napari_unet.errors import ModelError

pytestmark = pytest.mark.usefixtures("in_process")


class Stranger(nn.Module):
    """A U-Net as somebody writes it: names of its own, layers in running order."""

    def __init__(self, ndim=2, up="transposed", norm=True, bias=True, extra=False):
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        rise = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
        batch = nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d
        self.up, self.ndim = up, ndim

        def block(i, o):
            layers = [conv(i, o, 3, padding=1, bias=bias)]
            layers += [batch(o)] if norm else []
            return nn.Sequential(*layers, nn.ReLU())

        self.down_a = nn.Sequential(block(2, 4), block(4, 4))
        self.down_b = nn.Sequential(block(4, 8), block(8, 8))
        self.bottom = nn.Sequential(block(8, 16), block(16, 16))
        self.lift_b = self._lift(conv, rise, 16, 8)
        self.rise_b = nn.Sequential(block(self.wide(16, 8) + 8, 8), block(8, 8))
        self.lift_a = self._lift(conv, rise, 8, 4)
        self.rise_a = nn.Sequential(block(self.wide(8, 4) + 4, 4), block(4, 4))
        self.last = conv(4, 3, 1)
        if extra:
            self.gate = conv(1, 2, 7, padding=3)

    def wide(self, deep, flat):
        return deep if self.up == "plain" else flat

    def _lift(self, conv, rise, i, o):
        if self.up == "transposed":
            return rise(i, o, 2, 2)
        return conv(i, o, 1) if self.up == "linear" else nn.Identity()

    def forward(self, x):
        a = self.down_a(x)
        pool = F.max_pool2d if self.ndim == 2 else F.max_pool3d
        b = self.down_b(pool(a, 2))
        x = self.bottom(pool(b, 2))
        x = self.rise_b(torch.cat([b, self.lifted(self.lift_b, x)], 1))
        return self.last(self.rise_a(torch.cat([a, self.lifted(self.lift_a, x)], 1)))

    def lifted(self, lift, x):
        if self.up != "transposed":
            mode = "bilinear" if self.ndim == 2 else "trilinear"
            x = F.interpolate(x, scale_factor=2, mode=mode)
        return lift(x)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("up", ["transposed", "linear", "plain"])
@pytest.mark.parametrize(("norm", "bias"), [(True, False), (True, True), (False, True)])
def test_a_plain_unet_opens_as_unproven(tmp_path, ndim, up, norm, bias):
    stranger = lively(Stranger(ndim, up, norm, bias))
    torch.save({"net": stranger.state_dict()}, tmp_path / "stranger.pth")
    network = checkpoints.load(tmp_path / "stranger.pth")
    assert network.spec.family == "generic"
    assert "unproven" in network.spec.provenance["notes"][-1]
    image = torch.randn(1, 2, *((16, 24) if ndim == 2 else (8, 8, 12)))
    with torch.inference_mode():
        torch.testing.assert_close(network(image), stranger(image), rtol=0, atol=1e-4)
    assert network.geometry.exact
    fields = {a.field for a in network.spec.assumed}
    assert {"architecture.skip_first", "architecture.slope", "activation"} <= fields
    assert ("architecture.norm_first" in fields) is norm


def test_what_was_assumed_can_be_told(tmp_path):
    torch.save(lively(Stranger()).state_dict(), tmp_path / "stranger.pth")
    before = checkpoints.load(tmp_path / "stranger.pth")
    facts = {"architecture.slope": 0.1, "architecture.pooling": "average"}
    after = checkpoints.tell(tmp_path / "stranger.pth", facts)
    image = torch.randn(1, 2, 16, 16)
    assert not torch.equal(before(image), after(image))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: Stranger(extra=True).state_dict(),
        lambda state: {k: v for k, v in state.items() if not k.startswith("lift_b")},
        lambda state: {k: v for k, v in state.items() if not k.startswith("last")},
        lambda state: state | {"down_a.0.0.weight": torch.zeros(5, 2, 3, 3)},
        lambda state: dict(reversed(state.items())),
        lambda state: state | {"query.weight": torch.zeros(4, 4)},
    ],
    ids=["gate", "no-lift", "no-head", "shape", "order", "attention"],
)
def test_what_does_not_chain_is_refused(tmp_path, spoil):
    state = spoil(lively(Stranger()).state_dict())
    torch.save(state, tmp_path / "stranger.pth")
    with pytest.raises(ModelError, match="not one of the known kinds"):
        checkpoints.load(tmp_path / "stranger.pth")


def test_without_an_order_nothing_is_claimed(tmp_path):
    """Two equal layers could change places; safetensors keeps no order."""
    state = lively(Stranger()).state_dict()
    save_file(state, tmp_path / "stranger.safetensors")
    torch.save(dict(sorted(state.items())), tmp_path / "sorted.pth")
    for name in ("stranger.safetensors", "sorted.pth"):
        with pytest.raises(ModelError, match="not one of the known kinds"):
            checkpoints.load(tmp_path / name)


def test_in_order():
    state = Stranger().state_dict()
    assert Shapes(state).in_order
    assert not Shapes(dict(sorted(state.items()))).in_order
    assert not Shapes(dict(reversed(state.items()))).in_order
