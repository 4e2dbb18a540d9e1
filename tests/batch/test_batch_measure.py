"""Measurements, against those of scikit-image on the whole image."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile
from skimage.measure import label, regionprops

from napari_unet.batch.measure import measure
from napari_unet.config import PredictConfig
from napari_unet.images import blocks


def written(path, array, axes, sizes=(), unit="µm"):
    metadata = {"axes": axes}
    for axis, size in sizes:
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    tifffile.imwrite(path, array, metadata=metadata, ome=True, photometric="minisblack")
    return path


def rows_of(tmp_path, image, labels, **settings):
    config = PredictConfig.build(**settings)
    measure(image, labels, tmp_path / "table.csv", config)
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=[4 << 20, 50])
def pieces(request, monkeypatch):
    """Blocks as large as the image, and blocks that cut objects."""
    monkeypatch.setattr(
        "napari_unet.batch.measure.blocks",
        lambda stack: blocks.blocks(stack, request.param),
    )


@pytest.mark.usefixtures("pieces")
def test_a_volume_in_two_channels(tmp_path):
    noise = np.random.default_rng(0)
    mask = noise.random((6, 20, 22)) > 0.7
    labels = label(mask, connectivity=1).astype(np.uint16)
    pixels = noise.integers(0, 4000, (6, 2, 20, 22), np.uint16)
    sizes = [("Z", 2.0), ("Y", 0.5), ("X", 0.25)]
    rows = rows_of(
        tmp_path,
        written(tmp_path / "i.ome.tif", pixels, "ZCYX"),
        written(tmp_path / "l.ome.tif", labels, "ZYX", sizes),
    )
    wanted = regionprops(labels, np.moveaxis(pixels, 1, -1))
    assert [int(row["label"]) for row in rows] == [w.label for w in wanted]
    for row, want in zip(rows, wanted, strict=True):
        assert row["unit"] == "µm"
        assert float(row["pixels"]) == want.area
        assert float(row["volume"]) == pytest.approx(want.area * 0.25)
        for axis, place, size in zip("zyx", want.centroid, (2, 0.5, 0.25), strict=True):
            assert float(row[f"centroid_{axis}"]) == pytest.approx(place * size)
        for number, axis in enumerate("zyx"):
            assert int(row[f"first_{axis}"]) == want.bbox[number]
            assert int(row[f"last_{axis}"]) == want.bbox[number + 3] - 1
        for number in (0, 1):
            for kind in ("mean", "min", "max"):
                found = float(row[f"{kind}_intensity_{number}"])
                name = f"intensity_{kind}"
                assert found == pytest.approx(getattr(want, name)[number])


@pytest.mark.usefixtures("pieces")
def test_frames_are_measured_apart_and_without_units_in_pixels(tmp_path):
    noise = np.random.default_rng(0)
    labels = noise.integers(0, 3, (4, 9, 8), np.uint8)
    pixels = noise.random((4, 9, 8)).astype(np.float32)
    rows = rows_of(
        tmp_path,
        written(tmp_path / "i.ome.tif", pixels, "TYX"),
        written(tmp_path / "l.ome.tif", labels, "TYX"),
    )
    assert [(int(r["t"]), int(r["label"])) for r in rows] == [
        (t, n) for t in range(4) for n in (1, 2)
    ]
    for row in rows:
        t, number = int(row["t"]), int(row["label"])
        (want,) = regionprops((labels[t] == number).astype(np.uint8), pixels[t])
        assert row["unit"] == "pixel"
        assert float(row["area"]) == want.area
        assert float(row["equivalent_diameter"]) == pytest.approx(
            want.equivalent_diameter_area
        )
        assert float(row["centroid_x"]) == pytest.approx(want.centroid[1])
        assert float(row["mean_intensity"]) == pytest.approx(
            want.intensity_mean, rel=1e-6
        )


def test_an_empty_image_gives_only_the_head(tmp_path):
    empty = np.zeros((5, 6), np.uint8)
    rows = rows_of(
        tmp_path,
        written(tmp_path / "i.ome.tif", empty, "YX"),
        written(tmp_path / "l.ome.tif", empty, "YX"),
    )
    assert rows == []
    assert (tmp_path / "table.csv").read_text().startswith("label,pixels,area,")
