"""What results are called: names that never collide and never leave the folder."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.batch.report import REPORTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_unet.config import BatchConfig

_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.zarr", ".ome.btf", ".imagej.tif")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST = 200  # bytes; file systems allow 255, temporary names need some
_BESIDE = ".probabilities"


class Names:
    """Gives each image a result name of its own.

    Two images never share a name, also where the file system ignores case or the way
    accents are stored, and no name leaves the folder.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the results; what lies there is not ours and keeps its name.
    known : mapping of str to str
        Result by image, from the ledger. They keep their names.
    suffix : str
        Ending of the results.
    """

    def __init__(self, folder: Path, known: dict[str, str], suffix: str) -> None:
        self._known = dict(known)
        self._suffix = suffix
        self._owners = {fold(name): image for image, name in known.items()}
        self._recorded = set(known)
        self._taken = set(self._owners)
        if folder.is_dir():
            self._taken |= {fold(name) for name in os.listdir(folder)}

    def name(self, image: str, label: str = "", part: str = "") -> str:
        """Name the result of an image, the same at every call.

        Parameters
        ----------
        image : str
            The image as in the ledger.
        label : str
            File name from which the result takes its own; the image's when not given.
        part : str
            Added to the stem, such as the series.
        """
        known = self._known.get(image, "")
        if known.endswith(self._suffix):
            return known
        whole = label or image.rsplit("/", 1)[-1]
        free = filter(self._is_free, self._candidates(whole, part))
        name = self._known[image] = next(free)
        self._owners[fold(name)] = image
        self._taken.add(fold(name))
        return name

    def learn(self, known: Mapping[str, str]) -> None:
        """Take over names that were recorded; ours to them give way.

        Parameters
        ----------
        known : mapping of str to str
            Result by image, of the records since the last time.
        """
        self._recorded |= set(known)
        for image, name in known.items():
            ours = self._owners.get(fold(name), image)
            if ours not in self._recorded:
                self._known.pop(ours, None)
            self._known[image] = name
            self._owners[fold(name)] = image
            self._taken.add(fold(name))

    def _is_free(self, name: str) -> bool:
        """Whether nothing has a name, nor those of what may be written beside it.

        No result is called as if it were the probabilities of another, so these need
        not be known of other images.
        """
        base = name.removesuffix(self._suffix)
        beside = f"{base}{_BESIDE}{self._suffix}"
        return (
            self._taken.isdisjoint({fold(name), fold(beside)})
            and not fold(base).endswith(_BESIDE)
            and fold(f"{base}.csv") not in REPORTS
        )

    def _candidates(self, whole: str, part: str) -> Iterator[str]:
        """Try the stem, the whole name, then numbers."""
        yield safe(stem(whole) + part) + self._suffix
        yield safe(whole + part) + self._suffix
        for number in range(2, 1_000_000):
            yield f"{safe(stem(whole) + part)} ({number}){self._suffix}"


def stem(name: str) -> str:
    """File name without its ending, ``.ome.tif`` and its like being one ending."""
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def safe(name: str) -> str:
    """Make a name that every file system takes.

    Control characters, bytes that are no text, and the characters Windows forbids
    become underscores; a long name is cut and ends in a hash of the whole.
    """
    text = re.sub(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff<>:"/\\|?*]', "_", name)
    text = text.strip(" ").rstrip(".").lstrip(".") or "_"
    if _RESERVED.fullmatch(text):
        text = f"_{text}"
    if len(text.encode()) <= _LONGEST:
        return text
    mark = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]
    cut = text.encode()[: _LONGEST - 9].decode(errors="ignore")
    return f"{cut}-{mark}"


def files_of(result: Path, config: BatchConfig) -> dict[str, Path]:
    """Name what is written for an image, by what it is called in its `Record`."""
    base = result.name.removesuffix(config.suffix)
    files = {"output": result}
    if config.measure:
        files["table"] = result.with_name(f"{base}.csv")
    if config.probabilities:
        beside = f"{base}{_BESIDE}{config.suffix}"
        files["probabilities"] = result.with_name(beside)
    return files


def aside(path: Path, suffix: str) -> Path:
    """Find a free name beside a file with this ending that says it was edited."""
    base = path.name.removesuffix(suffix)
    names = [f"{base} (edited){suffix}"]
    names += [f"{base} (edited {number}){suffix}" for number in range(2, 10_000)]
    return next(path.with_name(n) for n in names if not path.with_name(n).exists())


def unedited(name: str) -> str:
    """Take back what `aside` did to a name."""
    return re.sub(r" \(edited(?: \d+)?\)(?=\.(ome\.|imagej\.|csv$))", "", name)


def way(folder: Path, output: Path) -> str:
    """Give what comes before the name of an image in the ledger.

    Relative to the output folder, so that both can be moved together.
    """
    absolute = folder.resolve()
    try:
        found = Path(os.path.relpath(absolute, output.resolve()))
    except ValueError:  # another drive
        found = absolute
    return "" if found == Path() else f"{found.as_posix().rstrip('/')}/"


def fold(name: str) -> str:
    """Write a name as a file system sees it that ignores case and accent forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
