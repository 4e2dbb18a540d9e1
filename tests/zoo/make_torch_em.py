"""Store outputs of torch_em's U-Nets: ``python make_torch_em.py``.

Only the file with the networks is imported; the package imports a trainer otherwise.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import torch
from record import Case, record

PLACE = Path(find_spec("torch_em").origin).parent / "model" / "unet.py"
spec = spec_from_file_location("torch_em_unet", PLACE)
networks = module_from_spec(spec)
sys.modules[spec.name] = networks
spec.loader.exec_module(networks)

SIZES = {"UNet2d": (1, 1, 32, 48), "UNet3d": (1, 1, 8, 16, 24)}
ANISOTROPIC = [[1, 2, 2], [2, 2, 2]]


def case(name, kind, settings=None, told=(), outputs=2, shape=None, **options):
    """One network; `told` are the arguments that a training checkpoint keeps."""
    shape = shape or SIZES.get(kind, SIZES["UNet3d"])
    options = {"initial_features": 4, **options}
    if kind != "AnisotropicUNet":
        options = {"depth": 2, **options}
    net = getattr(networks, kind)(shape[1], outputs, **options)
    hints = {
        k: v
        for k, v in net.init_kwargs.items()
        if k in told or (told == "all" and not isinstance(v, type))
    }
    fields = {}
    if told == "all" and options.get("final_activation") in ("Sigmoid", "Softmax"):
        fields["activation"] = options["final_activation"].lower()

        # The activation is the model's here: its logits are what is compared.
        activation, net.final_activation = net.final_activation, None
        assert isinstance(activation, (torch.nn.Sigmoid, torch.nn.Softmax))
    pick = (lambda outs: outs[0]) if options.get("return_side_outputs") else None
    settings = settings or {}
    return Case(name, net, shape, "torch_em", settings, hints, fields, None, pick)


NORMS = ("InstanceNorm", "InstanceNormTrackStats", "GroupNorm", "BatchNorm", None)
CASES = [
    *(case(f"2d-{norm}", "UNet2d", norm=norm) for norm in NORMS),
    *(case(f"3d-{norm}", "UNet3d", norm=norm) for norm in NORMS),
    case("2d-deep", "UNet2d", depth=3, gain=3, outputs=1, shape=(1, 3, 24, 40)),
    case("2d-group-wide", "UNet2d", depth=1, initial_features=64, norm="GroupNorm"),
    case("2d-side", "UNet2d", return_side_outputs=True),
    case("3d-side", "UNet3d", return_side_outputs=True, norm="BatchNorm"),
    case("2d-kernel5", "UNet2d", kernel_size=5, padding=2),
    case("2d-no-head", "UNet2d", outputs=None),
    case("2d-sigmoid", "UNet2d", told="all", final_activation="Sigmoid"),
    case("3d-softmax", "UNet3d", told="all", final_activation="Softmax"),
    case("2d-relu", "UNet2d", told="all", final_activation="ReLU"),
    case(
        *("2d-affinities", "UNet2d"),
        **{"told": "all", "outputs": 3, "final_activation": "ReLU"},
        postprocessing="affinities_with_foreground_to_boundaries2d",
    ),
    case(
        *("3d-affinities", "UNet3d"),
        **{"told": "all", "outputs": 3, "postprocessing": "affinities_to_boundaries3d"},
    ),
    case(
        *("anisotropic-kernel", "AnisotropicUNet"),
        **{"scale_factors": [[1, 2, 2], [1, 2, 2]], "anisotropic_kernel": True},
    ),
    case(
        *("anisotropic-kernel-mixed", "AnisotropicUNet", {"strides": ANISOTROPIC}),
        **{"scale_factors": ANISOTROPIC, "anisotropic_kernel": True},
    ),
    case(
        *("anisotropic-told", "AnisotropicUNet", {"strides": ANISOTROPIC}),
        **{"scale_factors": ANISOTROPIC, "norm": "GroupNorm"},
    ),
    case(
        *("anisotropic-checkpoint", "AnisotropicUNet"),
        **{"scale_factors": ANISOTROPIC, "told": "all", "norm": "BatchNorm"},
    ),
]

if __name__ == "__main__":
    record("torch_em", "torch_em", CASES)
