"""How the failure of an image is recorded."""

from __future__ import annotations

import logging

from napari_unet.errors import (
    DeviceError,
    ImageError,
    OutputError,
    UNetError,
    UnreadableError,
)

_LOG = logging.getLogger(__name__)
MOST_DEATHS = 3
"""Processes that may die over one image before it is left out."""


class ChangedError(ImageError):
    """An image that was replaced while it was read."""


class PoisonError(UNetError):
    """Processes died over and over at the same part of an image.

    Attributes
    ----------
    deaths : int
        How many.
    """

    def __init__(self, deaths: int) -> None:
        super().__init__("The computing processes died over the same part of it")
        self.deaths = deaths


PASSING = (OutputError, DeviceError, MemoryError, ChangedError, UnreadableError)
"""What lies outside the image, or may be over at the next run."""


def poison(deaths: int) -> dict[str, object]:
    """Fields of the record of an image over which processes die."""
    return {
        "outcome": "failed",
        "reason": f"Over this image {deaths} computing processes died, so it is left "
        "out. --retry-failed tries it again; with less memory at stake with a smaller "
        "--tile.",
        "deaths": deaths,
    }


def failure(error: Exception) -> dict[str, object]:
    """Fields of the record of an image that failed."""
    passing = isinstance(error, PASSING)
    if isinstance(error, UNetError):
        reason = str(error)
    elif isinstance(error, MemoryError):
        reason = "There was not enough memory. Try a smaller tile."
    else:
        _LOG.exception("unexpected error in a batch")
        reason = f"It met an unexpected error ({type(error).__name__}: {error})."
    return {"outcome": "failed", "reason": " ".join(reason.split()), "passing": passing}
