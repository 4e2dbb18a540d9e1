"""Store outputs of pytorch-3dunet's networks: ``python make_pytorch3dunet.py``.

The logits are stored; that evaluation adds nothing but the sigmoid or softmax that the
case names is asserted here.
"""

from __future__ import annotations

from functools import partial

import torch
from pytorch3dunet.unet3d import model
from record import Case, record

SIZES = {2: (1, 1, 32, 48), 3: (1, 1, 8, 16, 24)}
ENDINGS = {
    "sigmoid": torch.sigmoid,
    "softmax": partial(torch.softmax, dim=1),
    "none": lambda logits: logits,
}


def case(name, kind, settings=None, shape=None, outputs=1, hints=None, **options):
    shape = shape or SIZES[2 if kind.endswith("2D") else 3]
    options = {"f_maps": [8, 16, 32], **options}
    net = getattr(model, kind)(shape[1], outputs, **options)
    ending = "sigmoid" if options.get("final_sigmoid", True) else "softmax"
    if options.get("is_segmentation") is False:
        ending = "none"

    def logits(pair):
        output, logits = pair
        assert torch.equal(output, ENDINGS[ending](logits))
        return logits

    net.forward = partial(net.forward, return_logits=True)
    if hints is True:
        hints = {"name": kind, "in_channels": shape[1], "layer_order": "gcr"}
        hints |= {"out_channels": outputs, **options}
    return Case(
        name,
        net,
        shape,
        "pytorch_3dunet",
        settings=settings or {},
        hints=hints or {},
        fields={"activation": ending},
        pick=logits,
    )


def order(letters, kind="UNet2D", **options):
    """One order of layers, told where it is not the one assumed."""
    assumed = {"gcr", "bcr", "cr", "crg", "cbr"}
    settings = {} if letters in assumed else {"order": letters}
    name = f"{kind.lower()}-{letters}"
    return case(name, kind, settings, layer_order=letters, **options)


def residual(letters, kind="ResidualUNet2D"):
    """One order of a residual network, where ELU comes first after a norm."""
    settings = {} if letters in {"gcr", "cge", "bcr", "cr"} else {"order": letters}
    return case(f"{kind.lower()}-{letters}", kind, settings, layer_order=letters)


CASES = [
    *(order(o) for o in ("gcr", "gcl", "gce", "grc", "crg", "cge", "bcr", "cbe")),
    *(order(o) for o in ("cr", "cl")),
    order("gcr", "UNet3D"),
    order("cbr", "UNet3D"),
    order("ce", "UNet3D"),
    case("unet2d-odd", "UNet2D", shape=(1, 1, 33, 47)),
    case("unet2d-dropout", "UNet2D", hints=True, layer_order="gcrd"),
    case("unet2d-3to2", "UNet2D", shape=(1, 3, 24, 40), outputs=2, f_maps=[8, 16]),
    case("unet3d-wide", "UNet3D", f_maps=[16, 32], outputs=2),
    case("unet3d-groups4", "UNet3D", {"groups": 4}, num_groups=4),
    case("unet3d-12wide", "UNet3D", num_groups=4, f_maps=[8, 12]),
    case("unet2d-upscale1", "UNet2D", conv_upscale=1),
    case("unet3d-linear", "UNet3D", {"upsampling": "linear"}, upsample="trilinear"),
    case("unet2d-area", "UNet2D", hints=True, upsample="area", shape=(1, 1, 33, 47)),
    case("unet3d-deconv", "UNet3D", upsample="deconv"),
    case("unet2d-deconv-odd", "UNet2D", upsample="deconv", shape=(1, 1, 33, 47)),
    case(
        *("unet3d-config", "UNet3D"),
        **{"outputs": 3, "hints": True, "layer_order": "cgl", "num_groups": 4},
        **{"final_sigmoid": False},
    ),
    case("unet3d-regression", "UNet3D", hints=True, is_segmentation=False),
    *(residual(o) for o in ("gcr", "cge", "gcl", "bcr", "cr")),
    residual("gcr", "ResidualUNet3D"),
    case("residualunet3d-identity", "ResidualUNet3D", shape=(1, 8, 8, 16, 24)),
    case("residualunet2d-deconv", "ResidualUNet2D", upsample="deconv"),
    case("residualunet2d-odd", "ResidualUNet2D", shape=(1, 1, 33, 47)),
    residual("gcr", "ResidualUNetSE3D"),
]

if __name__ == "__main__":
    record("pytorch3dunet", "pytorch3dunet", CASES)
