"""HDF5 as plain arrays: a small tree of numbers and words that lie in the file itself.

Everything is checked before it is read: links that leave the file, data kept elsewhere,
virtual datasets, references, types of a program's own and filters other than gzip are
refused, and numbers, depth and sizes are bounded. To be used in the reading process,
whose memory limit also bounds what a string of variable length can grow to.
"""

from __future__ import annotations

import io
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z

from napari_unet.checkpoints.source import damaged
from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_OBJECTS = 100_000
_DEEPEST = 32
_MOST_AXES = 8
_MOST_BYTES = 1 << 34
_MOST_RATIO = 20
_SLACK = 1 << 20
_MOST_CHUNK = 1 << 28
_MOST_ATTRIBUTES = 4096
_MOST_ATTRIBUTE = 1 << 26
_MOST_STRINGS = 4096
"""Strings of variable length in one array; many may be one long string in the file."""

_NUMBERS = (h5t.INTEGER, h5t.FLOAT)
_LAYOUTS = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
_FILTERS = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32)
_FAILURES = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)
"""What h5py raises on damaged files."""


@dataclass(frozen=True)
class Dataset:
    """What a dataset declares.

    Attributes
    ----------
    shape : tuple of int
        Empty for a single value.
    dtype : numpy.dtype
        An object type for strings of variable length.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Tree:
    """The groups and datasets of an open HDF5 file, by path without a leading slash.

    Attributes
    ----------
    path : pathlib.Path
        The file, for messages.
    groups : list of str
        In the order of the file; the root is ``""`` and comes first.
    datasets : dict of str to Dataset
        All of which passed the checks.
    """

    def __init__(self, path: Path, file: Any, size: int) -> None:
        self.path = path
        self.groups: list[str] = []
        self.datasets: dict[str, Dataset] = {}
        self._file = file
        self._left = min(_MOST_BYTES, _MOST_RATIO * size + _SLACK)
        self._seen: set[Any] = set()
        self._walk(h5g.open(file.id, b"/"), "", 0)

    def attributes(self, path: str = "") -> dict[str, Any]:
        """Return the attributes of a group or dataset.

        Values are str, int, float or lists of them.

        Raises
        ------
        ModelError
            If one is of another type, or too large.
        """
        with _mended(self.path):
            owner = self._object(path)
            count = h5a.get_num_attrs(owner.id)
            if count > _MOST_ATTRIBUTES:
                raise self._refused(path, f"{count} attributes")
            names = [h5a.open(owner.id, index=n).name for n in range(count)]
            return {name.decode(): self._attribute(owner, name) for name in names}

    def array(self, path: str) -> np.ndarray[Any, Any]:
        """Return the numbers of a dataset in the machine's byte order.

        Raises
        ------
        ModelError
            If there are none under that path.
        """
        dataset = self.datasets.get(path)
        if dataset is None or dataset.dtype.kind not in "iuf":
            raise self._refused(path, "no numbers")
        with _mended(self.path):
            values = np.asarray(self._object(path)[()])
            return np.array(values, dtype=dataset.dtype.newbyteorder("="), order="C")

    def text(self, path: str) -> Any:
        """Return the words of a dataset: a str, or a list of them.

        Raises
        ------
        ModelError
            If there are none under that path.
        """
        dataset = self.datasets.get(path)
        if dataset is None or dataset.dtype.kind not in "SO":
            raise self._refused(path, "no text")
        with _mended(self.path):
            return _plain(self._object(path)[()])

    def below(self, group: str) -> list[str]:
        """Return the paths of the datasets in a group and the groups inside it."""
        return [path for path in self.datasets if path.startswith(f"{group}/")]

    def _object(self, path: str) -> Any:
        if path not in self.datasets and path not in self.groups:
            raise self._refused(path, "nothing")
        return self._file[path or "/"]

    def _walk(self, group: Any, path: str, depth: int) -> None:
        """List a group and what is below it, following hard links once each."""
        self.groups.append(path)
        if depth > _DEEPEST:
            raise self._refused(path, f"more than {_DEEPEST} levels")
        if group.get_num_objs() + len(self._seen) > _MOST_OBJECTS:
            raise self._refused(path, f"more than {_MOST_OBJECTS} objects")
        for name in list(group):
            inside = f"{path}/{name.decode()}".removeprefix("/")
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                raise self._refused(inside, "a link that is not followed")
            self._add(h5o.open(group, name), inside, depth)

    def _add(self, found: Any, path: str, depth: int) -> None:
        if isinstance(found, h5t.TypeID):
            return  # a named type holds nothing; Java's writers name those they use
        if not isinstance(found, (h5g.GroupID, h5d.DatasetID)):
            raise self._refused(path, "a type of its own")
        place = h5g.get_objinfo(found).objno
        if place in self._seen:
            raise self._refused(path, "an object that lies in several places")
        self._seen.add(place)
        if isinstance(found, h5g.GroupID):
            self._walk(found, path, depth + 1)
        else:
            self._check(found, path)
            self.datasets[path] = Dataset(tuple(found.shape), found.dtype)

    def _check(self, data: Any, path: str) -> None:
        """Refuse a dataset whose reading leaves the file or takes too much."""
        made = data.get_create_plist()
        if made.get_external_count() or made.get_layout() not in _LAYOUTS:
            raise self._refused(path, "data kept outside the dataset")
        filters = [made.get_filter(n)[0] for n in range(made.get_nfilters())]
        if not set(filters) <= set(_FILTERS):
            raise self._refused(path, f"a compression of kind {max(filters)}")
        self._check_type(data.get_type(), data.get_space(), path)
        self._check_size(data, made, path)

    def _check_type(self, kind: Any, space: Any, path: str) -> None:
        """Let through numbers and strings only."""
        if space.get_simple_extent_type() not in (h5py.h5s.SCALAR, h5py.h5s.SIMPLE):
            raise self._refused(path, "an array without a shape")
        is_text = kind.get_class() == h5t.STRING
        if not is_text and kind.get_class() not in _NUMBERS:
            raise self._refused(path, "values that are neither numbers nor text")
        count = space.get_simple_extent_npoints()
        if is_text and kind.is_variable_str() and count > _MOST_STRINGS:
            raise self._refused(path, f"{count} strings")

    def _check_size(self, data: Any, made: Any, path: str) -> None:
        """Hold the declared size against what lies in the file."""
        size = math.prod(data.shape) * data.get_type().get_size()
        self._left -= size
        if len(data.shape) > _MOST_AXES or self._left < 0:
            raise self._refused(path, f"an array of shape {data.shape}")
        if size and not data.get_storage_size():
            raise self._refused(path, f"{size} bytes that are not in the file")
        is_chunked = made.get_layout() == h5d.CHUNKED
        chunk = math.prod(made.get_chunk()) if is_chunked else 0
        if chunk * data.get_type().get_size() > _MOST_CHUNK:
            raise self._refused(path, f"pieces of {chunk} values")

    def _attribute(self, owner: Any, name: bytes) -> Any:
        attribute = h5a.open(owner.id, name)
        word = name.decode()
        kind, space = attribute.get_type(), attribute.get_space()
        self._check_type(kind, space, word)
        size = kind.get_size() * space.get_simple_extent_npoints()
        if size > _MOST_ATTRIBUTE:
            raise self._refused(word, f"{size} bytes")
        return _plain(owner.attrs[word])

    def _refused(self, path: str, found: str) -> ModelError:
        return ModelError(
            f"The HDF5 file {self.path.name} cannot be opened",
            found=f"{found} at {path[:200] or 'its root'}",
            expected="numbers and text in the file itself",
        )


@contextmanager
def opened(path: Path, data: bytes | None = None) -> Iterator[Tree]:
    """Open an HDF5 file for reading, after a look at all that is in it.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    data : bytes, optional
        The HDF5 file itself where it is a member of the archive `path`.

    Raises
    ------
    ModelError
        If it is damaged, or holds what is not read.
    """
    size = path.stat().st_size if data is None else len(data)
    source = path if data is None else io.BytesIO(data)
    with _mended(path):
        file = h5py.File(source, "r", locking=False)
    with file:
        with _mended(path):
            tree = Tree(path, file, size)
        yield tree


@contextmanager
def _mended(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into our own error."""
    try:
        yield
    except _FAILURES as error:
        found = " ".join(str(error).split())[:200]
        raise damaged(path, f"no readable HDF5 ({found})") from error


def _plain(value: Any) -> Any:
    """Return Python's own kind of value: str, int, float or a list."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_plain(v) for v in value] if isinstance(value, list) else value
