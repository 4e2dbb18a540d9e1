"""Simulated fluorescence images of nuclei with their truth: numpy and scipy only.

A scene is a set of star-shaped nuclei that drift and turn, some of them in touching
pairs. What the camera sees adds a dome profile, texture, blur by the microscope, haze
of light from above and below, cells out of focus, an uneven background, photon noise
and read noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi


@dataclass(frozen=True)
class Scene:
    """What is simulated; lengths in pixels, brightness in photons per pixel.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    planes : int
        Frames in time, or planes in depth.
    depth : bool
        Whether the planes are slices through resting balls instead of frames in time.
    nuclei : int
        How many nuclei are placed; fewer where there is no room.
    radius, brightness : tuple of float
        Smallest and largest of the evenly spread values.
    touching : float
        Share of the nuclei placed right against another one.
    texture : float
        Relative strength of the chromatin texture.
    background, slope : float
        Mean of the uneven background, and its relative change across the image.
    haze : float
        Share of the light that comes back as a wide glow.
    ghosts : int
        Cells out of focus, which are background.
    ghost_brightness : float
        Peak brightness of a ghost.
    psf, read_noise : float
        Standard deviations of blur and of the camera's read noise.
    """

    shape: tuple[int, int] = (256, 256)
    planes: int = 1
    depth: bool = False
    nuclei: int = 45
    radius: tuple[float, float] = (6.0, 13.0)
    brightness: tuple[float, float] = (40.0, 160.0)
    touching: float = 0.4
    texture: float = 0.3
    background: float = 10.0
    slope: float = 0.5
    haze: float = 0.15
    ghosts: int = 0
    ghost_brightness: float = 40.0
    psf: float = 1.3
    read_noise: float = 2.0


@dataclass(frozen=True)
class Nucleus:
    """One star-shaped nucleus and its way through the planes."""

    centre: np.ndarray
    radius: float
    brightness: float
    waves: np.ndarray
    angle: float
    velocity: np.ndarray
    spin: float
    level: float

    def size(self, scene: Scene, plane: int) -> float:
        """Relative radius in a plane; 0 where a ball does not reach."""
        if not scene.depth:
            return 1.0
        away = plane - self.level
        return float(np.sqrt(max(0.0, 1.0 - (away / (0.75 * scene.planes)) ** 2)))

    def distance(self, scene: Scene, plane: int) -> np.ndarray:
        """Distance from the centre relative to the outline (below 1 is inside)."""
        step = 0 if scene.depth else plane
        rows, columns = np.indices(scene.shape, np.float32)
        dy, dx = (
            axis - place
            for axis, place in zip(
                (rows, columns), self.centre + step * self.velocity, strict=True
            )
        )
        theta = np.arctan2(dy, dx) - self.angle - step * self.spin
        outline = 1 + sum(
            a * np.cos((k + 2) * theta + p) for k, (a, p) in enumerate(self.waves)
        )
        size = max(self.size(scene, plane), 1e-3)
        return np.hypot(dy, dx) / (self.radius * size * outline)


def simulate(scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
        What to draw.
    seed : int
        Seed of everything random.

    Returns
    -------
    image : numpy.ndarray
        uint16, (planes, rows, columns).
    truth : numpy.ndarray
        uint16, same shape; 0 is background, each nucleus keeps its id in all planes.
    """
    rng = np.random.default_rng(seed)
    nuclei = _place(scene, rng)
    texture = _smooth_noise(scene.shape, 1.8, rng)
    background = _background(scene, rng)
    image = np.zeros((scene.planes, *scene.shape), np.uint16)
    truth = np.zeros_like(image)
    for plane in range(scene.planes):
        light, truth[plane] = _draw(scene, nuclei, texture, plane)
        image[plane] = _camera(scene, light, background, plane, rng)
    return image, truth


def _place(scene: Scene, rng: np.random.Generator) -> list[Nucleus]:
    """Nuclei that do not lie on each other; some are put right against another."""
    nuclei: list[Nucleus] = []
    for _ in range(60 * scene.nuclei):
        if len(nuclei) == scene.nuclei:
            break
        new = _nucleus(scene, nuclei, rng)
        if all(_gap(new, old) > 0.93 for old in nuclei):
            nuclei.append(new)
    return nuclei


def _nucleus(scene: Scene, others: list[Nucleus], rng: np.random.Generator) -> Nucleus:
    radius = rng.uniform(*scene.radius)
    centre, velocity = rng.uniform(0, scene.shape), rng.normal(0, 0.35, 2)
    if others and rng.random() < scene.touching:
        other = others[rng.integers(len(others))]
        way = rng.uniform(0, 2 * np.pi)
        step = 0.97 * (radius + other.radius) * np.array([np.sin(way), np.cos(way)])
        centre, velocity = other.centre + step, other.velocity
    waves = np.stack(
        [rng.normal(0, [0.12, 0.05, 0.03]), rng.uniform(0, 2 * np.pi, 3)], axis=1
    )
    return Nucleus(
        centre=centre,
        radius=radius,
        brightness=rng.uniform(*scene.brightness),
        waves=waves,
        angle=rng.uniform(0, 2 * np.pi),
        velocity=velocity,
        spin=rng.normal(0, 0.015),
        level=rng.uniform(-0.5, scene.planes - 0.5),
    )


def _gap(a: Nucleus, b: Nucleus) -> float:
    """Distance of two centres relative to the sum of the radii."""
    return float(np.hypot(*(a.centre - b.centre)) / (a.radius + b.radius))


def _draw(
    scene: Scene, nuclei: list[Nucleus], texture: np.ndarray, plane: int
) -> tuple[np.ndarray, np.ndarray]:
    """Light of the nuclei in one plane before blur, and their ids."""
    light = np.zeros(scene.shape, np.float32)
    ids = np.zeros(scene.shape, np.uint16)
    for number, nucleus in enumerate(nuclei, start=1):
        if nucleus.size(scene, plane) < 0.35:
            continue
        distance = nucleus.distance(scene, plane)
        inside = (distance < 1) & (ids == 0)
        dome = 0.65 + 0.35 * np.sqrt(np.clip(1 - distance[inside] ** 2, 0, 1))
        grain = 1 + scene.texture * np.roll(texture, 7 * number)[inside]
        light[inside] = nucleus.brightness * dome * np.clip(grain, 0.2, None)
        ids[inside] = number
    return light, ids


def _camera(
    scene: Scene,
    light: np.ndarray,
    background: np.ndarray,
    plane: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Count photons as the camera does: blur, haze, background, bleaching and noise."""
    sharp = ndi.gaussian_filter(light, scene.psf)
    haze = scene.haze * ndi.gaussian_filter(light, 14.0)
    bleached = 1.0 if scene.depth else 0.985**plane
    photons = rng.poisson(bleached * (sharp + haze) + background)
    counts = 100 + 2.0 * photons + rng.normal(0, scene.read_noise, photons.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)


def _background(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw a slope across the image, slow bumps, and cells out of focus."""
    rows, columns = np.meshgrid(
        *(np.linspace(-0.5, 0.5, n) for n in scene.shape), indexing="ij"
    )
    way = rng.uniform(0, 2 * np.pi)
    slope = scene.slope * (np.sin(way) * rows + np.cos(way) * columns)
    bumps = 0.15 * scene.slope * _smooth_noise(scene.shape, 40.0, rng)
    ghosts = sum((_ghost(scene, rng) for _ in range(scene.ghosts)), np.zeros(()))
    return np.clip(scene.background * (1 + slope + bumps), 0.5, None) + ghosts


def _ghost(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw a cell out of focus: a wide soft spot."""
    centre = rng.uniform(0, scene.shape)
    wide = rng.uniform(0.6, 1.1) * scene.radius[1] * rng.uniform(0.7, 1.3, 2)
    rows, columns = np.indices(scene.shape, np.float32)
    square = ((rows - centre[0]) / wide[0]) ** 2 + (
        (columns - centre[1]) / wide[1]
    ) ** 2
    return rng.uniform(0.5, 1.0) * scene.ghost_brightness * np.exp(-square / 2)


def _smooth_noise(
    shape: tuple[int, int], sigma: float, rng: np.random.Generator
) -> np.ndarray:
    """Gaussian noise of mean 0 and standard deviation 1, smooth over `sigma`."""
    noise = ndi.gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    return (noise - noise.mean()) / noise.std()
