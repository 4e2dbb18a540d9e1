"""Volumes for networks that were trained with a fixed procedure around them.

The procedure is that of nnU-Net v2 (nnunetv2 2.8.1; Isensee et al., Nature Methods
2021): the axes are put in order, the volume is cropped to what is not zero, scaled,
resampled to the pixel size of the training, cut into overlapping patches whose logits
are weighted with a Gaussian and averaged over flips, and the logits go all the way
back. Version 1 (nnunet 1.7.1) scales after it has resampled, and averages and resamples
probabilities, not logits. Such a volume is held in memory as a whole, as nnU-Net does.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.errors import UsageError
from napari_unet.events import Progress, Stopped, Warned
from napari_unet.images import checks
from napari_unet.inference.pipeline import Piece
from napari_unet.inference.recipes.foreground import crop
from napari_unet.inference.recipes.passage import Passage
from napari_unet.inference.recipes.patches import in_3d, patch_starts, sides, window
from napari_unet.inference.recipes.resampling import working_bytes
from napari_unet.inference.tiling import Span
from napari_unet.networks.device import free_memory
from napari_unet.tasks.task import probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.events import CancelToken, Event
    from napari_unet.images.intensity import Nan, Normalization
    from napari_unet.inference.backoff import Runner
    from napari_unet.networks.recipe import Recipe
    from napari_unet.networks.spec import ModelSpec

_SURE = 20.0
"""Logit of what lies outside the crop: surely background."""


@dataclass
class Prepared:
    """Runs a network with its recipe over one volume after another.

    Attributes
    ----------
    spec : ModelSpec
        Of the network, with its recipe.
    runner : Runner
        Gives the logits of a patch.
    norms : sequence of Normalization
        One for all channels or one for each.
    spacing : tuple of float, optional
        Pixel size of the volumes along Z, Y and X; they are not resampled without.
    cancel : CancelToken
        Checked between patches.
    nan : {"refuse", "zero"}
        What is done about NaN and infinite pixels.
    forward : int
        Bytes of main memory that a forward pass takes.
    """

    spec: ModelSpec
    runner: Runner
    norms: Sequence[Normalization]
    spacing: tuple[float, ...] | None
    cancel: CancelToken
    nan: Nan = "refuse"
    forward: int = 0
    recipe: Recipe = field(init=False)

    def __post_init__(self) -> None:
        assert self.spec.recipe is not None
        self.recipe = self.spec.recipe

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

        Raises
        ------
        UsageError
            If the volume does not fit in memory.
        ImageError
            If it has NaN or infinite pixels and those are refused.
        """
        recipe, order = self.recipe, self.recipe.transpose or (0, 1, 2)
        pixels = volume.astype(np.float32).transpose(0, *(a + 1 for a in order))
        del volume
        yield from self._repaired(pixels)
        whole = pixels.shape[1:]
        box, mask = crop(pixels, to_nonzero=recipe.crop_to_nonzero)
        data = pixels[(slice(None), *box)].copy()
        del pixels
        cropped = data.shape[1:]
        way = Passage(recipe, *self._spacings(order))
        shape = way.shape(cropped)
        self._check_memory(len(data), whole, cropped, shape)
        data = way.into(data, mask, self.norms)
        found = np.empty(0)
        for event in self._patches(data, frame, frames):
            if isinstance(event, np.ndarray):
                found = event
            else:
                yield event
        del data
        found = way.back(found, cropped, self.spec.activation)
        result = self._background(whole)
        result[(slice(None), *box)] = found
        del found
        yield result.transpose(0, *(int(a) + 1 for a in np.argsort(order)))

    @property
    def _is_first(self) -> bool:
        return self.recipe.procedure == "nnunet_v1"

    def _repaired(self, pixels: np.ndarray) -> Iterator[Event]:
        """Set NaN and infinite pixels to 0 and say so, or refuse them."""
        bad = ~np.isfinite(pixels)
        count = int(bad.sum())
        if count and self.nan == "refuse":
            raise checks.not_finite("The image", f"{count} of them in a volume")
        if count:
            pixels[bad] = 0
            yield Warned(f"{count} NaN or infinite pixels are taken as 0.")

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
        """Yield progress, and at last the averages for the resampled volume."""
        patch = in_3d(self.recipe.patch)
        around = [sides(p, n) for p, n in zip(patch, data.shape[1:], strict=True)]
        padded = np.pad(data, [(0, 0), *around]) if any(map(any, around)) else data
        starts = [
            patch_starts(n, p, self.recipe.overlap)
            for n, p in zip(padded.shape[1:], patch, strict=True)
        ]
        total = np.zeros((self.spec.out_channels, *padded.shape[1:]), np.float32)
        weight = np.zeros(padded.shape[1:], np.float32)
        corners = list(itertools.product(*starts))
        for done, corner in enumerate(corners, 1):
            if self.cancel.is_set():
                raise Stopped(f"stopped after {done - 1} of {len(corners)} patches")
            box = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
            logits = self._mirrored(padded[(slice(None), *box)])
            total[(slice(None), *box)] += logits * self._window
            weight[box] += self._window
            yield from (Warned(note) for note in self.runner.take_notes())
            yield Progress(
                frame * len(corners) + done, frames * len(corners), "patches"
            )
        total /= weight
        lengths: tuple[int, ...] = weight.shape
        inner = [slice(a, n - b) for (a, b), n in zip(around, lengths, strict=True)]
        yield total[(slice(None), *inner)]

    def _mirrored(self, pixels: np.ndarray) -> np.ndarray:
        """Return logits or probabilities of a patch, averaged over its flips."""
        patch, axes = self.recipe.patch, self.recipe.mirror
        image = pixels.reshape(len(pixels), *patch)
        spans = tuple(Span((0, n), (0, n)) for n in patch)
        flips = [
            tuple(axis + 1 for axis in some)
            for n in range(len(axes) + 1)
            for some in itertools.combinations(axes, n)
        ]
        mean = torch.zeros((self.spec.out_channels, *patch))
        for flip in flips:
            flipped = np.ascontiguousarray(np.flip(image, flip))
            (logits,) = self.runner([Piece({}, (), spans, flipped)])
            mean += self._averaged(logits.cpu()).flip(flip)
        mean /= len(flips)
        return mean.numpy().reshape(-1, *pixels.shape[1:])

    def _averaged(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what the procedure averages."""
        return probabilities(logits, self.spec.activation) if self._is_first else logits

    @cached_property
    def _window(self) -> np.ndarray:
        """Weights of a patch, (Z, Y, X)."""
        patch = self.recipe.patch
        return window(patch, rounded=not self._is_first).reshape(in_3d(patch))

    def _background(self, shape: Sequence[int]) -> np.ndarray:
        """Logits of a volume of nothing, (out_channels, Z, Y, X)."""
        whole = np.full((self.spec.out_channels, *shape), -_SURE, np.float32)
        if not self.recipe.region_labels and self.spec.activation == "softmax":
            whole[0] = _SURE
        return whole

    def _check_memory(
        self,
        channels: int,
        whole: Sequence[int],
        cropped: Sequence[int],
        resampled: Sequence[int],
    ) -> None:
        """Refuse a volume whose largest step surely does not fit."""
        filled = [
            max(n, p) for n, p in zip(resampled, in_3d(self.recipe.patch), strict=True)
        ]
        before, inside, after = map(math.prod, (whole, cropped, filled))
        out, recipe = self.spec.out_channels, self.recipe
        needed = max(
            4 * channels * (inside + after)
            + working_bytes(cropped, resampled, recipe.order_data),
            4 * (2 * channels + out + 1) * after + self.forward,
            4 * out * (inside + after)
            + working_bytes(resampled, cropped, recipe.order_logits),
            4 * out * (inside + before),
            4 * out * 3 * before,  # also as probabilities, and in the result's order
        )
        check_memory(needed, resampled, self.spec)


def check_memory(needed: int, shape: Sequence[int], spec: ModelSpec) -> None:
    """Refuse what takes more than the free memory.

    Raises
    ------
    UsageError
        With both figures.
    """
    free = free_memory(torch.device("cpu"))
    if needed > free:
        raise UsageError(
            f"The model {spec.name} needs whole volumes in memory",
            found=f"{free / 1e9:.1f} GB free",
            expected=f"{needed / 1e9:.1f} GB for {checks.describe(shape)} pixels",
            hint="Cut the volume into parts, or use a machine with more memory.",
        )
