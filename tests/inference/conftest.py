from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.config import PredictConfig
from napari_unet.events import Finished
from napari_unet.images.intensity import Scaling
from napari_unet.images.sinks import ArraySink
from napari_unet.images.stack import ImageStack
from napari_unet.inference.predict import predict
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

if TYPE_CHECKING:
    from collections.abc import Callable


def _wake(module: nn.Module) -> None:
    """Give norms real statistics and affine parts, so that tile errors show."""
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.normal_(layer.running_mean, 0, 0.3)
            nn.init.uniform_(layer.running_var, 0.3, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)


def _network(**fields: object) -> Network:
    spec_fields = {
        key: fields.pop(key)
        for key in ("task", "activation", "class_names", "normalization")
        if key in fields
    }
    torch.manual_seed(0)
    shape = UNetSpec(**{"widths": (4, 6, 8), **fields})
    module = UNet(shape)
    _wake(module)
    spec = ModelSpec(
        name="tiny",
        ndim=shape.ndim,
        in_channels=shape.in_channels,
        out_channels=shape.out_channels,
        **spec_fields,
    )
    return Network(module, spec, digest="d1g")


def _as_is(channels: int = 1) -> Scaling:
    return Scaling((1.0,) * channels, (0.0,) * channels, (False,) * channels)


class Run:
    """Run `predict` into an array, keeping what it said."""

    def __call__(
        self, image: np.ndarray, axes: str, network: Network, **settings: object
    ) -> np.ndarray:
        region = settings.pop("region", None)
        config = PredictConfig(**{"device": "cpu", "kind": "logits", **settings})
        scaling = _as_is(network.spec.in_channels)
        self.events = list(
            predict(
                ImageStack(image, axes),
                network,
                config,
                ArraySink(),
                region=region,
                scaling=scaling,
            )
        )
        assert isinstance(self.events[-1], Finished)
        return self.events[-1].result


@pytest.fixture
def make_network() -> Callable[..., Network]:
    return _network


@pytest.fixture
def as_is() -> Callable[..., Scaling]:
    return _as_is


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    def make(*shape: int) -> np.ndarray:
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)

    return make
