"""Augmentation: patches flipped, turned, scaled, bent and re-lit.

All geometry is one map of points, so image and targets are interpolated once and with
the same map (Ronneberger et al. 2015 for the elastic deformation: random displacements
on a coarse grid, smoothly interpolated). All random numbers come from one generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

_COARSE = 32  # pixels between the displacements of the coarse grid
_PIECE = 12  # pixels between the random values that shape the pieces of a blend
_LEAN = math.pi / 12  # most turn of an image that keeps its orientation
_BEND = 3.0  # deviation of these displacements, in pixels


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a patch.

    Attributes
    ----------
    geometry, light : bool
        Whether to change shapes and intensities.
    solid : bool
        Whether a volume may be turned out of the YX plane, for isotropic pixels.
    mixed : float
        Chance with which the patches of a batch are mixed, see `blend`.
    upright : bool
        Whether images keep their orientation: no flips, and turns of 15 degrees.
    """

    geometry: bool = True
    light: bool = True
    solid: bool = False
    mixed: float = 1.0
    upright: bool = False


def points(
    shape: tuple[int, ...],
    centre: tuple[float, ...],
    how: Augmentation,
    generator: torch.Generator,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Where the pixels of a patch come from.

    Parameters
    ----------
    shape : tuple of int
        Size of the patch.
    centre : tuple of float
        Its centre in pixels of the block.
    how : Augmentation
        What may happen.
    generator : torch.Generator
        Source of all random numbers, on the CPU.
    device : torch.device, optional
        Where the result is computed; the CPU when not given.

    Returns
    -------
    torch.Tensor
        float32, (*shape, axes), pixel coordinates in the order of the axes.
    """
    steps = [
        torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in shape
    ]
    grid = torch.stack(torch.meshgrid(*steps, indexing="ij"), -1)
    if how.geometry:
        grid = grid @ _turn(len(shape), how, generator).T.to(device)
        if by_chance(0.5, generator):
            grid = grid + _bend(shape, generator, device)
    return grid + torch.tensor(centre, dtype=torch.float32, device=device)


def warp(
    image: torch.Tensor, target: torch.Tensor, where: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take a patch out of a block.

    Parameters
    ----------
    image : torch.Tensor
        float32, (C, *spatial); mirrored beyond its edges.
    target : torch.Tensor
        float32, (*spatial) or several maps (K, *spatial); 0, unknown, beyond its edges.
    where : torch.Tensor
        From `points`.

    Returns
    -------
    tuple of torch.Tensor
        The image (C, *shape), bilinear, and the target (*shape) or (K, *shape),
        nearest.
    """
    size = torch.tensor(image.shape[1:], dtype=torch.float32, device=image.device)
    unit = 2 * where / (size - 1).clamp(min=1) - (size > 1).float()
    grid = unit.flip(-1)[None]
    seen = functional.grid_sample(
        image[None], grid, "bilinear", "reflection", align_corners=True
    )
    maps = target.reshape(-1, *image.shape[1:])
    known = functional.grid_sample(
        maps[None], grid, "nearest", "zeros", align_corners=True
    )
    return seen[0], known[0].reshape(*target.shape[: 1 - image.ndim], *where.shape[:-1])


def relight(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change contrast, brightness and sharpness a little and add noise, by chance.

    Parameters
    ----------
    image : torch.Tensor
        float32, (C, *shape), normalised.
    generator : torch.Generator
        Source of all random numbers.
    """
    spread = image.std().clamp(min=1e-3)
    if by_chance(0.5, generator):
        middle = image.mean()
        image = (image - middle) * _between(0.9, 1.1, generator) + middle
        image = image + spread * _between(-0.05, 0.05, generator)
    if by_chance(0.5, generator):
        image = _blur(image, _between(0.3, 1.5, generator))
    if by_chance(0.3, generator):
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        image = image + noise * spread * _between(0.0, 0.15, generator)
    return image


def blend(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each patch of a batch with the next one.

    Strokes are few and hardly ever reach the edge of an object, so a network soon knows
    them by heart from what lies around them. Pieces of the next patch, pasted with
    their targets, change what lies around (as CutMix, Yun et al., ICCV 2019, with
    irregular pieces); the rest of the next patch, laid over faintly, fills the range of
    values between object and background (as mixup, Zhang et al., ICLR 2018, with the
    target of the stronger patch).

    Parameters
    ----------
    images : torch.Tensor
        float32, (N, C, *patch).
    targets : torch.Tensor
        (N, *patch), or several maps (N, K, *patch).
    generator : torch.Generator
        Source of all random numbers.

    Returns
    -------
    tuple of torch.Tensor
        Images and targets of the same shapes.
    """
    number, shape = len(images), tuple(images.shape[2:])
    coarse = tuple(max(n // _PIECE, 2) for n in shape)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    device = images.device
    field = torch.randn((number, 1, *coarse), generator=generator).to(device)
    pasted = functional.interpolate(field, shape, mode=mode) > 1
    draws = torch.rand((2, number), generator=generator)
    faint = torch.where(draws[0] < 0.8, draws[1] / 2, torch.zeros(()))
    faint = faint.reshape(-1, *(1,) * (images.ndim - 1)).to(device)
    share = torch.where(pasted, torch.ones((), device=device), faint)
    mixed = images * (1 - share) + images.roll(1, 0) * share
    if targets.ndim < images.ndim:
        pasted = pasted[:, 0]
    return mixed, torch.where(pasted, targets.roll(1, 0), targets)


def _turn(ndim: int, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Random flips, rotation and scaling as a matrix of (ndim, ndim)."""
    flips = torch.randint(0, 2, (ndim,), generator=generator) * 2.0 - 1
    matrix = torch.eye(ndim) if how.upright else torch.diag(flips)
    planes = [(ndim - 2, ndim - 1)]
    if how.solid and ndim == 3:
        planes = [(0, 1), (0, 2), (1, 2)]
    quarter = by_chance(0.5, generator)
    for plane in planes:
        angle = _between(0.0, 2 * math.pi, generator)
        if how.upright:
            angle = _LEAN * (angle / math.pi - 1)
        elif quarter:
            angle = math.pi / 2 * math.floor(angle / (math.pi / 2))
        matrix = _rotation(ndim, plane, angle) @ matrix
    zoom = torch.full((ndim,), math.exp(_between(-0.3, 0.3, generator)))
    if ndim == 3 and not how.solid:
        zoom[0] = 1.0
    return zoom[:, None] * matrix


def _rotation(ndim: int, plane: tuple[int, int], angle: float) -> torch.Tensor:
    """Turn in one plane."""
    a, b = plane
    matrix = torch.eye(ndim)
    matrix[a, a] = matrix[b, b] = round(math.cos(angle), 6)
    matrix[a, b], matrix[b, a] = -round(math.sin(angle), 6), round(math.sin(angle), 6)
    return matrix


def _bend(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device | None
) -> torch.Tensor:
    """Smooth random displacement in pixels, (*shape, axes)."""
    coarse = tuple(max(n // _COARSE, 1) + 3 for n in shape)
    ndim = len(shape)
    shifts = torch.randn((1, ndim, *coarse), generator=generator)
    if ndim == 3:
        shifts[:, 0] *= 0.25
    shifts = shifts.to(device)
    # A margin of coarse points keeps the edge of the patch as free as its middle.
    mode = "bicubic" if ndim == 2 else "trilinear"
    wide = tuple(math.ceil(n * c / (c - 2)) for n, c in zip(shape, coarse, strict=True))
    smooth = functional.interpolate(shifts, wide, mode=mode, align_corners=True)[0]
    for axis, (w, n) in enumerate(zip(wide, shape, strict=True), start=1):
        smooth = smooth.narrow(axis, (w - n) // 2, n)
    bent = smooth.movedim(0, -1) * _BEND * _between(0.2, 1.0, generator)
    return bent


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur along Y and X."""
    offsets = torch.arange(-8, 9, dtype=torch.float32, device=image.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    planes = image.reshape(-1, 1, *image.shape[-2:])
    rows = functional.conv2d(_mirror(planes, 0), kernel[None, None, :, None])
    both = functional.conv2d(_mirror(rows, 1), kernel[None, None, None, :])
    return both.reshape(image.shape)


def _mirror(planes: torch.Tensor, axis: int) -> torch.Tensor:
    """Pad Y (0) or X (1) by eight pixels."""
    pad = (0, 0, 8, 8) if axis == 0 else (8, 8, 0, 0)
    return functional.pad(planes, pad, mode="replicate")


def by_chance(share: float, generator: torch.Generator) -> bool:
    """Draw whether something happens that does in a share of all cases."""
    return float(torch.rand((), generator=generator)) < share


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
