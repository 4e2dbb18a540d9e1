"""Write the sample images, their truth and the strokes into ``sample_data/``.

Usage: python sample_data/scripts/make_images.py

Everything random is seeded: the pixels are the same at every run. The tissue is thicker
than what the shipped checkpoint was trained on: dim nuclei in haze, and cells out of
focus that are background.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage as ndi
from simulate import Scene, simulate

FOLDER = Path(__file__).parents[1]
TISSUE = Scene(
    nuclei=38,
    radius=(6.5, 13.0),
    brightness=(16.0, 80.0),
    texture=0.35,
    background=25.0,
    slope=1.2,
    haze=0.5,
    ghosts=20,
    ghost_brightness=45.0,
    psf=1.6,
)
PIXEL = 0.5
"""Pixel size, µm."""
MINUTES = 5.0
"""Time between two frames."""
DEPTH = 2.0
"""Distance of two planes, µm."""
STROKED = 0, 5, 8
"""Frames with strokes; the others show what was learnt."""
SMALL = replace(TISSUE, shape=(192, 192), nuclei=22, ghosts=11)
BATCH = {
    "field_1": SMALL,
    "field_2_crowded": replace(SMALL, nuclei=40),
    "field_3_sparse": replace(SMALL, nuclei=14, ghosts=14),
    "field_4_odd_size": replace(SMALL, shape=(199, 173)),
    "stack_3_planes": replace(SMALL, shape=(160, 160), planes=3, depth=True),
}


def main() -> None:
    """Write all files."""
    scene = replace(TISSUE, planes=12)
    image, truth = simulate(scene, 11)
    strokes = draw_strokes(image, truth, np.random.default_rng(12))
    write(FOLDER / "timelapse.ome.tif", image, "TYX")
    write(FOLDER / "timelapse_truth.ome.tif", truth, "TYX")
    write(FOLDER / "timelapse_strokes.ome.tif", strokes, "TYX")
    for number, (name, scene) in enumerate(BATCH.items()):
        image, truth = simulate(scene, 100 + number)
        axes = "ZYX" if scene.depth else "YX"
        image, truth = (a if scene.depth else a[0] for a in (image, truth))
        write(FOLDER / "batch" / f"{name}.tif", image, axes)
        write(FOLDER / "batch_truth" / f"{name}.tif", truth, axes)


def write(path: Path, array: np.ndarray, axes: str) -> None:
    """Write an OME-TIFF with axes, pixel size and time step, compressed."""
    path.parent.mkdir(exist_ok=True)
    metadata = {
        "axes": axes,
        "PhysicalSizeX": PIXEL,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": PIXEL,
        "PhysicalSizeYUnit": "µm",
    }
    if "T" in axes:
        metadata |= {"TimeIncrement": MINUTES, "TimeIncrementUnit": "min"}
    if "Z" in axes:
        metadata |= {"PhysicalSizeZ": DEPTH, "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(
        path,
        array,
        ome=True,
        metadata=metadata,
        photometric="minisblack",
        compression="zlib",
        predictor=True,
    )


def draw_strokes(
    image: np.ndarray, truth: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Brush strokes as a person paints them: 0 not painted, 1 background, 2 nuclei.

    Painted is what a person would correct: in each frame other bright spots that are no
    nuclei, and among the nuclei the dim ones first. A round brush 5 to 7 pixels wide
    goes through a nucleus from end to end, and in a wavering line through the
    background. Nothing is painted wrongly: the person lifts the brush at the outline.
    """
    strokes = np.zeros(truth.shape, np.uint8)
    for turn, frame in enumerate(STROKED):
        ids, plane = truth[frame], strokes[frame]
        for number in _dim_first(image[frame], ids)[turn::3][:10]:
            plane[_brush(_through(ids == number, rng), ids == number, rng)] = 2
        spots = _bright_spots(image[frame], ids == 0)[turn :: len(STROKED)][:6]
        anywhere = rng.permutation(np.argwhere(_room(ids == 0) > 3))[:4]
        for place in [*spots, *anywhere]:
            plane[_brush(_wander(ids == 0, place, rng), ids == 0, rng)] = 1
    return strokes


def _dim_first(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Ids of the nuclei that can be painted on, the dimmest first."""
    found = np.arange(1, ids.max() + 1)
    areas = np.bincount(ids.ravel(), minlength=len(found) + 1)[1:]
    order = found[np.argsort(ndi.mean(image, ids, found))]
    return order[areas[order - 1] > 120]


def _bright_spots(image: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Places in the background brighter than around them, the brightest first."""
    clear = _room(outside) > 3
    near, far = (
        ndi.gaussian_filter(image * clear, sigma, output=float)
        / ndi.gaussian_filter(clear, sigma, output=float).clip(1e-6)
        for sigma in (4.0, 25.0)
    )
    stands_out = np.where(clear, near - far, -np.inf)
    peaks = (ndi.maximum_filter(stands_out, 21) == stands_out) & (stands_out > 0)
    places = np.argwhere(peaks)
    return places[np.argsort(-stands_out[peaks])]


def _brush(
    line: np.ndarray, allowed: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Pixels under a round brush along a line, where painting is right."""
    return allowed & (ndi.distance_transform_edt(~line) <= rng.uniform(2.3, 3.4))


def _through(nucleus: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a bent line through the middle of a nucleus, from end to end."""
    middle, way = np.array(ndi.center_of_mass(nucleus)), rng.uniform(0, np.pi)
    along = np.array([np.sin(way), np.cos(way)])
    steps = np.linspace(-1, 1, 60)[:, None] * 1.1 * np.sqrt(nucleus.sum() / np.pi)
    bend = rng.normal(0, 0.03) * (steps**2 - steps[0] ** 2 / 2)
    line, points = np.zeros(nucleus.shape, bool), middle + steps * along
    rows, columns = np.rint(points + bend * along[::-1] * [1, -1]).astype(int).T
    inside = (np.minimum(rows, columns) >= 0) & (rows < len(line))
    inside &= columns < line.shape[1]
    line[rows[inside], columns[inside]] = True
    return line & nucleus


def _wander(
    allowed: np.ndarray, place: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw a wavering line over allowed pixels, both ways from a place."""
    room = np.pad(_room(allowed), 1)
    line, begin = np.zeros(allowed.shape, bool), rng.uniform(0, np.pi)
    for way in (begin, begin + np.pi):
        here = np.array(place, float)
        for _ in range(rng.integers(10, 22)):
            row, column = np.rint(here).astype(int)
            if room[row + 1, column + 1] < 1.5:
                break
            line[row, column] = True
            way += rng.normal(0, 0.15)
            here += np.sin(way), np.cos(way)
    return line


def _room(allowed: np.ndarray) -> np.ndarray:
    """Distance of each allowed pixel to the next that is not, or to the edge."""
    room: np.ndarray = ndi.distance_transform_edt(np.pad(allowed, 1))[1:-1, 1:-1]
    return room


if __name__ == "__main__":
    main()
