"""Store outputs of CAREamics' U-Nets: ``python make_careamics.py``.

Only the network's own modules are imported; the package imports a trainer otherwise.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from record import Case, record

ROOT = Path(find_spec("careamics").origin).parent
for name in ("careamics", "careamics.config", "careamics.models"):
    package = ModuleType(name)
    package.__path__ = [str(ROOT.joinpath(*name.split(".")[1:]))]
    sys.modules[name] = package

from careamics.models.unet import UNet  # noqa: E402


def case(name, shape, means=None, **options):
    options = {
        **{"conv_dims": len(shape) - 2, "depth": 2, "num_channels_init": 8},
        **{
            "in_channels": shape[1],
            "num_classes": shape[1],
            "final_activation": "None",
        },
        **{"use_batch_norm": True, "n2v2": False, "independent_channels": False},
        **options,
    }
    hints = {"algorithm_config": {"model": {"architecture": "UNet", **options}}}
    scales = {"task": "restoration", "activation": "none"}
    net = UNet(**options)
    pick = None
    if means:
        stds = [m / 4 for m in means]
        hints["data_config"] = {"image_means": means, "image_stds": stds}

        def pick(output):  # as the source brings its output back
            output = output.clone()
            for channel, (mean, std) in enumerate(zip(means, stds, strict=True)):
                output[:, channel] = output[:, channel] * (std + 1e-6) + mean
            return output

    return Case(name, net, shape, "careamics", hints=hints, fields=scales, pick=pick)


CASES = [
    case("2d", (1, 1, 32, 48)),
    case("2d-no-norm", (1, 1, 32, 48), use_batch_norm=False),
    case("2d-depth3-residual", (1, 1, 32, 48), depth=3, residual=True),
    case("2d-n2v2", (1, 1, 32, 48), n2v2=True),
    case("2d-3channels", (1, 3, 32, 48)),
    case("2d-3independent", (1, 3, 32, 48), independent_channels=True),
    case("2d-n2v2-independent", (1, 2, 32, 48), n2v2=True, independent_channels=True),
    case("2d-sigmoid", (1, 1, 32, 48), final_activation="Sigmoid"),
    case("2d-rescaled", (1, 2, 32, 48), means=[2.0, 0.5], independent_channels=True),
    case("3d", (1, 1, 8, 16, 24)),
    case("3d-n2v2", (1, 1, 8, 16, 24), n2v2=True),
    case("3d-independent", (1, 2, 8, 16, 24), independent_channels=True),
]

if __name__ == "__main__":
    record("careamics", "careamics", CASES)
