"""Store cells that cellpose makes of flows: ``python make_cellpose_masks.py``.

The flows are those of drawn cells, disturbed as those of a network are; cellpose's own
`dynamics.compute_masks` turns them into cells. Flows are stored in quarters of a unit.
"""

from __future__ import annotations

import numpy as np
from cellpose import dynamics, utils
from record import STORED
from scipy import ndimage

SHAPE = (128, 160)


def drawn(seed, number, radius, stretch=1.6):
    """Draw ellipses; later ones lie over earlier ones, so they touch."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    cells = np.zeros(SHAPE, np.int32)
    for n in range(1, number + 1):
        cy, cx = draw.uniform((0, 0), SHAPE)
        angle, long = draw.uniform(0, np.pi), draw.uniform(1, stretch)
        u = (y - cy) * np.cos(angle) + (x - cx) * np.sin(angle)
        v = (x - cx) * np.cos(angle) - (y - cy) * np.sin(angle)
        cells[
            (u / long) ** 2 + (v * long) ** 2 < draw.uniform(0.6, 1.2) * radius**2
        ] = n
    return utils.fill_holes_and_remove_small_masks(cells, 20)


def disturbed(cells, seed, noise, blur):
    """Return the flows and the logit of cells with smooth noise on both."""
    draw = np.random.default_rng(seed)
    clean = np.concatenate(
        [5 * dynamics.masks_to_flows(cells), np.where(cells > 0, 4.0, -4.0)[None]]
    )
    rough = draw.normal(size=clean.shape)
    smooth = np.stack([ndimage.gaussian_filter(r, 2) * 7 for r in rough])
    values = np.stack([ndimage.gaussian_filter(c, blur) for c in clean])
    return np.clip(np.round(4 * (values + noise * smooth)), -127, 127).astype(np.int8)


CASES = {
    "touching": (drawn(1, 40, 12), 0.3, 0.5),
    "long": (drawn(2, 30, 11, 3.0), 0.5, 0.7),
    "noisy": (drawn(3, 45, 10), 1.5, 1.0),
    "small": (drawn(4, 120, 6), 0.5, 0.7),
    "one": (drawn(5, 1, 30), 1.0, 0.5),
}

if __name__ == "__main__":
    stored = {}
    for seed, (name, (cells, noise, blur)) in enumerate(CASES.items()):
        flows = disturbed(cells, seed, noise, blur)
        values = flows.astype(np.float32) / 4
        masks = dynamics.compute_masks(values[:2], values[2], min_size=15)
        print(name, cells.max(), masks.max())
        stored |= {f"{name}_flows": flows, f"{name}_cells": masks.astype(np.uint8)}
    np.savez_compressed(STORED / "cellpose_masks.npz", **stored)
