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

    A round brush 5 to 7 pixels wide goes through a nucleus from end to end, and in a
    wavering line through the background, where half of the strokes begin on the bright
    spots that are no nuclei. Nothing is painted wrongly: the person lifts the brush
    at the outline.
    """
    strokes = np.zeros(truth.shape, np.uint8)
    for frame in STROKED:
        ids, plane = truth[frame], strokes[frame]
        areas = np.bincount(ids.ravel())
        whole = [n for n in np.unique(ids)[1:] if areas[n] > 120]
        for number in rng.choice(whole, 10, replace=False):
            plane[_brush(_through(ids == number, rng), ids == number, rng)] = 2
        bright = np.where(ids == 0, ndi.gaussian_filter(image[frame], 4.0), 0)
        for number in range(8):
            wanted = bright if number % 2 else np.ones(ids.shape)
            plane[_brush(_wander(ids == 0, wanted, rng), ids == 0, rng)] = 1
    return strokes


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
    allowed: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw a wavering line over allowed pixels that begins where it is wanted."""
    room = ndi.distance_transform_edt(np.pad(allowed, 1))[1:-1, 1:-1]
    place, way = _start(room, wanted, rng), rng.uniform(0, 2 * np.pi)
    line = np.zeros(allowed.shape, bool)
    for _ in range(45):
        line[tuple(np.rint(place).astype(int))] = True
        way += rng.normal(0, 0.15)
        place = place + np.array([np.sin(way), np.cos(way)])
        if _room(room, place) < 1.5:
            break
    return line


def _start(
    room: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Choose where the brush goes down, not right at an outline."""
    chance = np.where(room >= 3.0, wanted.astype(float) ** 4, 0).ravel()
    place = rng.choice(chance.size, p=chance / chance.sum())
    return np.array(np.unravel_index(place, room.shape), float)


def _room(room: np.ndarray, place: np.ndarray) -> float:
    """Distance to the nearest pixel that is not allowed; 0 beyond the image."""
    row, column = np.rint(place).astype(int)
    if not (0 <= row < room.shape[0] and 0 <= column < room.shape[1]):
        return 0.0
    return float(room[row, column])


if __name__ == "__main__":
    main()
