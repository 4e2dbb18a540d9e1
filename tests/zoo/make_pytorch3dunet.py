"""Store outputs of pytorch-3dunet's networks: ``python make_pytorch3dunet.py``."""

from __future__ import annotations

import sys
from types import ModuleType

from record import Case, record

STUB = ModuleType("pytorch3dunet.unet3d.utils")  # the trainer's, which imports h5py


def number_of_features_per_level(first, num_levels):
    return [first * 2**n for n in range(num_levels)]


STUB.number_of_features_per_level = number_of_features_per_level
STUB.get_class = None
STUB.get_logger = lambda *_: None
sys.modules["pytorch3dunet.unet3d.utils"] = STUB

from pytorch3dunet.unet3d import model  # noqa: E402


def case(name, shape, told=None, order="gcr", groups=4, kind="UNet", **options):
    ndim = len(shape) - 2
    net = getattr(model, f"{kind}{ndim}D")(
        shape[1], options.pop("out", 2), final_sigmoid=False, f_maps=[8, 16, 32],
        layer_order=order, num_groups=groups, **options,
    )  # fmt: skip
    told = {**({"groups": groups} if "g" in order else {}), **(told or {})}
    return Case(name, net, shape, "pytorch_3dunet", settings=told)


def logits_of(case):
    """Let a network give its logits, as ours does; it gives probabilities else."""
    forward = case.module.forward
    case.module.forward = lambda x: forward(x, return_logits=True)[1]
    return case


FLAT, DEEP = (1, 1, 32, 48), (1, 1, 8, 16, 24)
CASES = [
    logits_of(c)
    for c in [
        case("3d-gcr", DEEP),
        case("3d-gcr-odd", (1, 2, 9, 18, 27)),
        case("3d-bcr", DEEP, order="bcr"),
        case("3d-cr", DEEP, order="cr"),
        case("3d-cbl", DEEP, order="cbl", told={"order": "cbl"}),
        case("3d-cge", DEEP, order="cge", told={"order": "cge"}),
        case("3d-deconv", DEEP, order="bcr", upsample="deconv"),
        case("3d-upscale1", DEEP, conv_upscale=1),
        case("2d-gcr", FLAT),
        case("2d-3channels", (1, 3, 32, 48), order="bcr", out=3),
        case("2d-cl", FLAT, order="cl", told={"order": "cl"}),
        case("3d-residual", DEEP, kind="ResidualUNet", order="cge"),
        case("3d-residual-gcr", DEEP, kind="ResidualUNet", told={"order": "gcr"}),
        case(
            "2d-residual", FLAT, kind="ResidualUNet", order="cbl", told={"order": "cbl"}
        ),
    ]
]

if __name__ == "__main__":
    record("pytorch3dunet", "pytorch3dunet", CASES)
