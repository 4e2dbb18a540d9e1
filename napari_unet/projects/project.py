"""A project: a folder of strokes on images, with classes, rounds and settings."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet import disk, files
from napari_unet.errors import OutputError, ProjectError
from napari_unet.projects import folders, marks, places, schema, stroke_files
from napari_unet.projects.folders import FILE
from napari_unet.projects.newcomers import NewPicture, described, new_id
from napari_unet.projects.schema import Contents, Dtype, Picture

if TYPE_CHECKING:
    from napari_unet.batch.locks import Lock, Locks


class Project:
    """An open project; made by `create` and `open`, given back by `close`.

    Attributes
    ----------
    folder : pathlib.Path
        Where it lies.
    contents : Contents
        All but the strokes; changed by `change`.
    """

    def __init__(
        self, folder: Path, contents: Contents, lock: tuple[Locks, Lock] | None
    ) -> None:
        self.folder = folder
        self.contents = contents
        self._lock = lock
        self._strokes: dict[str, np.memmap[Any, Any]] = {}
        self._dirty: set[str] = set()
        self._saved = b""
        self._saving = threading.Lock()

    @classmethod
    def create(cls, folder: Path | str, name: str = "") -> Project:
        """Make a project in a new or empty folder.

        Raises
        ------
        OutputError
            If it cannot be written, or there is something in the folder.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise OutputError(
                f"There is something in {folder.name} already",
                hint="Choose another folder for the project.",
            )
        with files.telling_write_errors(folder):
            disk.make_folder(folder)
        contents = Contents(
            name=(name or folder.name)[:200], classes=schema.first_classes()
        )
        project = cls(folder, contents, folders.locked(folder))
        project.save()
        return project

    @classmethod
    def open(
        cls, folder: Path | str, *, writable: bool = True, wait: bool = False
    ) -> Project:
        """Open a project.

        Parameters
        ----------
        folder : path-like
            Its folder, or the ``project.json`` in it.
        writable : bool
            Whether it is painted on, which only one program at a time may do.
        wait : bool
            Whether to wait, for half a minute at most, if another computer that has it
            shows no life any more.

        Raises
        ------
        SilentError
            If another computer has it, which may have crashed; without `wait` only.
        ProjectError
            If it is none, is damaged, or is in use.
        """
        folder = Path(folder)
        folder = folder.parent if folder.name == FILE else folder
        text = folders.read(folder)
        contents = schema.read(text, f"{folder.name}/{FILE}")
        lock = folders.locked(folder, wait=wait) if writable else None
        project = cls(folder, contents, lock)
        project._saved = text
        return project

    @property
    def is_writable(self) -> bool:
        """Whether it was opened to be painted on."""
        return self._lock is not None

    @property
    def rounds_folder(self) -> Path:
        """Where checkpoints of its rounds are kept."""
        return self.folder / "rounds"

    def picture(self, number: str) -> Picture:
        """Find a picture by its id.

        Raises
        ------
        ProjectError
            If there is none.
        """
        for picture in self.contents.pictures:
            if picture.id == number:
                return picture
        raise ProjectError("The project has no such image", found=number)

    def add(self, new: NewPicture, dtype: Dtype = "uint8") -> Picture:
        """Add an image, with strokes in which nothing is painted.

        Raises
        ------
        OutputError
            If the strokes cannot be written.
        ImageError
            If the image cannot be read.
        """
        picture = described(new, self.folder, dtype)
        stroke_files.create(self.path_of(picture), picture.plane_shape, dtype)
        self.change(pictures=(*self.contents.pictures, picture))
        self.save()
        return picture

    def find(self, new: NewPicture) -> Picture | None:
        """Find the picture of an image by what it holds."""
        alike = [
            picture
            for picture in self.contents.pictures
            if (picture.axes, picture.shape) == (new.axes, new.shape)
        ]
        mark = marks.of_pixels(new.data) if alike else ""
        same = [picture for picture in alike if picture.pixels == mark]
        named = [picture for picture in same if picture.name == new.name]
        return next(iter(named or same), None)

    def remove(self, number: str) -> None:
        """Take an image out of the project, with its strokes."""
        picture = self.picture(number)
        rest = tuple(p for p in self.contents.pictures if p.id != number)
        self.change(pictures=rest)
        self.save()
        self._strokes.pop(number, None)
        disk.remove(self.path_of(picture))

    def path_of(self, picture: Picture) -> Path:
        """File of the strokes of a picture."""
        return self.folder / "strokes" / f"{picture.id}.npy"

    def strokes(self, number: str) -> np.memmap[Any, Any]:
        """Strokes of a picture, mapped into memory; writing to them paints.

        Raises
        ------
        ProjectError
            If they are absent, damaged, or belong to another image.
        """
        if number not in self._strokes:
            picture = self.picture(number)
            path = self.path_of(picture)
            if path.resolve().parent != self.folder.resolve() / "strokes":
                raise ProjectError("The strokes lie outside the project")
            self._strokes[number] = stroke_files.opened(
                path, picture.plane_shape, picture.dtype, writable=self.is_writable
            )
        return self._strokes[number]

    def convert(self, number: str, dtype: Dtype) -> str:
        """Give strokes another type of ids, such as for more than 255 objects.

        Returns
        -------
        str
            New id of the picture.

        Raises
        ------
        OutputError
            If the new file cannot be written.
        """
        picture, old = self.picture(number), self.strokes(number)
        if picture.dtype == dtype:
            return number
        new = picture.model_copy(update={"id": new_id(), "dtype": dtype})
        stroke_files.create(self.path_of(new), new.plane_shape, dtype)
        strokes = stroke_files.opened(self.path_of(new), new.plane_shape, dtype)
        stroke_files.copy(old, strokes)
        stroke_files.flush(self.path_of(new), strokes)
        self._replace(number, new)
        self.save()
        self._strokes.pop(number)
        self._strokes[new.id] = strokes
        disk.remove(self.path_of(picture))
        return new.id

    def change(self, **fields: Any) -> None:
        """Change fields of `contents`, which are checked; `save` writes them.

        Raises
        ------
        ProjectError
            If a value is out of range.
        """
        changed = {**dict(self.contents), **fields}
        try:
            self.contents = Contents(**changed)
        except ValueError as error:
            first = str(error).splitlines()
            raise ProjectError(
                "The project cannot be changed so", found=" ".join(first[1:3])[:150]
            ) from None

    def change_picture(self, number: str, **fields: Any) -> None:
        """Change fields of a picture.

        Raises
        ------
        ProjectError
            If a value is out of range, such as a box outside the image.
        """
        old = self.picture(number)
        try:
            new = Picture(**{**dict(old), **fields})
        except ValueError as error:
            first = str(error).splitlines()
            raise ProjectError(
                f"{old.name} cannot be changed so", found=" ".join(first[1:3])[:150]
            ) from None
        self._replace(number, new)

    def accept(self, number: str, path: Path) -> None:
        """Take a file that has changed as the image of a picture.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        self.change_picture(
            number,
            path=places.written(path, self.folder),
            file=marks.of_file(path),
        )

    def _replace(self, number: str, new: Picture) -> None:
        """Put a picture in the place of another."""
        rest = self.contents.pictures
        self.change(pictures=tuple(new if p.id == number else p for p in rest))

    def add_round(
        self,
        path: Path | str,
        digest: str,
        before: float | None,
        after: float | None,
    ) -> None:
        """Note a training round; its checkpoint stays where it is.

        Parameters
        ----------
        path : path-like
            The checkpoint.
        digest : str
            Its SHA-256.
        before, after : float or None
            Scores on the held-out strokes.

        Raises
        ------
        ProjectError
            If the digest is none.
        """
        entry = {
            "path": places.written(path, self.folder),
            "digest": digest,
            "before": before,
            "after": after,
        }
        rest = [dict(r) for r in self.contents.rounds if r.digest != digest]
        self.change(rounds=(*rest, entry))

    def rounds(self) -> list[Path]:
        """Checkpoints of the rounds that are still there and unchanged, in order."""
        found = []
        for entry in self.contents.rounds:
            path = places.read(entry.path, self.folder)
            if path.is_file() and files.digest(path) == entry.digest:
                found.append(path)
        return found

    def touch(self, number: str) -> None:
        """Note that strokes were painted, so that `flush` brings them to the disk."""
        self._dirty.add(number)

    def flush(self) -> None:
        """Bring to the disk what was painted and changed; from any thread.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        while self._dirty:
            number = self._dirty.pop()
            if (strokes := self._strokes.get(number)) is not None:
                stroke_files.flush(self.path_of(self.picture(number)), strokes)
        self.save()

    def save(self) -> None:
        """Write ``project.json`` if it has changed.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with self._saving:
            text = schema.write(self.contents)
            if self.is_writable and text != self._saved:
                files.write(self.folder / FILE, text)
                self._saved = text

    def is_short_of_disk(self) -> bool:
        """Whether painting should rest, since the disk is nearly full."""
        return any(
            stroke_files.is_short_of_disk(
                self.path_of(p), math.prod(p.plane_shape) * np.dtype(p.dtype).itemsize
            )
            for p in self.contents.pictures
        )

    def close(self) -> None:
        """Let others have it; the strokes stay mapped for who still holds them."""
        if self._lock is None:
            return
        self.flush()
        locks, lock = self._lock
        self._lock = None
        locks.release(lock)
        locks.close()
