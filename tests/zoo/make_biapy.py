"""Store outputs of BiaPy's U-Nets: ``python make_biapy.py``.

Only the network's own modules are imported, with two of torchvision's layers, which no
U-Net has, left out. With BiaPy 3.6.8 in the environment (``requirements/biapy36.txt``)
the networks of its older releases are stored instead.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from record import Case, record

ROOT = Path(find_spec("biapy").origin).parent
for name in ("biapy", "biapy.models"):
    package = ModuleType(name)
    package.__path__ = [str(ROOT.joinpath(*name.split(".")[1:]))]
    sys.modules[name] = package
for name, layer in (("stochastic_depth", "StochasticDepth"), ("misc", "Permute")):
    stub = ModuleType(f"torchvision.ops.{name}")
    setattr(stub, layer, None)
    sys.modules |= {"torchvision": stub, "torchvision.ops": stub, stub.__name__: stub}

KINDS = {
    "unet": import_module("biapy.models.unet").U_Net,
    "resunet": import_module("biapy.models.resunet").ResUNet,
}
IS_OLD = version("biapy").startswith("3.6")
SIZES = {2: (1, 1, 32, 48), 3: (1, 1, 8, 16, 24)}


def joined(outputs):
    """Concatenate the outputs that BiaPy gives by name."""
    if isinstance(outputs, (dict, list)):
        parts = list(outputs.values()) if isinstance(outputs, dict) else outputs
        return torch.cat(parts, 1)
    return outputs


def case(name, ndim=2, kind="unet", shape=None, told=True, settings=None, **options):
    shape = shape or SIZES[ndim]
    ndim = len(shape) - 2
    options = {
        "image_shape": [*shape[2:], shape[1]],
        "activation": "elu",
        "feature_maps": [4, 8, 16],
        "drop_values": [0.1, 0.0, 0.1],
        "normalization": "none",
        "k_size": 3,
        "upsample_layer": "convtranspose",
        "z_down": [2, 2],
        "output_channels": [1],
        **({} if IS_OLD else {"conv_layers": [2, 2, 2], "yx_down": [2, 2]}),
        **options,
    }
    heads = options["output_channels"]
    if not IS_OLD:
        options.setdefault("output_channel_info", ["F"] * len(heads))
    elif kind == "resunet":
        options["isotropy"] = [True] * len(options["feature_maps"])
    net = KINDS[kind](**options)
    extra = {"head_activations": ["ce_sigmoid"] * sum(heads)}
    return Case(
        name,
        net,
        shape,
        "biapy",
        settings=settings or {},
        hints={**options, **extra} if told else {},
        fields={"activation": "sigmoid"} if told or sum(heads) == 1 else {},
        pick=joined,
    )


NORMS = ("bn", "in", "none")


def normed(norm, ndim, kind="unet"):
    return case(f"{kind}-{ndim}d-{norm}", ndim, kind, normalization=norm)


def new():
    """Networks of 3.7."""
    return [
        *(normed(norm, 2) for norm in NORMS),
        *(normed(norm, 3) for norm in NORMS),
        *(normed(norm, 2, "resunet") for norm in NORMS),
        normed("bn", 3, "resunet"),
        case("unet-untold", told=False, normalization="bn"),
        case(
            *("unet-untold-relu",),
            **{"told": False, "settings": {"activation": "relu"}, "activation": "relu"},
        ),
        case("unet-up", upsample_layer="upsampling", normalization="bn"),
        case("unet-3d-up", 3, upsample_layer="upsampling", z_down=[1, 2]),
        case("resunet-up", kind="resunet", upsample_layer="upsampling"),
        case("unet-pre", conv_block_order="norm_act_conv", normalization="bn"),
        case("unet-pre-no-norm", conv_block_order="norm_act_conv"),
        case(
            "resunet-pre",
            2,
            "resunet",
            conv_block_order="norm_act_conv",
            normalization="in",
        ),
        case("unet-small-io", larger_io=False, shape=(1, 3, 24, 40)),
        case("resunet-leaky", kind="resunet", activation="leaky_relu"),
        case("resunet-gelu", kind="resunet", activation="gelu"),
        case("resunet-small-io", 2, "resunet", larger_io=False, normalization="bn"),
        case("unet-convs", conv_layers=[1, 3, 2], normalization="bn"),
        case(
            "resunet-convs", kind="resunet", conv_layers=[1, 3, 2], normalization="bn"
        ),
        case("unet-3d-flat", 3, isotropy=[False, True, True], z_down=[1, 2]),
        case("unet-3d-isotropic", 3, isotropy=True, normalization="bn"),
        case("unet-heads", output_channels=[2, 1]),
        case(
            "unet-classes", output_channels=[3, 2], output_channel_info=["class", "F"]
        ),
        case("unet-ways", output_channels=[2, 1], separated_decoders=True),
        case(
            *("resunet-narrow-ways", 2, "resunet"),
            **{"output_channels": [2, 1], "separated_decoders": True},
            divide_decoder_feature_maps=True,
        ),
        case("unet-silu-5", activation="silu", k_size=5),
    ]


def old():
    """Networks of 3.6, which lacks some arguments."""
    return [
        *(normed(norm, 2) for norm in NORMS),
        *(normed(norm, 2, "resunet") for norm in NORMS),
        normed("bn", 3),
        normed("bn", 3, "resunet"),
        case("unet-2d-gn", normalization="gn", feature_maps=[16, 32, 16]),
        case("unet-3d-gn", 3, normalization="gn", feature_maps=[8, 16, 8]),
        case(
            *("unet-untold-in",),
            **{"told": False, "normalization": "in"},
            settings={"norm": "bare_instance"},
        ),
        case("unet-up", upsample_layer="upsampling"),
        case("unet-classes", output_channels=[1, 2]),
        case("unet-leaky", activation="leaky_relu"),
        case("unet-untold", told=False, shape=(1, 3, 24, 40)),
    ]


CASES = old() if IS_OLD else new()

if __name__ == "__main__":
    record("biapy36" if IS_OLD else "biapy", "biapy", CASES)
