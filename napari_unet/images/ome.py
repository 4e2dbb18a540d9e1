"""OME-XML in a TIFF file: what it says, and whether it may be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from napari_unet.errors import ImageError
from napari_unet.images.checks import check_regular
from napari_unet.images.metadata import Physical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from xml.etree.ElementTree import Element

LARGEST_XML = 100_000_000


def parse(xml: str, name: str) -> Element | None:
    """Read OME-XML; None if it is no XML.

    Raises
    ------
    ImageError
        If it is over 100 MB, or defines entities, which OME-XML never does.
    """
    head = xml[:4096].upper()
    if len(xml) > LARGEST_XML or "<!DOCTYPE" in head or "<!ENTITY" in xml:
        raise ImageError(
            f"{name} has OME metadata that is not read",
            found=f"{len(xml):,} characters, or a document type of its own",
            hint="Export the file again.",
        )
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None


def check_companions(root: Element, path: Path) -> list[Path]:
    """Files that an OME-TIFF is spread over, all of them present and beside it.

    Parameters
    ----------
    root : Element
        The parsed OME-XML.
    path : pathlib.Path
        The file it was found in.

    Returns
    -------
    list of pathlib.Path
        The other files.

    Raises
    ------
    ImageError
        If one lies in another folder, also by a link, or is missing, or is no
        ordinary file.
    """
    names = {name for name, uuid in _file_names(root) if uuid != root.get("UUID")}
    if root.get("UUID") is None:
        names = {name for name in names if name.lower() != path.name.lower()}
    folder = path.resolve().parent
    found = [(path.parent / name).resolve() for name in sorted(names)]
    for companion in found:
        if not companion.is_relative_to(folder):
            raise ImageError(
                f"{path.name} refers to a file outside its folder",
                found=companion.name,
                hint="Put all files of the image in one folder.",
            )
        if not companion.exists():
            raise ImageError(
                f"{path.name} is one of several files, and one is missing",
                found=f"no {companion.name} beside it",
                hint="Put all files of the image in one folder.",
            )
        check_regular(companion)
    return found


def physical(root: Element, index: int, name: str) -> Physical:
    """Pixel sizes and channel names of one image.

    Parameters
    ----------
    root : Element
        The parsed OME-XML.
    index : int
        Number of the series among those with pixels.
    name : str
        Name of the series, which must agree where it has one.
    """
    images = [e for e in _all(root, "Image") if _has_data(e)]
    found = Physical()
    if index >= len(images) or (images[index].get("Name") or "") != name:
        found.notes.append("The OME metadata does not fit the series and is ignored.")
        return found
    pixels = next(_all(images[index], "Pixels"))
    for axis in "XYZ":
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        found.set(axis, pixels.get(f"PhysicalSize{axis}"), unit)
    found.set("T", pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    names = [e.get("Name") or "" for e in _all(pixels, "Channel")]
    found.channel_names = tuple(names) if any(names) else ()
    return found


def planes(root: Element, index: int) -> str:
    """How many planes the metadata of one image declares, in words."""
    pixels = [p for e in _all(root, "Image") for p in _all(e, "Pixels")]
    if index >= len(pixels):
        return "another number of planes"
    sizes = {axis: pixels[index].get(f"Size{axis}", "1") for axis in "ZCT"}
    return " x ".join(f"{axis} {size}" for axis, size in sizes.items())


def _all(element: Element, tag: str) -> Iterator[Element]:
    """Children with a tag, whatever the version of the schema."""
    return (e for e in element if e.tag.rsplit("}", 1)[-1] == tag)


def _has_data(image: Element) -> bool:
    """Whether an image has pixels in TIFF pages."""
    return any(True for p in _all(image, "Pixels") for _ in _all(p, "TiffData"))


def _file_names(root: Element) -> Iterator[tuple[str, str | None]]:
    """File name and identifier of every file referred to."""
    for element in root.iter():
        if element.tag.rsplit("}", 1)[-1] == "UUID" and element.get("FileName"):
            yield element.get("FileName", "").replace("\\", "/"), element.text
