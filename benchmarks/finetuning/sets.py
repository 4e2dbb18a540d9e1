"""Real images with truth, in parts that may be painted and parts that are scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile

from napari_unet.images.stack import ImageStack

SHIPPED = Path(__file__).parents[2] / "sample_data" / "nuclei.safetensors"


@dataclass(frozen=True)
class Pair:
    """An image (*spatial) and its truth: class ids from 0, and objects if there are."""

    name: str
    image: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)
    objects: np.ndarray | None = field(default=None, repr=False)
    scale: dict[str, float] = field(default_factory=dict)

    @property
    def axes(self) -> str:
        return "ZYX"[-self.image.ndim :]

    @property
    def stack(self) -> ImageStack:
        return ImageStack(self.image, self.axes, scale=self.scale, name=self.name)


@dataclass(frozen=True)
class Task:
    """One set: what is painted on, what is scored, and with what brush."""

    name: str
    painted: list[Pair]
    tested: list[Pair]
    radius: int = 1
    length: int = 25
    strokes: int = 8
    """Strokes a round."""
    starts: dict[str, Path] = field(default_factory=dict)
    """Checkpoints to start from, by name."""
    upright: bool = False
    """Whether images keep their orientation, which all networks are told."""

    @property
    def classes(self) -> int:
        return 1 + max(int(pair.truth.max()) for pair in self.painted)


def load(name: str, data: Path) -> Task:
    """Read one of `NAMES`."""
    return NAMES[name](data)


def _pairs(
    folder: Path, names: list[str], instances: bool, scale: dict[str, float]
) -> list[Pair]:
    pairs = []
    for name in names:
        image = tifffile.imread(folder / "images" / name)
        labels = tifffile.imread(folder / "labels" / name).astype(np.int32)
        truth = (labels > 0).astype(np.int32) if instances else labels
        objects = labels if instances else None
        pairs.append(Pair(Path(name).stem, image, truth, objects, scale))
    return pairs


def pairs_of(
    folder: Path, instances: bool, scale: dict[str, float] | None = None
) -> list[Pair]:
    """Read all pairs of a folder, in the order of their names."""
    return _pairs(folder, _names(folder), instances, scale or {})


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "images").glob("*.tif"))


def nuclei(data: Path) -> Task:
    """Only images that the shipped checkpoint has not seen: the last 50 by name."""
    folder = data / "dsb2018_fluo"
    pairs = _pairs(folder, _names(folder)[-50:], True, {})
    small = [pair for pair in pairs if max(pair.image.shape) <= 360]
    return Task("nuclei", small[:8], small[8:28], starts={"shipped": SHIPPED})


def membranes(data: Path) -> Task:
    """Sections 0, 4, 8 and 12 are painted, 16 to 19 scored; others lie between."""
    folder = data / "isbi2012_em"
    names = _names(folder)
    painted = [names[n] for n in (0, 4, 8, 12)]
    return Task(
        "membranes",
        _pairs(folder, painted, False, {}),
        _pairs(folder, names[16:20], False, {}),
        length=40,
    )


def hippocampus(data: Path) -> Task:
    """Eight volumes are painted and the last twelve scored."""
    folder = data / "mri_hippocampus_3d"
    names = _names(folder)
    scale = dict.fromkeys("ZYX", 1.0)
    return Task(
        "hippocampus",
        _pairs(folder, names[:8], False, scale),
        _pairs(folder, names[-12:], False, scale),
        length=12,
        strokes=12,
        upright=True,
    )


def plants(data: Path) -> Task:
    """One volume is painted and the other scored."""
    folder = data / "plant_nuclei_3d"
    scale = {"Z": 0.284, "Y": 0.127, "X": 0.127}
    pairs = _pairs(folder, _names(folder), True, scale)
    return Task("plants", pairs[:1], pairs[1:], length=12)


NAMES = {
    "nuclei": nuclei,
    "membranes": membranes,
    "hippocampus": hippocampus,
    "plants": plants,
}
