"""The issue's promises on real weights and images, through the command line."""

import csv
import json

import numpy as np
import pytest
import tifffile
import torch
from shared import shared

from napari_unet import checkpoints
from napari_unet.cli import main
from napari_unet.images.intensity import Normalization
from napari_unet.networks.network import Network
from napari_unet.networks.spec import ModelSpec
from napari_unet.networks.unet import UNet, UNetSpec

pytestmark = pytest.mark.real


def run(capsys, *argv):
    """Exit code and JSON of a command."""
    capsys.readouterr()
    code = main([*map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_fixed_shape_gives_its_stored_output(capsys, tmp_path):
    package = shared("weights", "bioimageio_fixed_shape")
    code, answer = run(
        capsys, "predict", package / "test_input.npy", "--axes", "TCYX",
        "--model", package / "weights.pt", "--output", tmp_path / "out.npy",
        "--kind", "logits",
    )  # fmt: skip
    assert code == 0
    stored = np.load(package / "test_output.npy")
    np.testing.assert_allclose(np.load(answer["output"]), stored, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tiling", ["auto", "exact"])
@pytest.mark.parametrize("given", ["", "weights.pt"])
def test_multi_tensor_gives_its_stored_outputs(capsys, tmp_path, given, tiling):
    package = shared("weights", "bioimageio_multi_tensor")
    parts = [np.load(package / f"test_input_{i}.npy")[0, 0] for i in (0, 1)]
    np.save(tmp_path / "in.npy", np.stack(parts))
    code, answer = run(
        capsys, "predict", tmp_path / "in.npy", "--axes", "CYX",
        "--model", package / given, "--output", tmp_path / "out.ome.tif",
        "--kind", "logits", "--tiling", tiling, "--tile", 144,
    )  # fmt: skip
    assert code == 0
    found = tifffile.imread(answer["output"])
    stored = [np.load(package / f"test_output_{i}.npy")[0, 0] for i in (0, 1)]
    np.testing.assert_allclose(found, np.stack(stored), atol=1e-5, rtol=0)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(3)
    shape = UNetSpec(widths=(4, 8, 8), norm="none")
    spec = ModelSpec(
        ndim=2,
        in_channels=1,
        out_channels=2,
        architecture=shape.model_dump(mode="json"),
        normalization=(Normalization(kind="zscore"),),
    )
    checkpoints.save(Network(UNet(shape), spec), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def expected(model, image):
    """Labels of a whole plane, with nothing of ours but the layers."""
    scaled = (image - image.mean(dtype=float)) / (image.std(dtype=float) + 1e-6)
    with torch.inference_mode():
        batch = torch.from_numpy(scaled.astype(np.float32))[None, None]
        return checkpoints.load(model).module(batch)[0].argmax(0).numpy()


def test_batch_of_odd_files_and_ten_good_ones(capsys, tmp_path, model):
    odd = shared("data", "odd_tiffs")
    images = sorted(shared("data", "dsb2018_fluo", "images").glob("*.tif"))
    even = [p for p in images[:40] if tifffile.imread(p).shape == (256, 256)]
    command = [
        "batch", odd, odd / "made", *even[:10],
        "--model", model, "--output", tmp_path / "out",
    ]  # fmt: skip
    code, answer = run(capsys, *command)
    assert code == 3
    items = {item["input"]: item for item in answer["items"]}
    for path in even[:10]:
        item = items.pop(str(path))
        assert item["status"] == "done"
        labels = tifffile.imread(item["output"])
        np.testing.assert_array_equal(labels, expected(model, tifffile.imread(path)))
    check_odd(odd, items)
    ledger = (tmp_path / "out" / "unet-ledger.jsonl").read_bytes()
    code, again = run(capsys, *command)
    assert code == 3
    assert again["done"] == 0
    assert again["failed"] == answer["failed"]
    assert again["skipped"] == answer["done"]
    assert (tmp_path / "out" / "unet-ledger.jsonl").read_bytes() == ledger
    left = {p.name for p in (tmp_path / "out").iterdir() if "part" in p.suffixes[0]}
    assert left == set()


def check_odd(folder, items):
    """Each file has a right result or one line with the reason."""
    with (folder / "index.csv").open(newline="") as file:
        index = {row["file"]: row for row in csv.DictReader(file)}
    for name, row in index.items():
        item = items.pop(str(folder / name))
        if item["status"] == "failed":
            assert item["reason"].endswith(".")
            assert "\n" not in item["reason"]
            assert "unexpected error" not in item["reason"]
            continue
        assert row["result"] == "ok"
        assert int(row["nonfinite"] or 0) == 0
        shape = tuple(map(int, row["imread_shape"].split("x")))
        labels = tifffile.imread(item["output"])
        assert labels.shape == shape
        assert labels.max() <= 1
    assert {item["status"] for item in items.values()} == {"failed"}
    assert {path.rsplit("/", 1)[1] for path in items} == {"README.txt", "index.csv"}
