"""Looking through: what was painted, and what its ids and images are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.errors import UsageError
from napari_unet.events import Stopped
from napari_unet.training.annotations import AnnotationSet, complete, filled
from napari_unet.training.coding import exclusive
from napari_unet.training.orientation import is_upright

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from napari_unet.config import FinetuneConfig
    from napari_unet.events import CancelToken
    from napari_unet.networks.network import Network
    from napari_unet.training.annotations import Example, Kind


def gather(
    examples: Sequence[Example],
    network: Network | None,
    config: FinetuneConfig,
    cancel: CancelToken | None,
) -> tuple[AnnotationSet, Kind, list[str]]:
    """Look through the strokes, tell what their ids are, and fill complete boxes."""
    boxed = any(example.boxes for example in examples)
    if config.complete:
        if boxed:
            raise UsageError(
                "Complete labels need no complete boxes",
                hint="Give either; a box of the whole image makes one image complete.",
            )
        examples = [complete(example) for example in examples]
    annotations = AnnotationSet.gather(examples, cancel)
    stop_if(cancel)
    if not boxed:
        annotations.require_paint()
    kind, notes = _choose_kind(annotations, network, config)
    if boxed:
        examples = [filled(example, kind) for example in examples]
        annotations = AnnotationSet.gather(examples, cancel)
        stop_if(cancel)
    return annotations, kind, notes


def _choose_kind(
    annotations: AnnotationSet, network: Network | None, config: FinetuneConfig
) -> tuple[Kind, list[str]]:
    """Tell what the stroke ids are, with a note where that was a guess."""
    if config.strokes != "auto":
        return config.strokes, []
    if not annotations.planes:
        return "classes", []
    if network is not None and network.spec.task == "semantic":
        classes = network.spec.out_channels + (not exclusive(network.spec))
        if annotations.ids[-1] <= classes:
            return "classes", []
    kind, reason = annotations.guess_kind()
    if len(annotations.ids) < 3:
        return kind, []
    word, other = (
        ("objects", "classes") if kind == "instances" else ("classes", "instances")
    )
    return kind, [
        f"The stroke ids are taken for {word}: {reason}. If that is wrong, set the "
        f"stroke ids to {other}."
    ]


def find_upright(
    targets: Sequence[np.ndarray], config: FinetuneConfig, notes: list[str]
) -> bool:
    """Whether images keep their orientation, with a note where that was found."""
    if config.orientation != "auto" or not config.complete:
        return config.orientation == "fixed"
    if found := is_upright(targets):
        notes.append(
            "The labels lie on the same side of every image, so the images are taken "
            "to look the same way up. If that is chance, set the orientation to any."
        )
    return found


def stop_if(cancel: CancelToken | None) -> None:
    """Raise `Stopped` if the token is set."""
    if cancel is not None and cancel.is_set():
        raise Stopped("stopped before training")
