"""Plan a training: which network, which patch, how many at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_unet.errors import ModelError, StrokesError, UsageError
from napari_unet.images import axes as axis_names
from napari_unet.images.intensity import Normalization
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNetSpec
from napari_unet.training.annotations import MOST_CLASSES
from napari_unet.training.coding import exclusive
from napari_unet.training.planning import (
    NetworkPlan,
    check_sides,
    levels,
    plan_network,
    wishes_of,
)
from napari_unet.training.typical import (
    large_diameter,
    small_object,
    typical_size,
    typical_spacing,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.config import FinetuneConfig
    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.receptive_field import Geometry
    from napari_unet.training.annotations import AnnotationSet, Kind

_FLAT = 1.5  # pixels this much longer along Z than along X make a stack anisotropic
# With ReLU, values that no stroke covers (edges) fall on a plateau of the head's bias
# and go to either class by chance; a leak carries them on as the intensity goes.
# Dice of the blobs strokes: 0.94 with slope 0, 0.957 with 0.1, 0.969 with 0.3.
_SLOPE = 0.3
_FULL_SLOPE = 0.01  # nnU-Net's; complete labels cover all values
_PATCH = {2: (96, 96), 3: (32, 64, 64)}
_FLAT_PATCH = (16, 96, 96)
_BATCH_PIXELS = {2: 4 * 96 * 96, 3: 2 * 32 * 64 * 64}
# A stroke says something about few pixels of a patch, so in a volume many steps on
# small patches teach more in a minute than few on large ones.
_STROKE_PATCH = {2: (96, 96), 3: (32, 32, 32)}
_FLAT_STROKE_PATCH = (16, 48, 48)
_STROKE_PIXELS = {2: 4 * 96 * 96, 3: 2 * 32**3}


def choose_ndim(annotations: AnnotationSet, config: FinetuneConfig) -> Literal[2, 3]:
    """Dimensions of a new network: as set, else 3 where adjacent planes are painted."""
    if config.ndim == 3 and not any("Z" in e.stack.axes for e in annotations.examples):
        raise UsageError(
            "A 3D network needs images with a Z axis",
            found=", ".join(e.stack.axes for e in annotations.examples),
            hint="Name the axes of the image, such as ZYX, or use 2 dimensions.",
        )
    return config.ndim or (3 if annotations.looks_solid() else 2)


def plan_full(
    annotations: AnnotationSet, kind: Kind, config: FinetuneConfig, memory: float
) -> NetworkPlan:
    """Plan a network for complete labels, see `napari_unet.training.planning`.

    Parameters
    ----------
    annotations : AnnotationSet
        The labels, background with id 1.
    kind : {"classes", "instances"}
        What their ids are.
    config : FinetuneConfig
        Settings; what they leave open is planned.
    memory : float
        Bytes that a training step may take.

    Raises
    ------
    UsageError
        If the settings do not fit the images.
    """
    spatial = axis_names.spatial(choose_ndim(annotations, config))
    check_sides(config.patch, len(spatial), "patch size")
    spacing = typical_spacing(annotations.examples, spatial)
    return plan_network(
        typical_size(annotations.examples, spatial),
        [spacing.get(axis, 1.0) for axis in spatial],
        large_diameter(annotations) if kind == "instances" else None,
        memory,
        wishes_of(config, len(spatial)),
    )


def new_spec(
    annotations: AnnotationSet,
    kind: Kind,
    config: FinetuneConfig,
    planned: NetworkPlan | None = None,
) -> ModelSpec:
    """Describe a new network: as planned, else one that learns strokes in a minute.

    For strokes: two poolings from 16 channels (8 in 3D, where a step with 16 takes
    three times as long), none of them along Z until pixels are about cubes. A deeper
    network learns the few strokes by heart. Interpolation, unlike a transposed
    convolution, cannot shift an edge that no stroke shows.

    Raises
    ------
    StrokesError
        If the ids are too large for classes.
    UsageError
        If the settings do not fit the images.
    """
    if kind == "classes" and annotations.ids[-1] > MOST_CLASSES:
        raise StrokesError(
            "The stroke ids are too large for classes",
            found=f"id {annotations.ids[-1]}",
            expected=f"1 to {MOST_CLASSES}",
            hint="Paint classes with 1, 2, 3 ...; set the stroke ids to instances if "
            "each is one object.",
        )
    ndim = choose_ndim(annotations, config)
    spacing = typical_spacing(annotations.examples, axis_names.spatial(ndim))
    shape: dict[str, Any]
    if planned is None:
        shape = _for_strokes(spacing, ndim, config)
    else:
        shape = {
            "widths": planned.widths,
            "strides": planned.strides,
            "kernels": planned.kernels,
            "slope": _FULL_SLOPE,
        }
    architecture = UNetSpec(
        ndim=ndim,
        in_channels=count_channels(annotations.examples[0].stack, config),
        out_channels=3 if kind == "instances" else max(annotations.ids[-1], 2),
        **shape,
    )
    return ModelSpec(
        name="from strokes" if planned is None else "from labels",
        architecture=architecture.model_dump(mode="json"),
        ndim=ndim,
        in_channels=architecture.in_channels,
        out_channels=architecture.out_channels,
        task="instances" if kind == "instances" else "semantic",
        smallest=_smallest(annotations, kind, ndim) if planned else 0,
        class_names=_names(kind, architecture.out_channels),
        normalization=(normalization(config),),
        spacing=spacing,
    )


def normalization(config: FinetuneConfig) -> Normalization:
    """Intensity scaling of a new network: percentiles unless set."""
    kind = "percentile" if config.normalize == "auto" else config.normalize
    return Normalization(kind=kind)


def count_channels(stack: ImageStack, config: FinetuneConfig) -> int:
    """How many channels of an image feed the network."""
    if config.channels is None:
        return stack.channels
    if not config.channels or not all(0 <= c < stack.channels for c in config.channels):
        raise UsageError(
            f"The channels asked for are not in the image {stack.name}",
            found=f"channels {list(config.channels)}",
            expected=f"numbers from 0 to {stack.channels - 1}",
        )
    return len(config.channels)


def check_fit(
    annotations: AnnotationSet, kind: Kind, spec: ModelSpec, config: FinetuneConfig
) -> None:
    """Refuse images and strokes that do not fit the network.

    Raises
    ------
    ModelError
        If an image has another number of channels.
    StrokesError
        If more classes are painted than the network knows, or a single one.
    """
    for example in annotations.examples:
        found = count_channels(example.stack, config)
        if found != spec.in_channels:
            raise ModelError(
                f"The image {example.stack.name} does not fit the model {spec.name}",
                found=f"{found} channels",
                expected=str(spec.in_channels),
                hint="Choose the channels that feed the network.",
            )
    if kind == "classes":
        _check_classes(annotations.ids, spec)


def unpainted(ids: Sequence[int]) -> str:
    """Say which classes below the largest are not painted, nothing if none."""
    missing = sorted(set(range(1, ids[-1])) - set(ids))
    if not missing:
        return ""
    word = ", ".join(map(str, missing))
    return f"Classes {word} are not painted: nothing teaches the network what they are."


def _check_classes(ids: Sequence[int], spec: ModelSpec) -> None:
    """Refuse one class, or a class without an output channel."""
    if len(ids) < 2:
        raise StrokesError(
            "A single class is painted",
            found=f"only id {ids[0]}",
            expected="two classes at least",
            hint="Paint some background with 1 and some objects with 2.",
        )
    known = 2 if spec.task == "instances" else spec.out_channels
    known += not exclusive(spec)
    if ids[-1] > known:
        raise StrokesError(
            f"More classes are painted than the model {spec.name} has",
            found=f"class {ids[-1]}",
            expected=f"1 to {known}",
            hint="Paint only these classes, or train a new network from scratch.",
        )


@dataclass(frozen=True)
class Batch:
    """Shape of a training batch.

    Attributes
    ----------
    patch : tuple of int
        Size of the input patches.
    margin : tuple of int
        What the network takes off each side.
    size : int
        Patches in a batch.
    """

    patch: tuple[int, ...]
    margin: tuple[int, ...]
    size: int


def plan_batch(
    geometry: Geometry,
    spec: ModelSpec,
    sizes: Mapping[str, int],
    wanted: tuple[int, ...] | None,
    complete: bool = False,
    batch: int | None = None,
) -> Batch:
    """Choose the patch.

    Parameters
    ----------
    geometry : Geometry
        Of the network: sizes that it takes.
    spec : ModelSpec
        Of the network.
    sizes : mapping
        Largest image size by axis; patches are no larger than need be.
    wanted : tuple of int, optional
        Patch asked for, one number or one per axis.
    complete : bool
        Whether the labels are complete, so that larger patches pay.
    batch : int, optional
        Patches asked for.

    Raises
    ------
    UsageError
        If `wanted` has the wrong number of sizes.
    """
    flat = spec.ndim == 3 and not is_solid(spec.spacing)
    check_sides(wanted, spec.ndim, "patch size")
    solid, thin = (
        (_PATCH, _FLAT_PATCH) if complete else (_STROKE_PATCH, _FLAT_STROKE_PATCH)
    )
    sides = wanted or (thin if flat else solid[spec.ndim])
    sides = sides * spec.ndim if len(sides) == 1 else sides
    limits = [sizes.get(a, 1) for a in spec.spatial]
    output = [
        _fitting(min(side, limit), stride, rest)
        for side, limit, stride, rest in zip(
            sides, limits, geometry.stride, geometry.remainder, strict=True
        )
    ]
    patch = tuple(o + 2 * m for o, m in zip(output, geometry.margin, strict=True))
    pixels = (_BATCH_PIXELS if complete else _STROKE_PIXELS)[spec.ndim]
    size = round(pixels / math.prod(output))
    return Batch(patch, geometry.margin, batch or min(max(size, 2), 16))


def is_solid(spacing: Mapping[str, float]) -> bool:
    """Whether pixels are known to be about as long along Z as along X."""
    z, x = spacing.get("Z"), spacing.get("X")
    return z is not None and x is not None and 1 / _FLAT <= z / x <= _FLAT


def _fitting(wanted: int, stride: int, remainder: int) -> int:
    """Least length of at least `wanted` that the network can give."""
    return wanted + (remainder - wanted) % stride


def _for_strokes(
    spacing: Mapping[str, float], ndim: int, config: FinetuneConfig
) -> dict[str, Any]:
    """Shape of a network that learns from strokes."""
    wishes = wishes_of(config, ndim)
    ratio = spacing.get("Z", 1.0) / spacing.get("X", 1.0)
    if wishes.poolings is None:
        depth = config.depth or 2
        flat = [ndim == 3 and ratio / 2**n > _FLAT for n in range(depth + 1)]
        strides = tuple((1 if f else 2, 2, 2)[-ndim:] for f in flat[:-1])
        kernels = tuple((1 if f else 3, 3, 3)[-ndim:] for f in flat)
    else:
        strides, kernels = levels((1,) * ndim, (ratio, 1.0, 1.0)[-ndim:], None, wishes)
    width = config.width or (16 if ndim == 2 else 8)
    return {
        "widths": tuple(width * 2**n for n in range(len(kernels))),
        "strides": strides,
        "kernels": kernels,
        "upsampling": "linear",
        "slope": _SLOPE,
    }


def _smallest(annotations: AnnotationSet, kind: Kind, ndim: int) -> int:
    """Pixels that an object has at least, 0 for classes."""
    if kind == "classes":
        return 0
    return small_object(annotations, axis_names.spatial(ndim))


def _names(kind: Kind, channels: int) -> tuple[str, ...]:
    if kind == "instances":
        return ("background", "interior", "boundary")
    return ("background", *(f"class {n}" for n in range(2, channels + 1)))
