"""ImageStack: a lazy array whose axes have names, sizes and physical units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from napari_unet.images.checks import telling_read_errors
from napari_unet.images.regions import bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@runtime_checkable
class LazyArray(Protocol):
    """What an image must offer: a memmap, a zarr or dask array, a TIFF series."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the pixels."""
        ...

    def __getitem__(self, index: Any) -> Any:
        """Read a region given by integers and slices with step 1."""
        ...


@dataclass(frozen=True)
class ImageStack:
    """An image that is read region by region.

    Attributes
    ----------
    array : LazyArray
        The pixels, shape in the order of `axes`.
    axes : str
        One capital letter an axis, see `napari_unet.images.axes`. Never holds S.
    scale : mapping of str to float
        Physical size of a pixel along an axis; axes without an entry have none.
    units : mapping of str to str
        Unit of that size, such as ``"µm"`` or ``"s"``.
    name : str
        Short name for messages.
    source : str
        Path the image was read from, empty for an array in memory.
    channel_names : tuple of str
        Names of the channels, empty if unknown.
    notes : tuple of str
        What the user should know about how the file was read.
    """

    array: LazyArray
    axes: str
    scale: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    name: str = "image"
    source: str = ""
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    _close: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis, in the order of `axes`."""
        return tuple(int(n) for n in self.array.shape)

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis name."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels on disk."""
        stored = self.array.dtype  # tensorstore has a type of its own
        dtype: np.dtype[Any] = np.dtype(getattr(stored, "numpy_dtype", stored))
        return dtype

    @property
    def channels(self) -> int:
        """Number of channels; 1 where there is no C axis."""
        return self.sizes.get("C", 1)

    def read(self, index: Mapping[str, int | slice], order: str) -> np.ndarray:
        """Read a region into memory.

        Parameters
        ----------
        index : mapping of str to int or slice
            Region by axis name; an axis not named is read whole, an axis given an
            integer is dropped. Names the image does not have are ignored.
        order : str
            Axes of the answer. An axis of `order` that the image lacks has size 1.

        Returns
        -------
        numpy.ndarray
            Own contiguous copy in native byte order, dtype as on disk.

        Raises
        ------
        ImageError
            If the pixels cannot be decoded.
        IndexError
            If an integer lies outside its axis or a slice has a step.
        """
        asked = [index.get(a, slice(None)) for a in self.axes]
        parts = tuple(bounds(i, n) for i, n in zip(asked, self.shape, strict=True))
        dropped = {
            a
            for a, i in zip(self.axes, asked, strict=True)
            if not isinstance(i, slice) and a not in order
        }
        kept = [a for a in self.axes if a not in dropped]
        if missing := set(kept) - set(order):
            raise ValueError(f"axes {''.join(sorted(missing))} are not in {order}")
        sizes = {a: p.stop - p.start for a, p in zip(self.axes, parts, strict=True)}
        with telling_read_errors(self.name):
            block = np.asarray(self.array[parts])
            block = block.reshape([sizes[a] for a in kept])
        block = block.transpose([kept.index(a) for a in order if a in kept])
        block = block.reshape([sizes.get(a, 1) if a in kept else 1 for a in order])
        return np.array(block, dtype=self.dtype.newbyteorder("="), order="C")

    def close(self) -> None:
        """Let go of the file."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> ImageStack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
