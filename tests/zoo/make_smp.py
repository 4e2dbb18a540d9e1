"""Store outputs of segmentation_models_pytorch: ``python make_smp.py``."""

from __future__ import annotations

import torch
from record import Case, record

# torchvision's compiled operators are not needed, but importing it wants them named.
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    try:
        _OPERATORS.define(
            f"{_name}(Tensor boxes, Tensor scores, float limit) -> Tensor"
        )
    except RuntimeError:  # it is there
        break

import segmentation_models_pytorch as smp  # noqa: E402

_SMALL = (24, 16, 8, 8, 4)


def case(name: str, encoder: str, shape: tuple[int, ...] = (1, 3, 64, 32), **more):
    """Make a case; `hints` and `settings` are the case's, the rest the network's."""
    about = {
        key: more.pop(key) for key in ("hints", "settings", "fields") if key in more
    }
    depth = more.get("encoder_depth", 5)
    options = {"decoder_channels": _SMALL[:depth], "in_channels": shape[1], **more}
    module = smp.Unet(encoder, encoder_weights=None, **options)
    has_labels = "aux_params" in more
    return Case(
        name,
        module,
        shape,
        "smp",
        pick=(lambda found: found[0]) if has_labels else None,
        **about,
    )


AFFINE = {"type": "instancenorm", "affine": True}
LOOSE = {"type": "batchnorm", "eps": 1e-2}

CASES = [
    case("resnet18", "resnet18", decoder_channels=(256, 128, 64, 32, 16)),
    case("resnet18-depth3-none", "resnet18", encoder_depth=3, decoder_use_norm=False),
    case(
        "resnet18-depth4-instance-1-channel",
        "resnet18",
        (1, 1, 48, 32),
        encoder_depth=4,
        decoder_use_norm=AFFINE,
        classes=4,
    ),
    case(
        "resnet18-scse-labels",
        "resnet18",
        decoder_attention_type="scse",
        decoder_channels=(32, 32, 32, 16, 16),
        aux_params={"classes": 3},
        classes=2,
    ),
    case("resnet18-odd", "resnet18", (2, 2, 45, 71)),
    case(
        "resnet18-bilinear",
        "resnet18",
        (1, 3, 45, 71),
        decoder_interpolation="bilinear",
        settings={"interpolation": "bilinear"},
    ),
    case(
        "resnet18-bicubic-hints",
        "resnet18",
        decoder_interpolation="bicubic",
        decoder_use_norm=LOOSE,
        hints={
            "decoder_interpolation": "bicubic",
            "decoder_use_norm": LOOSE,
            "encoder_weights": None,
        },
    ),
    case("resnet34", "resnet34", classes=3),
    case("resnet50", "resnet50", encoder_depth=4),
    case("resnet101", "resnet101", (1, 3, 32, 32)),
    case("resnext50", "resnext50_32x4d", (1, 3, 32, 32)),
    case("mobilenet-v2", "mobilenet_v2", classes=2),
    case("mobilenet-v2-depth3-odd", "mobilenet_v2", (1, 5, 45, 37), encoder_depth=3),
    case("efficientnet-b0", "efficientnet-b0", classes=2),
    case(
        "efficientnet-b0-depth4-odd", "efficientnet-b0", (1, 1, 45, 71), encoder_depth=4
    ),
    case("efficientnet-b1", "efficientnet-b1"),
    case(
        "efficientnet-b2",
        "efficientnet-b2",
        decoder_attention_type="scse",
        decoder_channels=(32, 16, 16, 16, 16),
    ),
    case("efficientnet-b3", "efficientnet-b3", (1, 3, 32, 32)),
    case("efficientnet-b4", "efficientnet-b4", (1, 3, 32, 32)),
]

if __name__ == "__main__":
    record("smp", "segmentation-models-pytorch", CASES, dtype=torch.float64)
