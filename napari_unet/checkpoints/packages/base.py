"""What a package is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from napari_unet.checkpoints.draft import Draft
    from napari_unet.checkpoints.source import Source


class Package(ABC):
    """A kind of folder or zip archive that describes a model beside its weights.

    Attributes
    ----------
    title : str
        Name for people.
    """

    title: ClassVar[str]

    @abstractmethod
    def claims(self, source: Source) -> bool:
        """Whether the names in `source` are those of such a package; reads nothing."""

    @abstractmethod
    def holds(self, source: Source, name: str) -> bool:
        """Whether the file `name` is weights that this package describes.

        Such a file, opened by itself, is opened with what the package says about it.
        """

    @abstractmethod
    def draft(self, source: Source, weights: str | None = None) -> Draft:
        """Read the description and the weights.

        Parameters
        ----------
        source : Source
            That this package claims.
        weights : str, optional
            Name of the one file to open; the package's own choice when not given.

        Raises
        ------
        ModelError
            If the package is damaged or needs what is not there.
        """

    def complete(self, draft: Draft) -> None:
        """Add what a weights file of this kind, opened alone, says about itself.

        Does nothing to files that are not of this kind.

        Parameters
        ----------
        draft : Draft
            With the tensors and `Found.extras`, what the training program saved.
        """
        del draft
