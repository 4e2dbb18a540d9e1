"""The way of a volume to the pixel size of a network, and of what it finds back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.inference.recipes.foreground import normalise
from napari_unet.inference.recipes.pixel_size import new_shape
from napari_unet.inference.recipes.resampling import resample, separate_axis
from napari_unet.networks.activations import logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.images.intensity import Normalization
    from napari_unet.networks.recipe import Recipe


@dataclass(frozen=True)
class Passage:
    """Scaling and resampling in the order of a procedure.

    Attributes
    ----------
    recipe : Recipe
        Names the procedure and the splines.
    old, new : list of float
        Pixel size of the volume and of the network, in the order of the network's axes.
    """

    recipe: Recipe
    old: list[float]
    new: list[float]

    def shape(self, cropped: Sequence[int]) -> tuple[int, ...]:
        """Return the shape at the network's pixel size."""
        return new_shape(cropped, self.old, self.new)

    def into(
        self, data: np.ndarray, mask: np.ndarray, norms: Sequence[Normalization]
    ) -> np.ndarray:
        """Return a cropped volume as the network takes it.

        Parameters
        ----------
        data : numpy.ndarray of float32, shape (C, *spatial)
            Is overwritten.
        mask : numpy.ndarray of bool, shape (*spatial)
            Where masked statistics are taken.
        norms : sequence of Normalization
            One for all channels, or one for each.
        """
        recipe, shape = self.recipe, self.shape(mask.shape)
        axis = separate_axis(self.old, self.new, recipe.separate_z)
        to_shape = partial(resample, shape=shape, axis=axis, order_z=recipe.order_z)
        if recipe.procedure == "nnunet_v2":
            normalise(data, norms, mask)
            return to_shape(data, order=recipe.order_data)
        data = to_shape(data, order=recipe.order_data)
        inside = to_shape(mask[None].astype(np.float32), order=1)[0] >= 0.5
        normalise(data, norms, inside)
        return data

    def back(
        self, found: np.ndarray, cropped: Sequence[int], activation: str
    ) -> np.ndarray:
        """Return logits of the cropped volume.

        Parameters
        ----------
        found : numpy.ndarray of float32, shape (C, *spatial)
            What the procedure averages: logits, or probabilities in version 1.
        cropped : sequence of int
            Spatial shape of the volume.
        activation : {"softmax", "sigmoid", "none"}
            Of the network.
        """
        recipe = self.recipe
        found = resample(
            *(found, cropped),
            order=recipe.order_logits,
            axis=self._axis_back(),
            order_z=recipe.order_z,
        )
        if recipe.procedure == "nnunet_v2":
            return found
        logits: np.ndarray = logits_of(torch.from_numpy(found), activation).numpy()
        return logits

    def _axis_back(self) -> int | None:
        """Return the axis along which results are resampled apart."""
        wish, order = self.recipe.separate_z, self.recipe.transpose
        if self.recipe.procedure == "nnunet_v2":
            return separate_axis(self.new, self.old, wish)
        axis = separate_axis(self.old, self.new, wish)
        if axis is None or not order or separate_axis(self.old, self.old, wish) == axis:
            return axis
        # version 1 looks the axis up in the order of the network, and uses its number
        # in the order of the image
        return order.index(axis)
