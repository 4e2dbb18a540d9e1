"""What nnU-Net's plans, dataset.json and checkpoint say, in our words.

Follows nnunetv2 2.8.1 (PlansManager, LabelManager, DefaultPreprocessor). Names of
classes and functions are compared with lists and never looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ModelError
from napari_unet.images.intensity import Normalization
from napari_unet.networks.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LIBRARY = "dynamic_network_architectures."
_CLASSES = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
_NONLINEARITIES = ("LeakyReLU", "ReLU", "ELU", "GELU", "SiLU", "Mish")
_NORMS = ("InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d", "None")
_BY_SHAPE = "resample_data_or_seg_to_shape"
_BY_TORCH = "resample_torch_fornnunet"
_NEVER = "no_resampling_hack"
_ANISOTROPY = 3


@dataclass(frozen=True)
class Described:
    """A configuration.

    Attributes
    ----------
    hints : dict
        Settings of the network, as new plans have them.
    fields : dict
        Fields of `ModelSpec`.
    notes : tuple of str
        What differs from nnU-Net.
    """

    hints: dict[str, Any]
    fields: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


def describe(
    plans: Mapping[str, Any],
    name: str,
    dataset: Mapping[str, Any],
    mirror: Any,
) -> Described:
    """Read one configuration of some plans.

    Parameters
    ----------
    plans : mapping
        ``plans.json``, of any 2.x version.
    name : str
        Of the configuration, such as ``"3d_fullres"``.
    dataset : mapping
        ``dataset.json``.
    mirror : list of int or None
        The checkpoint's ``inference_allowed_mirroring_axes``.

    Raises
    ------
    ModelError
        If it needs what is not done here: the result of another network, a network,
        resampling or normalisation that is not nnU-Net's own.
    KeyError, TypeError, ValueError
        If an entry is missing or of another kind.
    """
    settings = _configuration(plans, name)
    if settings.get("previous_stage"):
        raise ModelError(
            f"The configuration {name} is the second stage of a cascade",
            found=f"a network that needs the result of {settings['previous_stage']}",
            expected="a network that needs the image alone",
            hint="Open 3d_fullres, 3d_lowres or 2d of the same dataset.",
        )
    labels = _labels(dataset)
    notes: list[str] = []
    fields = {
        "name": " ".join(n for n in (str(plans.get("dataset_name", "")), name) if n),
        "activation": "sigmoid" if labels.regions else "softmax",
        "class_names": labels.names if len(set(labels.names)) == labels.heads else (),
        "normalization": _normalizations(plans, settings),
        "recipe": Recipe(
            patch=tuple(settings["patch_size"]),
            mirror=tuple(mirror or ()),
            crop_to_nonzero=True,
            transpose=_transpose(plans),
            **_resampling(plans, settings, notes),
            region_labels=labels.regions,
            label_values=() if labels.regions else tuple(range(labels.heads)),
        ),
    }
    return Described(_network(settings), fields, tuple(notes))


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with what it inherits from others."""
    settings: dict[str, Any] = {}
    seen: list[str] = []
    while name:
        if name in seen:
            raise ValueError(f"{name} inherits from itself")
        seen.append(name)
        own = plans["configurations"][name]
        settings = {**own, **settings}
        name = own.get("inherits_from")
    return settings


def _network(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network's class and its arguments, if they are known ones."""
    architecture = settings.get("architecture") or _older(settings)
    kind, arguments = architecture["network_class_name"], architecture["arch_kwargs"]
    library, _, last = str(kind).rpartition(".")
    if not f"{library}.".startswith(_LIBRARY) or last not in _CLASSES:
        raise _unknown("network", kind, _CLASSES)
    for key, known in (("nonlin", _NONLINEARITIES), ("norm_op", _NORMS)):
        if str(arguments.get(key)).rpartition(".")[2] not in known:
            raise _unknown("layer", arguments.get(key), known)
    return {"network_class_name": kind, "arch_kwargs": dict(arguments)}


def _older(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture of plans from before nnU-Net 2.4 as newer ones have it.

    Everything else that they say shows in the weights.
    """
    ndim = len(settings["patch_size"])
    return {
        "network_class_name": f"{_LIBRARY}{settings['UNet_class_name']}",
        "arch_kwargs": {
            "strides": settings["pool_op_kernel_sizes"],
            "norm_op": f"InstanceNorm{ndim}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }


@dataclass(frozen=True)
class _Labels:
    """Output channels: their names, and the labels of regions in painting order."""

    names: tuple[str, ...]
    heads: int
    regions: tuple[int, ...] = ()


def _labels(dataset: Mapping[str, Any]) -> _Labels:
    """Read labels, or regions that overlap; the ignore label has no channel."""
    kept = {str(k): v for k, v in dataset["labels"].items() if k != "ignore"}
    if any(isinstance(v, (list, tuple)) and len(v) > 1 for v in kept.values()):
        names = tuple(k for k, v in kept.items() if _values(v) != {0})
        order = tuple(int(v) for v in dataset["regions_class_order"])
        if len(order) != len(names):
            raise ValueError(f"{len(order)} labels for {len(names)} regions")
        return _Labels(names, len(names), order)
    numbers = {k: max(_values(v)) for k, v in kept.items()}
    values = sorted(set(numbers.values()))
    if values != list(range(len(values))):
        raise ValueError(f"labels {values}, which are not 0, 1, 2 ...")
    by_value = {v: k for k, v in reversed(numbers.items())}
    return _Labels(tuple(by_value[v] for v in values), len(values))


def _values(label: Any) -> set[int]:
    return set(map(int, label)) if isinstance(label, (list, tuple)) else {int(label)}


def _normalizations(
    plans: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Normalization, ...]:
    """Return the normalisation of each input channel."""
    masks = settings["use_mask_for_norm"]
    names = settings["normalization_schemes"]
    pairs = zip(names, masks, strict=True)
    return tuple(
        _normalization(str(name), bool(mask), plans, n)
        for n, (name, mask) in enumerate(pairs)
    )


def _normalization(
    name: str, mask: bool, plans: Mapping[str, Any], channel: int
) -> Normalization:
    kinds: dict[str, Callable[[], Normalization]] = {
        "ZScoreNormalization": lambda: Normalization(
            kind="zscore", eps=1e-8, masked=mask
        ),
        "CTNormalization": lambda: _ct(plans, channel),
        "RescaleTo01Normalization": lambda: Normalization(kind="minmax", eps=1e-8),
        "RGBTo01Normalization": lambda: Normalization(kind="linear", gain=1 / 255),
        "NoNormalization": lambda: Normalization(kind="none"),
    }
    if name not in kinds:
        raise _unknown("normalisation", name, tuple(kinds))
    return kinds[name]()


def _ct(plans: Mapping[str, Any], channel: int) -> Normalization:
    """Clip to the foreground's percentiles in training, then use its mean and std."""
    everywhere = (
        plans.get("foreground_intensity_properties_per_channel")
        or plans["foreground_intensity_properties_by_modality"]
    )
    found = everywhere[str(channel)]
    return Normalization(
        kind="ct",
        clip_low=found["percentile_00_5"],
        clip_high=found["percentile_99_5"],
        mean=found["mean"],
        std=found["std"],
    )


def _transpose(plans: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the order of the axes in the network, empty if it is ZYX."""
    order = tuple(int(n) for n in plans["transpose_forward"])
    return () if order == tuple(range(len(order))) else order


def _resampling(
    plans: Mapping[str, Any], settings: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Return the fields of the recipe about pixel size.

    Readers of images without a physical size give all of them the size 1.
    """
    spacing = tuple(float(s) for s in settings["spacing"])
    reader = plans.get("image_reader_writer")
    sizeless = reader == "NaturalImage2DIO" or (
        reader == "Tiff3DIO" and set(spacing) == {1.0}
    )
    steps = [_step(settings, kind) for kind in ("data", "probabilities")]
    if sizeless or any(step is None for step in steps):
        return {"spacing": ()}
    data, logits = (step or {} for step in steps)
    if data["order_z"] != logits["order_z"] or data["separate"] != logits["separate"]:
        raise ValueError("images and results are resampled along Z in different ways")
    if data["torch"]:
        notes.append("resampled linearly by scikit-image, where nnU-Net used torch")
    return {
        "spacing": spacing,
        "order_data": data["order"],
        "order_logits": logits["order"],
        "order_z": data["order_z"],
        "separate_z": data["separate"],
    }


def _step(settings: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """Read how images (data) or results (probabilities) are resampled, None if not."""
    function = settings.get(f"resampling_fn_{kind}", _BY_SHAPE)
    usual = {"order": 3 if kind == "data" else 1, "force_separate_z": None}
    options = settings.get(f"resampling_fn_{kind}_kwargs", usual)
    if function == _NEVER:
        return None
    if function not in (_BY_SHAPE, _BY_TORCH):
        raise _unknown("resampling", function, (_BY_SHAPE, _BY_TORCH, _NEVER))
    if options.get("separate_z_anisotropy_threshold", _ANISOTROPY) != _ANISOTROPY:
        raise ValueError("an unusual threshold for resampling along Z by itself")
    by_torch = function == _BY_TORCH
    # the functions' own defaults, which differ
    separate = options.get("force_separate_z", None if by_torch else False)
    return {
        "torch": by_torch,
        "order": 1 if by_torch else options.get("order", 3),
        "order_z": 0 if by_torch else options.get("order_z", 0),
        "separate": separate,
    }


def _unknown(what: str, found: Any, known: tuple[str, ...]) -> ModelError:
    return ModelError(
        f"The plans name a {what} that is not nnU-Net's own",
        found=str(found),
        expected=", ".join(known),
    )
