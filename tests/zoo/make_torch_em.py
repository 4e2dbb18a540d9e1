"""Store outputs of torch_em's U-Nets: ``python make_torch_em.py``.

Only the file of the networks is imported; the package imports a trainer otherwise.
"""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location

from record import Case, record

PATH = distribution("torch_em").locate_file("torch_em/model/unet.py")
SPEC = spec_from_file_location("torch_em_unet", PATH)
unet = sys.modules["torch_em_unet"] = module_from_spec(SPEC)
SPEC.loader.exec_module(unet)


def case(name, shape, kind=None, out=2, told=None, pick=None, **options):
    kind = kind or f"UNet{len(shape) - 2}d"
    sizes = {"initial_features": 4} if kind == "AnisotropicUNet" else {}
    sizes = sizes or {"depth": 2, "initial_features": 4}
    net = getattr(unet, kind)(shape[1], out, **{**sizes, **options})
    return Case(name, net, shape, "torch_em", settings=told or {}, pick=pick)


def full_size(outputs):
    return outputs[0]


FLAT, DEEP = (1, 1, 32, 48), (1, 2, 8, 16, 24)
STRIDES = [[1, 2, 2], [2, 2, 2]]
CASES = [
    case("2d", FLAT),
    case("2d-deep", (1, 3, 32, 48), depth=3),
    case("2d-gain3", FLAT, gain=3),
    case("2d-batch", FLAT, norm="BatchNorm"),
    case("2d-group", FLAT, norm="GroupNorm"),
    case("2d-none", FLAT, norm=None),
    case("2d-side", FLAT, return_side_outputs=True, pick=full_size),
    case("3d", DEEP),
    case("3d-batch", DEEP, norm="BatchNorm"),
    case("3d-none", DEEP, norm=None),
    case(
        "3d-anisotropic", DEEP, "AnisotropicUNet",
        scale_factors=STRIDES, told={"strides": STRIDES},
    ),
    case(
        "3d-anisotropic-kernel", DEEP, "AnisotropicUNet",
        scale_factors=STRIDES, anisotropic_kernel=True, told={"strides": STRIDES},
    ),  # the source makes all kernels flat where one is
]  # fmt: skip

if __name__ == "__main__":
    record("torch_em", "torch_em", CASES)
