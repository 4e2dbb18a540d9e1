"""Which TIFF pages hold intensities, and what tifffile only mutters about."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from typing import TYPE_CHECKING

import numpy as np
from tifffile import TIFF

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tifffile import TiffPage

_LOG = logging.getLogger("tifffile")
_LOG.addHandler(logging.NullHandler())  # else Python prints its warnings

PAGES = "pages"
"""Name of a series that is all pages of a file, in order, without its metadata."""
AGAIN = (
    "Copy or export the file again; or read its pages as they lie, whatever its "
    f"metadata tell, as the series {PAGES!r}."
)

_LOST = re.compile(
    r"missing|index out of range|expected \d+ frames|discontiguous|invalid TiffData"
    r"|incompletely written|invalid offset|invalid page offset|does not match"
    r"|failed to reshape|corrupted|do not match|Returning subset|ended|truncated",
    re.IGNORECASE,
)
"""Warnings of tifffile after which it gives fewer, other or zeroed pixels."""
_DAMAGED_TAG = re.compile(r"TiffTag\.fromfile|GeoKey|GDAL_NODATA|STK Datetime")

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEG = (6, 7, 34892, 33007)
_FOREIGN = {4: "a mask", 5: "CMYK", 8: "CIE Lab", 32803: "a camera's colour mosaic"}
_VALUES_IN_PALETTE = {"ome", "imagej", "stk", "lsm", "fluoview", "micromanager"}
"""Kinds whose colour map is only a look-up table for the display."""


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread."""
    messages: list[str] = []
    thread = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                messages.append(re.sub(r"^<.*?>\s+", "", record.getMessage()))

    ear = Ear(logging.WARNING)
    _LOG.addHandler(ear)
    try:
        yield messages
    finally:
        _LOG.removeHandler(ear)


def check_heard(messages: list[str], name: str) -> tuple[str, ...]:
    """Refuse on warnings that mean lost pixels; the rest become one note.

    Raises
    ------
    ImageError
        Quoting the warning.
    """
    serious = [m for m in messages if not _DAMAGED_TAG.search(m)]
    if lost := [m for m in serious if _LOST.search(m)]:
        raise ImageError(
            f"{name} contradicts itself or is incomplete",
            found=lost[0][:200],
            hint=AGAIN,
        )
    if not messages:
        return ()
    more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
    return (f"The file has damaged or unusual tags: {messages[0][:120]}{more}.",)


def check_colours(page: TiffPage, kind: str, name: str) -> tuple[str, ...]:
    """Refuse pages whose numbers are no intensities.

    Parameters
    ----------
    page : tifffile.TiffPage
        First page of a series.
    kind : str
        Kind of the series, as tifffile calls it.
    name : str
        For the message.

    Returns
    -------
    tuple of str
        Notes on how the numbers are taken.

    Raises
    ------
    ImageError
        For indexed colour, CMYK, Lab, masks, turned images and the like.
    """
    code = int(page.photometric)
    if code == _PALETTE and kind not in _VALUES_IN_PALETTE and not _grey_ramp(page):
        raise _refused(name, "indexed colours", "as greyscale or RGB")
    if code == _YCBCR and int(page.compression) not in _JPEG:
        raise _refused(name, "YCbCr colours without JPEG", "as RGB")
    if code not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _YCBCR):
        found = _FOREIGN.get(code, f"colour system {page.photometric}")
        raise _refused(name, found, "as greyscale or RGB")
    orientation = page.tags.get("Orientation")
    if orientation is not None and int(orientation.value) not in (0, 1):
        raise _refused(
            name,
            f"a turned or mirrored image (orientation {orientation.value})",
            "upright",
        )
    if code == _MIN_IS_WHITE:
        return ("0 is shown as white in this file; values are taken as stored.",)
    return ()


def check_codec(page: TiffPage, name: str) -> None:
    """Refuse a compression that is not decoded here.

    Raises
    ------
    ImageError
        With its name, and the package that may be lacking.
    """
    try:
        TIFF.DECOMPRESSORS[page.compression]
        TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        raise ImageError(
            f"{name} is compressed in a way that is not read here",
            found=str(error.args[0]).replace("<", "").replace(">", ""),
            hint="Install imagecodecs where it lacks, or save the image without "
            "compression, such as with Fiji.",
        ) from error


def colour_samples(page: TiffPage) -> int:
    """Count the samples of a pixel without the transparency at their end."""
    extra = [int(e) for e in page.extrasamples]
    count = int(page.samplesperpixel)
    while count > 1 and extra and extra.pop() in (1, 2):  # associated, unassociated
        count -= 1
    return count


def _grey_ramp(page: TiffPage) -> bool:
    """Whether the colour map is grey and rises evenly, so that indexes are values."""
    if page.colormap is None:
        return False
    colours = np.asarray(page.colormap, dtype=np.float64)
    grey = bool((colours == colours[0]).all())
    steps = np.diff(colours[0])
    return grey and steps.size > 0 and steps.min() > 0 and float(np.ptp(steps)) <= 257.0


def _refused(name: str, found: str, wanted: str) -> ImageError:
    """Error for numbers that are no intensities."""
    return ImageError(
        f"{name} cannot be taken as intensities",
        found=found,
        hint=f"Save it {wanted} first, such as with Fiji.",
    )
