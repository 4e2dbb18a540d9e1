"""Volumes for networks that were trained with a fixed procedure around them.

The procedure is that of nnU-Net v2 (nnunetv2 2.8.1; Isensee et al., Nature Methods
2021): the axes are put in order, the volume is cropped to what is not zero, scaled,
resampled to the pixel size of the training, cut into overlapping patches whose logits
are weighted with a Gaussian and averaged over flips, and the logits go all the way
back. Such a volume is held in memory as a whole, as nnU-Net does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes, gaussian_filter

from napari_unet.errors import ModelError, UsageError
from napari_unet.events import Progress, Stopped, Warned
from napari_unet.images import checks
from napari_unet.inference.resampling import resample, separate_axis
from napari_unet.networks.device import free_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_unet.events import CancelToken, Event
    from napari_unet.images.intensity import Normalization
    from napari_unet.images.stack import ImageStack
    from napari_unet.networks.network import Network
    from napari_unet.networks.recipe import Recipe

_MILLIMETRES = {
    **{"m": 1e3, "cm": 10.0, "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0},
    **{"µm": 1e-3, "um": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "nm": 1e-6},
    **{"μm": 1e-3, "micrometre": 1e-3, "nanometer": 1e-6},
}
_SURE = 20.0
"""Logit of what lies outside the crop: surely background."""
_FARTHEST = 16.0
_LEAST = 1e-8
_COPIES = 6


def spacing_of(
    stack: ImageStack, axes: str, recipe: Recipe
) -> tuple[tuple[float, ...] | None, str]:
    """Return the pixel size of an image in the unit of a recipe, and a warning.

    The recipe has millimetres, or whatever numbers its training images had. None where
    the image does not tell its pixel size.

    Raises
    ------
    ModelError
        If image and recipe are so far apart that one of them must be wrong.
    """
    if not recipe.spacing:
        return None, ""
    if any(a not in stack.scale for a in axes):
        return None, (
            f"{stack.name} does not tell its pixel size; it is taken to be that of the "
            "training images"
        )
    plain = tuple(float(stack.scale[a]) for a in axes)
    known = [_MILLIMETRES.get(stack.units.get(a, "").lower()) for a in axes]
    wanted = recipe.spacing
    if all(known):
        sizes = tuple(p * (k or 1.0) for p, k in zip(plain, known, strict=True))
        if _is_near(sizes, wanted):
            return sizes, ""
    if _is_near(plain, wanted):
        return plain, (
            f"The pixel size of {stack.name} is compared with that of the training "
            "images number by number, whatever their units"
        )
    found = (f"{plain[n]:g} {stack.units.get(a, '')}" for n, a in enumerate(axes))
    raise ModelError(
        f"The pixel sizes of {stack.name} and of the training do not go together",
        found=" x ".join(found),
        expected=f"about {' x '.join(f'{w:g}' for w in wanted)} mm",
        hint="Correct the scale of the image.",
    )


def _is_near(sizes: Sequence[float], wanted: Sequence[float]) -> bool:
    pairs = list(zip(sizes[-len(wanted) :], wanted, strict=True))
    return all(1 / _FARTHEST < s / w < _FARTHEST for s, w in pairs)


@dataclass
class Prepared:
    """Runs a network with its recipe over one volume after another.

    Attributes
    ----------
    network : Network
        Placed on its device.
    original : Network
        Placed on the CPU instead when the device's memory is too small.
    norms : sequence of Normalization
        One for all channels or one for each.
    spacing : tuple of float, optional
        Pixel size of the volumes along Z, Y and X; they are not resampled without.
    cancel : CancelToken
        Checked between patches.
    notes : list of str
        Warnings that were not told yet.
    """

    network: Network
    original: Network
    norms: Sequence[Normalization]
    spacing: tuple[float, ...] | None
    cancel: CancelToken
    notes: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Recipe:
        """What to do."""
        assert self.original.spec.recipe is not None
        return self.original.spec.recipe

    def run(
        self, volume: np.ndarray, frame: int, frames: int
    ) -> Iterator[Event | np.ndarray]:
        """Yield events, and at last the logits of a volume.

        Parameters
        ----------
        volume : numpy.ndarray, shape (C, Z, Y, X)
            Pixels as stored; Z may be 1.
        frame, frames : int
            Number of the volume and how many there are, for the progress.

        Yields
        ------
        Event
            Progress and warnings.
        numpy.ndarray of float32, shape (out_channels, Z, Y, X)
            Last.
        """
        recipe = self.recipe
        order = recipe.transpose or (0, 1, 2)
        pixels = volume.astype(np.float32).transpose(0, *(a + 1 for a in order))
        if not np.isfinite(pixels).all():
            raise checks.not_finite("The image", "a part of it")
        crop, mask = _crop(pixels, wanted=recipe.crop_to_nonzero)
        cropped = pixels[(slice(None), *crop)].copy()
        self._normalise(cropped, mask[crop])
        old, new = self._spacings(order)
        shape = _shape(cropped.shape[1:], old, new)
        self._check_memory(len(volume), shape, volume.shape[1:])
        axis = separate_axis(old, new, recipe.separate_z)
        data = resample(
            cropped, shape, order=recipe.order_data, axis=axis, order_z=recipe.order_z
        )
        logits = np.empty(0)
        for event in self._patches(data, frame, frames):
            if isinstance(event, np.ndarray):
                logits = event
            else:
                yield event
        logits = resample(
            logits,
            cropped.shape[1:],
            order=recipe.order_logits,
            axis=separate_axis(new, old, recipe.separate_z),
            order_z=recipe.order_z,
        )
        whole = self._background(pixels.shape[1:])
        whole[(slice(None), *crop)] = logits
        yield np.ascontiguousarray(
            whole.transpose(0, *(int(a) + 1 for a in np.argsort(order)))
        )

    def _normalise(self, pixels: np.ndarray, mask: np.ndarray) -> None:
        """Scale the channels in place."""
        norms = list(self.norms) * (len(pixels) if len(self.norms) == 1 else 1)
        for channel, norm in zip(pixels, norms, strict=True):
            _scale(channel, norm, mask)

    def _spacings(self, order: Sequence[int]) -> tuple[list[float], list[float]]:
        """Return the pixel sizes before and after, in the order of the network."""
        if self.spacing is None:
            return [1.0] * 3, [1.0] * 3
        old = [self.spacing[a] for a in order]
        new = [*old[: 3 - len(self.recipe.spacing)], *self.recipe.spacing]
        return old, new

    def _patches(
        self, data: np.ndarray, frame: int, frames: int
    ) -> Iterator[Event | np.ndarray]:
        """Yield progress, and at last the averaged logits of the resampled volume."""
        patch = (1,) * (3 - len(self.recipe.patch)) + self.recipe.patch
        sides = [_sides(p, n) for p, n in zip(patch, data.shape[1:], strict=True)]
        padded = np.pad(data, [(0, 0), *sides])
        starts = [
            _starts(n, p, self.recipe.overlap)
            for n, p in zip(padded.shape[1:], patch, strict=True)
        ]
        out_channels = self.network.spec.out_channels
        total = np.zeros((out_channels, *padded.shape[1:]), np.float32)
        weight = np.zeros(padded.shape[1:], np.float32)
        corners = list(itertools.product(*starts))
        for done, corner in enumerate(corners, 1):
            if self.cancel.is_set():
                raise Stopped(f"stopped after {done - 1} of {len(corners)} patches")
            box = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
            logits = self._mirrored(padded[(slice(None), *box)])
            total[(slice(None), *box)] += logits * self._window
            weight[box] += self._window
            yield from (Warned(note) for note in self.notes)
            self.notes.clear()
            yield Progress(
                frame * len(corners) + done, frames * len(corners), "patches"
            )
        total /= weight
        lengths: tuple[int, ...] = weight.shape
        inner = [slice(a, n - b) for (a, b), n in zip(sides, lengths, strict=True)]
        yield total[(slice(None), *inner)]

    def _mirrored(self, pixels: np.ndarray) -> np.ndarray:
        """Return the logits of a patch, averaged over its flips."""
        image = torch.from_numpy(np.ascontiguousarray(pixels))
        image = image.reshape(1, len(pixels), *self.recipe.patch)
        axes = self.recipe.mirror
        flips = [
            [axis + 2 for axis in some]
            for n in range(len(axes) + 1)
            for some in itertools.combinations(axes, n)
        ]
        found = [self._forward(image.flip(f)).flip(f).cpu() for f in flips]
        mean: np.ndarray = torch.stack(found).mean(0).numpy()
        return mean.reshape(-1, *pixels.shape[1:])

    def _forward(self, image: torch.Tensor) -> torch.Tensor:
        """Run the network; on the CPU from when the device's memory is too small."""
        try:
            return self.network(image)
        except torch.OutOfMemoryError:
            if self.network.device.type == "cpu":
                raise
        self.network = self.original.place("cpu", "float32")
        torch.cuda.empty_cache()
        self.notes.append("The memory of the GPU is too small; the CPU goes on")
        return self.network(image)

    @cached_property
    def _window(self) -> np.ndarray:
        """Gaussian weights of a patch, (Z, Y, X), never 0."""
        patch = self.recipe.patch
        peak = np.zeros(patch)
        peak[tuple(n // 2 for n in patch)] = 1
        window = gaussian_filter(peak, [n / 8 for n in patch], 0, mode="constant")
        window = (window / (window.max() / 10)).astype(np.float16)
        window[window == 0] = window[window != 0].min()
        shape = (1,) * (3 - len(patch)) + patch
        weights: np.ndarray = window.astype(np.float32).reshape(shape)
        return weights

    def _background(self, shape: Sequence[int]) -> np.ndarray:
        """Logits of a volume of nothing, (out_channels, Z, Y, X)."""
        whole = np.full((self.original.spec.out_channels, *shape), -_SURE, np.float32)
        if not self.recipe.region_labels and self.original.spec.activation == "softmax":
            whole[0] = _SURE
        return whole

    def _check_memory(
        self, channels: int, shape: Sequence[int], original: Sequence[int]
    ) -> None:
        """Refuse a volume that surely does not fit."""
        out = self.original.spec.out_channels
        voxels = max(int(np.prod(shape)), int(np.prod(original)))
        needed = 4 * voxels * (_COPIES * channels + 2 * out)
        free = free_memory(torch.device("cpu"))
        if needed > free:
            raise UsageError(
                f"The model {self.original.spec.name} needs whole volumes in memory",
                found=f"{free / 1e9:.1f} GB free",
                expected=f"about {needed / 1e9:.0f} GB for {voxels:,} voxels",
                hint="Cut the volume into parts, or use a machine with more memory.",
            )


def region_labels(logits: torch.Tensor, labels: Sequence[int]) -> torch.Tensor:
    """Paint labels one after another where their channel is over 0.5.

    Parameters
    ----------
    logits : torch.Tensor
        (C, *spatial).
    labels : sequence of int
        One for each channel.
    """
    painted = torch.zeros(logits.shape[1:], dtype=torch.int64, device=logits.device)
    for channel, label in zip(logits, labels, strict=True):
        painted[channel > 0] = label
    return painted


def _crop(pixels: np.ndarray, *, wanted: bool) -> tuple[tuple[slice, ...], np.ndarray]:
    """Return the box of what is not zero in any channel, and its mask, holes filled."""
    mask = (pixels != 0).any(0)
    filled: np.ndarray = binary_fill_holes(mask)
    if not wanted or not filled.any():
        return (slice(None),) * filled.ndim, filled
    places = (
        np.nonzero(filled.any(tuple(b for b in range(filled.ndim) if b != a)))[0]
        for a in range(filled.ndim)
    )
    return tuple(slice(int(p[0]), int(p[-1]) + 1) for p in places), filled


def _scale(channel: np.ndarray, norm: Normalization, mask: np.ndarray) -> None:
    """Scale one channel in place as nnU-Net does."""
    if norm.kind == "ct":
        channel.clip(norm.clip_low, norm.clip_high, out=channel)
        channel -= norm.mean
        channel /= max(norm.std, _LEAST)
    elif norm.kind == "zscore" and norm.masked:
        inside = channel[mask]
        channel[mask] = (inside - inside.mean()) / max(inside.std(), _LEAST)
        channel[~mask] = 0
    elif norm.kind == "zscore":
        channel -= channel.mean()
        channel /= max(channel.std(), _LEAST)
    elif norm.kind == "minmax":
        channel -= channel.min()
        channel /= max(channel.max(), _LEAST)
    elif norm.kind == "linear":
        channel *= norm.gain
        channel += norm.offset
    elif norm.kind == "percentile":
        low, high = np.percentile(channel, [norm.low, norm.high])
        channel -= low
        channel /= max(high - low, _LEAST)


def _shape(
    shape: Sequence[int], old: Sequence[float], new: Sequence[float]
) -> tuple[int, ...]:
    """Return the shape at another pixel size."""
    trios = zip(shape, old, new, strict=True)
    return tuple(max(1, round(n * a / b)) for n, a, b in trios)


def _sides(patch: int, length: int) -> tuple[int, int]:
    """Return how much is added before and after to fill a patch."""
    lack = max(patch - length, 0)
    return lack // 2, lack - lack // 2


def _starts(length: int, patch: int, overlap: float) -> list[int]:
    """Return the first pixel of each patch along an axis, evenly spread."""
    steps = int(np.ceil((length - patch) / (patch * (1 - overlap)))) + 1
    if steps == 1:
        return [0]
    return [round((length - patch) / (steps - 1) * n) for n in range(steps)]


def frame_of(
    stack: ImageStack,
    channels: Sequence[int],
    spatial: str,
    position: Mapping[str, int],
) -> np.ndarray:
    """Read a volume, (C, Z, Y, X); Z is 1 where the image has none."""
    box: dict[str, int | slice] = {**position, "C": slice(None)}
    pixels = stack.read(box, f"C{spatial}")[list(channels)]
    return pixels if len(spatial) == 3 else pixels[:, None]
