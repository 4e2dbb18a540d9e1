"""Typical: the size of images, pixels and objects that a new network is planned for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.training.annotations import AnnotationSet, Example

_SMALL = 0.01  # share of the objects that are taken for slips of the hand
_LARGE = 0.9  # share of the objects that are no larger than a large one


def typical_size(examples: Sequence[Example], spatial: str) -> tuple[int, ...]:
    """Median size of the images along the spatial axes."""
    sizes = [[e.stack.sizes.get(axis, 1) for axis in spatial] for e in examples]
    return tuple(int(n) for n in np.median(sizes, axis=0))


def typical_spacing(examples: Sequence[Example], spatial: str) -> dict[str, float]:
    """Median length of a pixel along the spatial axes, of images that have them all."""
    known = [
        [float(e.stack.scale[axis]) for axis in spatial]
        for e in examples
        if all(axis in e.stack.scale for axis in spatial)
    ]
    if not known:
        return {}
    return dict(zip(spatial, np.median(known, axis=0).tolist(), strict=True))


def large_diameter(annotations: AnnotationSet) -> float | None:
    """Diameter in pixels that nine of ten numbered objects do not exceed.

    An object is a disc as large as its largest plane; id 1 is background.
    """
    areas = [max(planes) for planes in _areas(annotations, "Z").values()]
    if not areas:
        return None
    return 2 * math.sqrt(float(np.quantile(areas, _LARGE)) / math.pi)


def small_object(annotations: AnnotationSet, spatial: str) -> int:
    """Half the pixels of the smallest numbered objects, but for 1 in 100 of them."""
    sizes = [sum(planes) for planes in _areas(annotations, spatial).values()]
    return int(np.quantile(sizes, _SMALL) / 2) if sizes else 0


def _areas(
    annotations: AnnotationSet, spatial: str
) -> dict[tuple[object, ...], list[int]]:
    """Area of each object on each of its planes; objects end where `spatial` does."""
    areas: dict[tuple[object, ...], list[int]] = {}
    for plane in annotations.planes:
        frame = [(a, n) for a, n in sorted(plane.index.items()) if a not in spatial]
        for number, area in plane.counts.items():
            if number > 1:
                areas.setdefault((plane.example, *frame, number), []).append(area)
    return areas
