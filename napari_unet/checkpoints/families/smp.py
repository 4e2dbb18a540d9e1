"""segmentation_models_pytorch's Unet (smp 0.6): an image classifier as encoder.

The up-sampled features come first in the concatenation, resized to the skip's size;
the last block has no skip. Which encoder it is shows in the names and shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field
from torch import nn

from napari_unet.checkpoints.families.base import (
    Family,
    Inferred,
    Shapes,
    activation,
    count,
    normalization,
    setting,
)
from napari_unet.config import Config
from napari_unet.errors import ModelError
from napari_unet.networks.encoders.decoder import DecoderShape, EncodedUNet, Mode
from napari_unet.networks.encoders.efficientnet import (
    EFFICIENTNETS,
    EfficientNetEncoder,
    blocks,
    stem_width,
)
from napari_unet.networks.encoders.mobilenet import MobileNetV2Encoder
from napari_unet.networks.encoders.resnet import RESNETS, ResNetEncoder, ResNetShape
from napari_unet.networks.spec import Assumption

if TYPE_CHECKING:
    from collections.abc import Mapping

MODES: tuple[str, ...] = get_args(Mode)
"""Its interpolations, the default first."""
_IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))
"""Mean and standard deviation of red, green and blue from 0 to 1."""
ACTIVATIONS = {
    **{"sigmoid": "sigmoid", "softmax": "softmax", "softmax2d": "softmax"},
    "logsoftmax": "softmax",
}
"""Its activations after the last convolution, in our words."""
_NETWORKS = {
    "decoder.blocks.x_0_0.": "UnetPlusPlus",
    "decoder.center.top_conv.": "MAnet",
    "decoder.blocks.0.block.": "Linknet",
    "decoder.p5.": "FPN",
    "decoder.psp.blocks.": "PSPNet",
    "decoder.aspp.": "DeepLabV3",
    "decoder.fpa.": "PAN",
    "decoder.feature_norms.": "UPerNet",
    "decoder.mlp_stage.": "Segformer",
    "decoder.reassemble_blocks.": "DPT",
}
"""Names of the decoder that only another of its networks has."""
_ENCODERS = {
    "encoder.model.": "a timm encoder (tu-...)",
    "encoder.conv_stem.": "a timm EfficientNet",
    "encoder.layer0.": "an SE-ResNet, SE-ResNeXt or SENet",
    "encoder.layer1.0.conv1.paths.": "an SK-ResNet",
    "encoder.features.conv0.": "a DenseNet",
    "encoder.features.conv1_1.": "a DPN",
    "encoder.features.0.conv.": "an Inception v4",
    "encoder.features.0.weight": "a VGG",
    "encoder.conv2d_1a.": "an Inception-ResNet v2",
    "encoder.patch_embed1.": "a Mix Vision Transformer",
    "encoder.stage0.": "a MobileOne",
    "encoder.block1.": "an Xception",
}
"""Names of encoders that are not built here."""


class SmpSpec(Config):
    """Shape of a Unet of segmentation_models_pytorch.

    `interpolation` has no weights; `classes_beside` counts the outputs of the
    classification head, which is kept but not used.
    """

    in_channels: int = Field(ge=1, le=4096)
    out_channels: int = Field(ge=1, le=65535)
    encoder: str
    decoder_channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        min_length=1, max_length=5
    )
    norm: Literal["batch", "instance", "none"] = "batch"
    norm_eps: float = Field(1e-5, gt=0.0, le=1.0)
    attention: Literal["none", "scse"] = "none"
    interpolation: Mode = "nearest"
    classes_beside: int = Field(0, ge=0, le=1_000_000)


class Smp(Family):
    """segmentation_models_pytorch's Unet."""

    name = "smp"
    title = "segmentation_models_pytorch Unet"
    source = "segmentation-models-pytorch 0.6.0, Unet"
    typical: ClassVar[Mapping[str, Any]] = {
        "in_channels": 3,
        "out_channels": 1,
        "encoder": "resnet34",
        "decoder_channels": [256, 128, 64, 32, 16],
    }

    def recognise(self, shapes: Shapes) -> bool:
        """Whether the marking keys are there, if only of its other networks."""
        parts = {key.partition(".")[0] for key in shapes}
        head = "segmentation_head.0.weight" in shapes
        known = "decoder.blocks.0.conv1.0.weight" in shapes
        return head and "encoder" in parts and (known or bool(_mark(shapes, _NETWORKS)))

    def infer(self, shapes: Shapes, hints: Mapping[str, Any]) -> Inferred:
        """Read the architecture from names and shapes.

        Raises
        ------
        ModelError
            If it is one of the library's networks that is not built here, by its name.
        """
        _refuse_others(shapes)
        architecture = _architecture(shapes, hints)
        fields = {k: architecture[k] for k in ("in_channels", "out_channels")}
        given = ACTIVATIONS.get(str(hints.get("activation")))
        declared = {"activation": given} if given else {}
        return Inferred(
            architecture,
            {"ndim": 2, **fields, **declared},
            tuple(_assumed(architecture, hints)),
        )

    def build(self, architecture: Mapping[str, Any]) -> nn.Module:
        """Make the module with fresh weights."""
        spec = SmpSpec(**architecture)
        shape = DecoderShape(
            spec.decoder_channels,
            norm=spec.norm,
            norm_eps=spec.norm_eps,
            attention=spec.attention == "scse",
            interpolation=spec.interpolation,
        )
        net = EncodedUNet(_encoder(spec), shape, spec.out_channels)
        if spec.classes_beside:
            linear = nn.Linear(net.encoder.widths[-1], spec.classes_beside)
            before = (nn.Identity() for _ in range(3))  # pooling, flattening, dropout
            net.add_module("classification_head", nn.Sequential(*before, linear))
        return net


def _architecture(shapes: Shapes, hints: Mapping[str, Any]) -> dict[str, Any]:
    block = "decoder.blocks.{}.conv1.0.weight"
    channels = [shapes[block.format(n)][0] for n in range(count(shapes, block))]
    encoder = _encoder_name(shapes)
    return {
        "in_channels": shapes[_first(encoder)][1],
        "out_channels": shapes["segmentation_head.0.weight"][0],
        "encoder": encoder,
        "decoder_channels": channels,
        "norm": _norm(shapes),
        "norm_eps": _norm_eps(hints),
        "attention": "scse" if _has_scse(shapes) else "none",
        "interpolation": _given_mode(hints) or "nearest",
        "classes_beside": shapes.get("classification_head.3.bias", (0,))[0],
    }


def _encoder(spec: SmpSpec) -> ResNetEncoder | MobileNetV2Encoder | EfficientNetEncoder:
    channels, depth = spec.in_channels, len(spec.decoder_channels)
    if spec.encoder in RESNETS:
        return ResNetEncoder(RESNETS[spec.encoder], channels, depth)
    if spec.encoder in EFFICIENTNETS:
        return EfficientNetEncoder(EFFICIENTNETS[spec.encoder], channels, depth)
    if spec.encoder == "mobilenet_v2":
        return MobileNetV2Encoder(channels, depth)
    raise ValueError(f"no encoder {spec.encoder}")


def _encoder_name(shapes: Shapes) -> str:
    """Tell the encoder by its names, the number of its blocks and its widths."""
    if _mark(shapes, _ENCODERS):
        raise _unknown(_mark(shapes, _ENCODERS))
    if "encoder._conv_stem.weight" in shapes:
        found = _efficientnet(shapes)
    elif "encoder.layer4.0.conv1.weight" in shapes:
        found = _resnet(shapes)
    else:
        found = "mobilenet_v2" if "encoder.features.0.0.weight" in shapes else None
    if found is None:
        raise _unknown("an encoder of other names or sizes")
    return found


def _resnet(shapes: Shapes) -> str | None:
    middle = shapes["encoder.layer1.0.conv2.weight"]
    shape = ResNetShape(
        blocks=tuple(count(shapes, f"encoder.layer{n}.{{}}.") for n in (1, 2, 3, 4)),
        bottleneck="encoder.layer1.0.conv3.weight" in shapes,
        groups=middle[0] // middle[1],
        group_width=middle[1],
    )
    return next((name for name, known in RESNETS.items() if known == shape), None)


def _efficientnet(shapes: Shapes) -> str | None:
    """Tell by the first width, the number of blocks and the last one's width."""
    number = count(shapes, "encoder._blocks.{}.")
    found = (
        shapes["encoder._conv_stem.weight"][0],
        number,
        shapes[f"encoder._blocks.{number - 1}._project_conv.weight"][0],
    )
    for name, shape in EFFICIENTNETS.items():
        known = blocks(shape)
        if (stem_width(shape), len(known), known[-1].outputs) == found:
            return name
    return None


def _first(encoder: str) -> str:
    """Return the name of the first convolution."""
    if encoder in EFFICIENTNETS:
        return "encoder._conv_stem.weight"
    is_resnet = encoder in RESNETS
    return "encoder.conv1.weight" if is_resnet else "encoder.features.0.0.weight"


def _norm(shapes: Shapes) -> str:
    """Tell the decoder's norm by its keys; a bias stands where there is none."""
    if "decoder.blocks.0.conv1.0.bias" in shapes:
        return "none"
    has_statistics = "decoder.blocks.0.conv1.1.running_mean" in shapes
    return "batch" if has_statistics else "instance"


def _norm_eps(hints: Mapping[str, Any]) -> float:
    given = hints.get("decoder_use_norm")
    return float(given.get("eps", 1e-5)) if isinstance(given, dict) else 1e-5


def _given_mode(hints: Mapping[str, Any]) -> str:
    """Return the interpolation that the settings name, empty if they do not."""
    return next((m for m in MODES if m == hints.get("decoder_interpolation")), "")


def _has_scse(shapes: Shapes) -> bool:
    return "decoder.blocks.0.attention1.attention.sSE.0.weight" in shapes


def _mark(shapes: Shapes, marks: Mapping[str, str]) -> str:
    """Return what the first mark in the names stands for, empty if there is none."""
    found = (v for k, v in marks.items() if any(key.startswith(k) for key in shapes))
    return next(found, "")


def _refuse_others(shapes: Shapes) -> None:
    network = _mark(shapes, _NETWORKS)
    if network:
        raise ModelError(
            "This network of segmentation_models_pytorch is not one that is built here",
            found=network,
            expected="Unet",
        )


def _unknown(found: str) -> ModelError:
    return ModelError(
        "The encoder of this Unet of segmentation_models_pytorch is not built here",
        found=found,
        expected=", ".join((*RESNETS, "mobilenet_v2", *EFFICIENTNETS)),
    )


def _assumed(
    architecture: Mapping[str, Any], hints: Mapping[str, Any]
) -> list[Assumption]:
    assumed = [_scaling(architecture["in_channels"], hints)]
    if str(hints.get("activation")) not in ACTIVATIONS:
        assumed.append(activation(architecture["out_channels"]))
    if not _given_mode(hints):
        assumed.append(
            setting(
                "interpolation",
                value="nearest",
                alternatives=MODES[1:],
                reason="up-sampling has no weights; nearest is its default",
            )
        )
    return assumed


def _scaling(channels: int, hints: Mapping[str, Any]) -> Assumption:
    """Assume ImageNet's mean and deviation for colour, unless it began untrained."""
    imagenet = [
        {"kind": "linear", "gain": 1 / (255 * std), "offset": -mean / std}
        for mean, std in _IMAGENET
    ]
    zscore = normalization("zscore", "its loader is not known; each image by itself")
    if channels != len(imagenet):
        return zscore
    if hints.get("encoder_weights", "imagenet") is None:
        others = (*zscore.alternatives, imagenet)
        return zscore.model_copy(update={"alternatives": others})
    return Assumption(
        field="normalization",
        value=imagenet,
        alternatives=("zscore", *zscore.alternatives),
        reason="its encoders are trained on ImageNet, in bytes of red, green, blue",
    )
