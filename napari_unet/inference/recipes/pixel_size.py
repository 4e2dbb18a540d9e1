"""The pixel size of an image in the unit of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.recipe import Recipe

Spacing = tuple[float, float, float]

_MILLIMETRES = {
    **{"m": 1e3, "cm": 10.0, "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0},
    **{"µm": 1e-3, "um": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "nm": 1e-6},
    **{"μm": 1e-3, "micrometre": 1e-3, "nanometer": 1e-6, "in": 25.4, "å": 1e-7},
}
_FARTHEST = 16.0
_APART = 999.0
"""Distance of slices where there is none, in pixels; that of nnU-Net's readers."""


def spacing_of(
    stack: ImageStack, axes: str, recipe: Recipe
) -> tuple[Spacing | None, str]:
    """Return the pixel size of an image in the unit of a recipe, and a warning.

    The recipe has millimetres, or whatever numbers its training images had. Only the
    axes that the recipe resamples are needed; a distance of slices that is not known
    is taken to be large.

    Parameters
    ----------
    stack : ImageStack
        The image.
    axes : str
        Its spatial axes, ``"YX"`` or ``"ZYX"``.
    recipe : Recipe
        Its `spacing` is in the order of the network's axes.

    Returns
    -------
    spacing : tuple of float or None
        Along Z, Y and X; None where the image does not tell it.
    note : str
        What the user should know, or empty.

    Raises
    ------
    ModelError
        If image and recipe are so far apart that one of them must be wrong.
    """
    if not recipe.spacing:
        return None, ""
    order = recipe.transpose or (0, 1, 2)
    wanted = {
        "ZYX"[axis]: size
        for axis, size in zip(
            order[-len(recipe.spacing) :], recipe.spacing, strict=True
        )
    }
    plain = {a: float(stack.scale[a]) for a in axes if a in stack.scale}
    if not wanted.keys() <= plain.keys():
        return None, (
            f"{stack.name} does not tell its pixel size; it is taken to be that of the "
            "training images"
        )
    factors = {a: _MILLIMETRES.get(stack.units.get(a, "").lower()) for a in plain}
    converted = {a: plain[a] * f for a, f in factors.items() if f is not None}
    if _is_near(converted, wanted):
        return _filled(converted, wanted), ""
    if _is_near(plain, wanted):
        return _filled(plain, wanted), (
            f"The pixel size of {stack.name} is compared with that of the training "
            "images number by number, whatever their units"
        )
    found = (f"{a} {plain[a]:g} {stack.units.get(a, '')}".rstrip() for a in wanted)
    raise ModelError(
        f"The pixel sizes of {stack.name} and of the training do not go together",
        found=", ".join(found),
        expected="about " + ", ".join(f"{a} {w:g} mm" for a, w in wanted.items()),
        hint="Correct the scale of the image.",
    )


def new_shape(
    shape: Sequence[int], old: Sequence[float], new: Sequence[float]
) -> tuple[int, ...]:
    """Return the shape at another pixel size.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape at the pixel size `old`.
    old, new : sequence of float
        Pixel sizes, one per axis.
    """
    trios = zip(shape, old, new, strict=True)
    # in this order: another one rounds otherwise, and the volume is a pixel longer
    return tuple(max(1, round(a / b * n)) for n, a, b in trios)


def _is_near(sizes: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    """Whether all wanted sizes are there, and similar."""
    return all(
        a in sizes and 1 / _FARTHEST < sizes[a] / size < _FARTHEST
        for a, size in wanted.items()
    )


def _filled(sizes: Mapping[str, float], wanted: Mapping[str, float]) -> Spacing:
    """Add the distance of slices where it is not known."""
    apart = _APART * max(sizes[a] for a in wanted)
    z, y, x = (sizes.get(a, apart) for a in "ZYX")
    return z, y, x
