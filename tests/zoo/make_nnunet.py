"""Run the networks of nnU-Net v2 and v1 and store what they give.

``python tests/zoo/make_nnunet.py``, in an environment with ``requirements/nnunet.txt``.
"""

from __future__ import annotations

import contextlib
import io
from importlib.metadata import version
from typing import Any

from dynamic_network_architectures.architectures.unet import (
    PlainConvUNet,
    ResidualEncoderUNet,
    ResidualUNet,
)
from dynamic_network_architectures.building_blocks.residual import BottleneckD
from record import Case, record
from torch import nn

with contextlib.redirect_stdout(io.StringIO()):  # it asks to be cited
    from nnunet.network_architecture.generic_UNet import (
        ConvDropoutNonlinNorm,
        Generic_UNet,
    )

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}


def common(ndim: int, strides: Any, kernels: Any, **options: Any) -> dict[str, Any]:
    """Return nnU-Net's own arguments for a small network, some of them changed."""
    stages = len(strides)
    return {
        "input_channels": 1,
        "n_stages": stages,
        "features_per_stage": [4, 6, 8][:stages],
        "conv_op": CONV[ndim],
        "kernel_sizes": kernels,
        "strides": strides,
        "num_classes": 3,
        "n_conv_per_stage_decoder": [1, 2][: stages - 1],
        "conv_bias": True,
        "norm_op": INSTANCE[ndim],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        **options,
    }


FLAT = [[1, 1], [2, 2]], [[3, 3]] * 2
SOLID = [[1, 1, 1], [2, 2, 2], [2, 2, 2]], [[3, 3, 3]] * 3
UNEVEN = (
    [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
)
STAGES = {"flat": (2, FLAT), "solid": (3, SOLID), "uneven": (3, UNEVEN)}
SHAPES = {
    "flat": (1, 1, 24, 32),
    "solid": (1, 1, 8, 12, 16),
    "uneven": (1, 1, 6, 16, 24),
}


def case(name: str, kind: type[nn.Module], form: str, **options: Any) -> Case:
    """Make a case; settings and hints are taken out of the options."""
    ndim, stages = STAGES[form]
    told = {k: options.pop(k, {}) for k in ("settings", "hints")}
    counts = "n_conv_per_stage" if kind is PlainConvUNet else "n_blocks_per_stage"
    options.setdefault(counts, [1, 2, 1][: len(stages[0])])
    shape = SHAPES[form]
    shape = (shape[0], options.get("input_channels", 1), *shape[2:])
    module = kind(**common(ndim, *stages, **options))
    return Case(f"{name}-{form}", module, shape, "nnunet", **told)


def plain() -> list[Case]:
    """Return PlainConvUNet over its options."""
    return [
        *(case("plain", PlainConvUNet, form) for form in STAGES),
        case(
            *("plain-bn-nobias", PlainConvUNet, "flat"),
            norm_op=nn.BatchNorm2d,
            conv_bias=False,
            input_channels=2,
            num_classes=1,
        ),
        case("plain-bn", PlainConvUNet, "uneven", norm_op=nn.BatchNorm3d),
        case(
            *("plain-dropout", PlainConvUNet, "flat"),
            dropout_op=nn.Dropout2d,
            dropout_op_kwargs={"p": 0.5},
        ),
        case(
            *("plain-nonlinfirst", PlainConvUNet, "solid"),
            nonlin_first=True,
            settings={"order": "conv-act-norm"},
        ),
        case(
            *("plain-dropout-nonlinfirst", PlainConvUNet, "flat"),
            dropout_op=nn.Dropout2d,
            dropout_op_kwargs={"p": 0.5},
            nonlin_first=True,
        ),
        case(
            *("plain-relu", PlainConvUNet, "flat"),
            nonlin=nn.ReLU,
            settings={"slope": 0.0},
        ),
        case("plain-weightless", PlainConvUNet, "flat", norm_op_kwargs={}),
        case(
            *("plain-nonorm", PlainConvUNet, "flat"),
            norm_op=None,
            settings={"norm": "none"},
        ),
        case(
            *("plain-told", PlainConvUNet, "flat"),
            nonlin=nn.GELU,
            nonlin_kwargs={},
            norm_op_kwargs={"eps": 1e-2, "affine": True},
            hints={
                "arch_kwargs": {
                    "nonlin": "torch.nn.GELU",
                    "nonlin_kwargs": {},
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                    "norm_op_kwargs": {"eps": 1e-2, "affine": True},
                    "dropout_op": None,
                }
            },
        ),
    ]


def residual() -> list[Case]:
    """Return ResidualEncoderUNet and ResidualUNet over their options."""
    inner = {"block": BottleneckD, "bottleneck_channels": 2, "stem_channels": 5}
    return [
        *(case("resenc", ResidualEncoderUNet, form) for form in STAGES),
        case(
            *("resenc-bn-nobias", ResidualEncoderUNet, "flat"),
            norm_op=nn.BatchNorm2d,
            conv_bias=False,
        ),
        case("resenc-bottleneck", ResidualEncoderUNet, "flat", **inner),
        case("resenc-bottleneck", ResidualEncoderUNet, "uneven", **inner),
        case(
            *("resenc-dropout", ResidualEncoderUNet, "flat"),
            dropout_op=nn.Dropout2d,
            dropout_op_kwargs={"p": 0.5},
        ),
        case(
            *("resenc-same-width", ResidualEncoderUNet, "solid"),
            features_per_stage=[4, 4, 6],
        ),
        case("resunet", ResidualUNet, "flat"),
        case("resunet", ResidualUNet, "uneven", norm_op=nn.BatchNorm3d),
    ]


def first(name: str, form: str, **options: Any) -> Case:
    """Make a case of nnU-Net v1, with the arguments of its trainers."""
    ndim, (strides, kernels) = STAGES[form]
    settings = options.pop("settings", {})
    module = Generic_UNet(
        **{
            "input_channels": 1,
            "base_num_features": 4,
            "num_classes": 3,
            "num_pool": len(strides) - 1,
            "conv_op": CONV[ndim],
            "norm_op": INSTANCE[ndim],
            "dropout_op": DROPOUT[ndim],
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op_kwargs": {"p": 0, "inplace": True},
            "deep_supervision": False,
            "final_nonlin": lambda x: x,
            "pool_op_kernel_sizes": strides[1:],
            "conv_kernel_sizes": kernels,
            "convolutional_pooling": True,
            "convolutional_upsampling": True,
            "max_num_features": 10,
            **options,
        }
    )
    return Case(f"v1-{name}-{form}", module, SHAPES[form], "nnunet_v1", settings)


def generic() -> list[Case]:
    """Return Generic_UNet over its options."""
    pools = {"convolutional_pooling": False, "settings": {"downsampling": "max"}}
    return [
        *(first("plain", form) for form in STAGES),
        first("bn", "flat", norm_op=nn.BatchNorm2d),
        first(
            "convs3-headbias", "flat", num_conv_per_stage=3, seg_output_use_bias=True
        ),
        first("maxpool", "solid", **pools),
        first(
            *("interpolated", "flat"),
            convolutional_pooling=False,
            convolutional_upsampling=False,
        ),
        first(
            *("interpolated", "uneven"),
            convolutional_pooling=False,
            convolutional_upsampling=False,
            settings={"strides": UNEVEN[0][1:]},
        ),
        first(
            *("nonlinfirst", "flat"),
            basic_block=ConvDropoutNonlinNorm,
            settings={"order": "act-norm"},
        ),
    ]


def all_cases():
    """Return every network of the libraries."""
    return [*plain(), *residual(), *generic()]


if __name__ == "__main__":
    used = "dynamic-network-architectures", "nnunet"
    names = ", ".join(f"{name} {version(name)}" for name in used)
    record("nnunet", "", all_cases(), note=names)
