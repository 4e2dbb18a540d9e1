"""Store what MONAI's U-Nets give: UNet, BasicUNet, DynUNet, AttentionUnet, SegResNet.

Run in an environment with ``requirements/monai.txt``: ``python make_monai.py``.
"""

from __future__ import annotations

from typing import Any

from monai.networks import nets
from record import Case, record

FLAT, DEEP = (1, 1, 32, 48), (1, 1, 8, 16, 24)
AFFINE = ("instance", {"affine": True})
GROUP = ("group", {"num_groups": 2})
LEAKY = ("leakyrelu", {"negative_slope": 0.2})


def case(network: str, name: str, shape: Any, told: Any = None, **given: Any) -> Case:
    """Make a case of a class of MONAI's, named in snake case, by its arguments."""
    made = CLASSES[network]
    module = made(**{"spatial_dims": len(shape) - 2, "in_channels": shape[1], **given})
    family = f"monai_{network}"
    return Case(f"{network}-{name}", module, shape, family, settings=told or {})


CLASSES = {
    "unet": nets.UNet,
    "basic_unet": nets.BasicUNet,
    "dynunet": nets.DynUNet,
    "attention_unet": nets.AttentionUnet,
    "segresnet": nets.SegResNet,
}


def unet(name: str, shape: Any = FLAT, told: Any = None, **given: Any) -> Case:
    """Make a UNet of three levels."""
    usual = {"out_channels": 2, "channels": (4, 6, 8), "strides": (2, 2)}
    return case("unet", name, shape, told, **{**usual, **given})


def unets() -> list[Case]:
    """Make the grid of UNets."""
    anisotropic = {"strides": [[1, 2, 2], [2, 2, 2]]}
    two = (1, 2, 24, 40)
    return [
        unet("plain"),
        unet("plain-batch", two, norm="batch", bias=False),
        unet("plain-3d", DEEP, norm=AFFINE, out_channels=1),
        unet("plain-none", told={"norm": "none"}, norm=None),
        unet("plain-strides", DEEP, anisotropic, strides=((1, 2, 2), 2)),
        unet("res1", num_res_units=1),
        unet("res2-batch", two, norm="batch", num_res_units=2),
        unet("res2-3d", DEEP, num_res_units=2, norm="batch", out_channels=3),
        unet("res3-group", told={"norm": "group", "groups": 2}, norm=GROUP,
             num_res_units=3, channels=(4, 8, 8)),
        unet("res2-strides", DEEP, anisotropic, strides=((1, 2, 2), 2),
             num_res_units=2, norm=AFFINE),
        unet("res2-stride-one", strides=(1, 2), num_res_units=2, norm="batch"),
        unet("res2-kernels", kernel_size=(5, 3), up_kernel_size=(3, 5),
             num_res_units=2, norm="batch"),
        unet("kernels-3d", DEEP, kernel_size=(1, 3, 3), up_kernel_size=(1, 3, 3)),
        unet("and-batch", norm="batch", adn_ordering="AND"),
        unet("adn-res", norm=AFFINE, adn_ordering="ADN", num_res_units=2),
        unet("and-instance", told={"order": "AND"}, adn_ordering="AND"),
        unet("relu", act="relu", norm="batch", num_res_units=2),
        unet("leaky", told={"act": "leakyrelu", "slope": 0.2}, act=LEAKY, norm="batch"),
        unet("swish", told={"act": "silu"}, act="swish", norm="batch"),
        unet("deep", (1, 3, 32, 64), channels=(4, 4, 6, 6, 8), strides=(2,) * 4,
             norm="batch", num_res_units=2),
        unet("two-levels", channels=(4, 6), strides=(2,), norm="batch"),
    ]  # fmt: skip


def basic_unet(name: str, shape: Any, told: Any = None, **given: Any) -> Case:
    """Make a BasicUNet."""
    usual = {"out_channels": 2, "features": (4, 4, 6, 8, 10, 6)}
    return case("basic_unet", name, shape, told, **{**usual, **given})


def basic_unets() -> list[Case]:
    """Make the grid of BasicUNets; the odd sizes are padded on the way up."""
    odd, deep = (1, 2, 37, 45), (1, 1, 16, 32, 19)
    group = {"norm": "group", "groups": 2}
    wide = (32, 32, 64, 64, 64, 32)
    return [
        basic_unet("2d", (1, 1, 32, 48)),
        basic_unet("odd", odd),
        basic_unet("3d", deep, norm="batch", out_channels=1),
        basic_unet("linear", odd, norm="batch", upsample="nontrainable"),
        basic_unet("linear-3d", deep, norm="batch", upsample="nontrainable"),
        basic_unet("shuffle", odd, norm="batch", upsample="pixelshuffle"),
        basic_unet("shuffle-3d", deep, norm="batch", upsample="pixelshuffle"),
        basic_unet("group", odd, group, norm=GROUP, features=(4, 4, 4, 8, 8, 4)),
        basic_unet("relu", odd, {"act": "relu"}, act="relu", norm="batch", bias=False),
        basic_unet("instance", (1, 1, 33, 65), norm="instance", features=wide,
                   act=("leakyrelu", {"negative_slope": 0.1})),
    ]  # fmt: skip


def dynunet(name: str, shape: Any, told: Any = None, **given: Any) -> Case:
    """Make a DynUNet with an up-sampling for each stride but the first."""
    strides = given.setdefault("strides", (1, 2, 2, 2))
    usual = {
        "out_channels": 2,
        "kernel_size": (3,) * len(strides),
        "upsample_kernel_size": strides[1:],
        "filters": (4, 6, 8, 10),
    }
    return case("dynunet", name, shape, told, **{**usual, **given})


def dynunets() -> list[Case]:
    """Make the grid of DynUNets."""
    flat, deep = (1, 2, 32, 48), (1, 1, 8, 16, 24)
    kernels = ((1, 3, 3), (1, 3, 3), 3, 3)
    kernels = [(k,) * 3 if isinstance(k, int) else k for k in kernels]
    strides = [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    group = {"norm": "group", "groups": 2}
    three = {"strides": (1, 2, 2), "filters": (4, 6, 8)}
    return [
        dynunet("2d", flat),
        dynunet("3d", deep, norm_name="batch", out_channels=1),
        dynunet("res", flat, res_block=True),
        dynunet("res-same-width", (1, 4, 32, 48), res_block=True, filters=(4, 4, 6, 6)),
        dynunet("anisotropic", deep, kernel_size=kernels, strides=strides),
        dynunet("anisotropic-res", deep, kernel_size=kernels, strides=strides,
                res_block=True, norm_name="batch"),
        dynunet("supervised", flat, deep_supervision=True, deep_supr_num=2),
        dynunet("supervised-3d", deep, deep_supervision=True, res_block=True),
        dynunet("biased", flat, **three, trans_bias=True, norm_name="batch"),
        dynunet("group", flat, {**group, "act": "relu"}, norm_name=GROUP,
                act_name="relu"),
        dynunet("prelu", flat, **three, act_name="prelu", norm_name="batch"),
        dynunet("kernel-five", flat, **three, kernel_size=(5, 3, 3), norm_name="batch"),
    ]  # fmt: skip


def attention_unet(name: str, shape: Any, told: Any = None, **given: Any) -> Case:
    """Make an AttentionUnet."""
    usual = {"out_channels": 2, "channels": (4, 6, 8), "strides": (2, 2)}
    return case("attention_unet", name, shape, told, **{**usual, **given})


def attention_unets() -> list[Case]:
    """Make the grid of AttentionUnets."""
    flat, deep = (1, 2, 32, 48), (1, 1, 8, 16, 24)
    told = {"strides": [[1, 2, 2], [2, 2, 2]]}
    return [
        attention_unet("2d", flat),
        attention_unet("strides", deep, told, strides=((1, 2, 2), 2)),
        attention_unet("kernels", flat, kernel_size=5, up_kernel_size=(3, 5)),
        attention_unet("deep", flat, channels=(4, 4, 6, 8), strides=(2, 2, 2)),
    ]


def segresnet(name: str, shape: Any, told: Any = None, **given: Any) -> Case:
    """Make a SegResNet."""
    usual = {"out_channels": 2, "init_filters": 8}
    small = {"blocks_down": (1, 2, 1), "blocks_up": (1, 2)}
    return case("segresnet", name, shape, told, **{**usual, **small, **given})


def segresnets() -> list[Case]:
    """Make the grid of SegResNets."""
    flat, deep = (1, 2, 32, 48), (1, 1, 8, 16, 24)
    four = {"groups": 4}
    vae = nets.SegResNetVAE(
        spatial_dims=2, in_channels=2, out_channels=2, init_filters=8,
        input_image_size=(32, 48), vae_nz=4, blocks_down=(1, 1, 1), blocks_up=(1, 1),
    )  # fmt: skip
    return [
        segresnet("2d", flat),
        segresnet("3d", deep, out_channels=1),
        segresnet("groups", flat, four, norm=("group", {"num_groups": 4})),
        segresnet("batch", flat, norm="batch"),
        segresnet("affine", flat, {"norm": "instance_affine"}, norm=AFFINE),
        segresnet("instance", flat, norm="instance", dropout_prob=0.1),
        segresnet("leaky", flat, {"act": "leakyrelu", "slope": 0.2}, act=LEAKY),
        segresnet("prelu", flat, act="prelu"),
        segresnet("deconv", deep, upsample_mode="deconv"),
        segresnet("shuffle", flat, upsample_mode="pixelshuffle"),
        Case("segresnet-vae", vae, flat, "monai_segresnet", unused="vae_",
             pick=lambda outputs: outputs[0]),
    ]  # fmt: skip


def all_cases():
    """Return every network of the library."""
    return [*unets(), *basic_unets(), *dynunets(), *attention_unets(), *segresnets()]


if __name__ == "__main__":
    record("monai", "monai", all_cases())
