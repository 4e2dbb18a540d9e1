"""Networks that are recognised by a name among their tensors, and not opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TRANSFORMER = "its encoder is a transformer"
_OTHER_DECODER = "its decoder is not that of a U-Net"


@dataclass(frozen=True)
class Refused:
    """A network that is no U-Net of convolutions, or none we rebuild.

    Attributes
    ----------
    mark : str
        Regular expression for the name of a tensor, from the start of a part of it.
    title : str
        Name for people.
    reason : str
        Why it is not opened.
    """

    mark: str
    title: str
    reason: str

    def named_in(self, names: Iterable[str]) -> str | None:
        """Return the first name that shows this network, None without one."""
        pattern = re.compile(rf"(^|\.){self.mark}")
        return next((name for name in names if pattern.search(name)), None)


REFUSED: tuple[Refused, ...] = (
    Refused(r"swinViT\.", "MONAI SwinUNETR", _TRANSFORMER),
    Refused(r"vit\.patch_embedding\.", "MONAI UNETR", _TRANSFORMER),
    Refused(
        r"decoder\.blocks\.\d+\.convs\.conv_0\.",
        "MONAI FlexibleUNet",
        "its encoders are those of a classification library",
    ),
    Refused(r"image_encoder\.patch_embed\.", "Segment Anything (SAM)", _TRANSFORMER),
    Refused(
        r"encoder\.patch_embed\.",
        "cellpose 4 (SAM)",
        f"{_TRANSFORMER}; networks of cellpose 3 and older are U-Nets",
    ),
    Refused(
        r"(ins_center|semantic_pr)\.",
        "empanada network (Panoptic-DeepLab or BiFPN)",
        _OTHER_DECODER,
    ),
    Refused(
        r"(Up_)?RRCNN\d+\.",
        "R2U-Net",
        "its convolutions run several times, how often has no trace in the weights",
    ),
    Refused(
        r"decoder\.blocks\.x_\d+_\d+\.",
        "segmentation_models_pytorch UnetPlusPlus",
        _OTHER_DECODER,
    ),
    Refused(
        r"decoder\.(p5|seg_blocks)\.", "segmentation_models_pytorch FPN", _OTHER_DECODER
    ),
    Refused(
        r"decoder\.(aspp|0\.convs)\.",
        "segmentation_models_pytorch DeepLabV3",
        _OTHER_DECODER,
    ),
    Refused(
        r"decoder\.(blocks\.\d+\.hl_conv|center\.top_conv)\.",
        "segmentation_models_pytorch MAnet",
        _OTHER_DECODER,
    ),
    Refused(
        r"decoder\.blocks\.\d+\.block\.\d+\.\d+\.",
        "segmentation_models_pytorch Linknet",
        _OTHER_DECODER,
    ),
)


def refused(names: Iterable[str]) -> tuple[Refused, str] | None:
    """Return the network that is known by `names`, and the name that shows it."""
    names = list(names)
    for network in REFUSED:
        mark = network.named_in(names)
        if mark is not None:
            return network, mark
    return None
