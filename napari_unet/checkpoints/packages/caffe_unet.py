"""Models of the U-Net plugin for Fiji: ``*.modeldef.h5`` beside ``*.caffemodel.h5``.

The first tells the layers and how images are prepared, the second holds the weights
(lmb-freiburg/Unet-Segmentation; Falk et al., Nature Methods 16, 2019). A folder may
have several of either; those of one name belong together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.checkpoints.draft import Draft
from napari_unet.checkpoints.families.base import Shapes, normalization
from napari_unet.checkpoints.families.caffe_unet import CaffeUNetFamily
from napari_unet.checkpoints.formats.caffe_messages import last
from napari_unet.checkpoints.formats.caffe_program import Translated, translated
from napari_unet.checkpoints.formats.refusal import Refused
from napari_unet.checkpoints.packages.base import Package
from napari_unet.checkpoints.weights import MOST_WEIGHTS, read_weights
from napari_unet.errors import ModelError
from napari_unet.files import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.checkpoints.source import Source
    from napari_unet.checkpoints.unwrap import Found
    from napari_unet.networks.spec import Assumption

_WEIGHTS = ".caffemodel.h5"
_MODEL = ".modeldef.h5"
_MOST_MODEL = 1 << 26
_MODELDEF = "modeldef"
_SCALES = {0: "none", 1: "minmax", 2: "zscore"}
_LARGEST_NORM = 3
_PUBLISHED = CaffeUNetFamily()
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What values of other types than Caffe's raise where they are used."""


class CaffeUnet(Package):
    """A network description with its weights."""

    title = "Caffe U-Net of the Fiji plugin"

    def claims(self, source: Source) -> bool:
        """Whether there are both."""
        return bool(_names(source, _MODEL)) and bool(_names(source, _WEIGHTS))

    def holds(self, source: Source, name: str) -> bool:
        """Whether this is one of the two."""
        return name in (*_names(source, _MODEL), *_names(source, _WEIGHTS))

    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read both; `weights` may name the description as well."""
        name, model = _pair(source, weights or "")
        found, sha256 = _read(source, name)
        description, described = _read(source, model)
        known = description.hints.get(_MODELDEF)
        if not isinstance(known, dict) or not found.tensors:
            wrong = name if isinstance(known, dict) else model
            raise ModelError(f"{wrong} is not what its name says")
        network = _translated(known, found, model)
        found.tensors = network.tensors
        found.notes += _notes(known, network)
        return Draft(
            source.path,
            self.title,
            found,
            [sha256, described],
            {"program": network.program},
            _fields(known, network.program, model),
            [] if _scaling(known) in _SCALES else [_unscaled(known)],
        )

    def complete(self, draft: Draft) -> None:
        """Refuse one without the other, unless the weights have published names."""
        if _MODELDEF in draft.found.hints:
            raise ModelError(
                f"{draft.path.name} describes a network and holds no weights",
                expected=f"a file *{_WEIGHTS} beside it",
            )
        names = draft.found.tensors
        if "caffe" in draft.found.hints and not _PUBLISHED.recognise(Shapes(names)):
            raise ModelError(
                f"{draft.path.name} holds weights of a Caffe network, not its layers",
                found=f"weights such as {', '.join(list(names)[:3])}",
                expected=f"the description *{_MODEL} beside it",
            )


def _names(source: Source, ending: str) -> list[str]:
    return [n for n in source.names() if "/" not in n and n.endswith(ending)]


def _pair(source: Source, name: str) -> tuple[str, str]:
    """Return the names of the weights and of the description that belong together."""
    name = name or _partner(source, "", _MODEL)
    if name.endswith(_MODEL):
        return _partner(source, name.removesuffix(_MODEL), _WEIGHTS), name
    return name, _partner(source, name.removesuffix(_WEIGHTS), _MODEL)


def _partner(source: Source, stem: str, ending: str) -> str:
    """Return the file of the same name but for its ending, else the only one."""
    names = _names(source, ending)
    if stem + ending in names or len(names) == 1:
        return stem + ending if stem + ending in names else names[0]
    raise ModelError(
        f"It is not clear which files in {source.path.name} belong together",
        found=", ".join(names[:8]),
        expected=f"{stem}{ending}, or only one file *{ending}",
        hint="Open one of the files; those that belong together must have one name.",
    )


def _read(source: Source, name: str) -> tuple[Found, str]:
    """Return what a file holds, and its hash."""
    most = _MOST_MODEL if name.endswith(_MODEL) else MOST_WEIGHTS
    with source.file(name, most) as path:
        return read_weights(path)[1], digest(path)


def _translated(known: Mapping[str, Any], found: Found, model: str) -> Translated:
    """Translate the description."""
    net = known["net"]
    image = known.get("input_blob_name") or last(net, "input", "data")
    try:
        return translated(net, found.tensors, str(image))
    except Refused as error:
        reason = str(error)
    except _MISFITS as error:
        reason = f"values that do not fit ({error})"
    raise ModelError(
        f"The network that {model} describes cannot be opened",
        found=reason,
        expected="convolutions, poolings, ReLU, batch norms and concatenations",
        hint=f"If it does not belong to these weights, move {model} away.",
    )


def _fields(
    known: Mapping[str, Any], program: Mapping[str, Any], model: str
) -> dict[str, Any]:
    """Return what is declared about images and classes.

    The plugin takes the softmax of the network's scores, whose first class is the
    background; one statistic of intensity holds for all channels.
    """
    name = known.get("name")
    fields: dict[str, Any] = {
        "name": name if isinstance(name, str) and name else model.removesuffix(_MODEL),
        "class_names": _classes(known),
        "spacing": _spacing(known, "ZYX"[-program["ndim"] :]),
    }
    kind = _SCALES.get(_scaling(known))
    if kind:
        fields["normalization"] = [{"kind": kind, "joint": True, "eps": 0.0}]
    return fields


def _scaling(known: Mapping[str, Any]) -> int:
    """Return the number of the intensity scaling, -1 without one."""
    numbers = _numbers(known.get("normalization_type"))
    return int(numbers[0]) if len(numbers) == 1 else -1


def _unscaled(known: Mapping[str, Any]) -> Assumption:
    """Assume a scaling where none is declared, or one that is not done here."""
    reason = "intensity scaling is not declared"
    if _scaling(known) == _LARGEST_NORM:
        reason = "trained on images divided by their largest value"
    return normalization("minmax", reason, joint=True, eps=0.0)


def _spacing(known: Mapping[str, Any], spatial: str) -> dict[str, float]:
    """Return the pixel size of the training in µm, which is stored slowest first."""
    sizes = _numbers(known.get("element_size_um"))
    if len(sizes) != len(spatial) or not all(0 < size < 1e6 for size in sizes):
        return {}
    return dict(zip(spatial, sizes, strict=True))


def _classes(known: Mapping[str, Any]) -> tuple[str, ...]:
    names = known.get("classNames")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _notes(known: Mapping[str, Any], network: Translated) -> list[str]:
    """Say where the description does not agree with its layers, or we with it."""
    notes = []
    if network.unused:
        notes.append(f"left out: weights of {', '.join(network.unused[:5])}")
    given, kept = (_numbers(known.get(n)) for n in ("padInput", "padOutput"))
    declared = {a - b for a, b in zip(given, kept, strict=False)}
    lost = [int(n) for n in network.lost]
    if declared - set(lost):
        notes.append(
            f"the layers take {lost} pixels off the image, the description says "
            f"{sorted(declared)}"
        )
    if known.get("padding") == "zero":
        notes.append("trained with zeros around the image; here it is mirrored")
    return notes


def _numbers(value: Any) -> list[float]:
    """Return numbers as a list, empty if they are none."""
    values = value if isinstance(value, list) else [value]
    return values if all(type(v) in (int, float) for v in values) else []
