"""Do tiles change anything? The largest difference to the whole image.

    python -m benchmarks.exactness

Batch-norm U-Nets in 2D and 3D with random weights and random running statistics, run
with `--tiling exact` and `--tiling whole` over images of the sizes below.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

import napari_unet
from napari_unet.images.stack import ImageStack
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

CASES = [
    (2, (1000, 1300), (256,)),
    (2, (1000, 1300), (384,)),
    (2, (997, 1301), (256,)),
    (3, (40, 300, 260), (32, 128, 128)),
    (3, (41, 299, 263), (24, 96, 160)),
]


def network(ndim: int) -> Network:
    """Return a batch-norm U-Net whose every statistic is random."""
    torch.manual_seed(0)
    widths = (16, 32, 64, 128) if ndim == 2 else (8, 16, 32)
    unet = UNetSpec(ndim=ndim, widths=widths, out_channels=3)
    module = UNet(unet)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.3, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
    spec = ModelSpec(
        architecture=unet.model_dump(), ndim=ndim, in_channels=1, out_channels=3
    )
    return Network(module, spec)


def main() -> None:
    """Print one row per case."""
    for ndim, shape, tile in CASES:
        pixels = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        stack = ImageStack(pixels, "ZYX"[-ndim:])
        model, results, seconds = network(ndim), {}, {}
        for tiling in ("whole", "exact"):
            start = time.perf_counter()
            options = {"tile": tile} if tiling == "exact" else {}
            results[tiling] = napari_unet.predict(
                stack, model, kind="logits", tiling=tiling, **options
            )
            seconds[tiling] = time.perf_counter() - start
        worst = float(np.abs(results["exact"] - results["whole"]).max())
        print(
            f"{ndim}D {shape} tile {tile}: largest difference {worst:.1e} "
            f"(std of the logits {results['whole'].std():.2f}), "
            f"whole {seconds['whole']:.1f} s, exact {seconds['exact']:.1f} s"
        )


if __name__ == "__main__":
    main()
